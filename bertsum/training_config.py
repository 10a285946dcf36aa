"""Configuration of a training run: where labelled rows lie, what is trained on them, and how."""

from typing import Literal, Self

from pydantic import Field, model_validator

from bertsum.config import Config, ModelConfig
from bertsum.schema import TEXT_COLUMN


class LabelsConfig(Config):
    """Which columns of a labelled set hold what."""

    text_column: str = Field(TEXT_COLUMN, description="column with the text of the document")
    summary_column: str | None = Field(None, description="reference summary, one sentence a line")
    sentence_labels_column: str | None = Field(
        None, description="0/1 for each entry of `sentences_column`; used in place of labels made from a summary"
    )
    sentences_column: str | None = Field(None, description="the document's sentences, where it comes split")
    sentiment_column: str | None = Field(None, description="one of model.sentiment_labels")
    sentiment: str | None = Field(None, description="one label for all rows of the source")
    aspect_sentiments_column: str | None = Field(
        None, description="list with O or a label for each word; a document has the label that all its aspects share"
    )
    num_summary_sentences: int = Field(3, ge=1, description="most sentences of the oracle, and of a measured summary")

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        sentiments = [self.sentiment_column, self.sentiment, self.aspect_sentiments_column]
        if sum(value is not None for value in sentiments) > 1:
            raise ValueError("give one of sentiment, sentiment_column and aspect_sentiments_column")
        if (self.sentence_labels_column is None) != (self.sentences_column is None):
            raise ValueError("sentence_labels_column and sentences_column go together")
        if not (self.summary_column or self.sentence_labels_column or any(sentiments)):
            raise ValueError("no label column is named: summary_column, sentiment_column, ...")
        return self


class SourceConfig(LabelsConfig):
    """One labelled set. Each row trains the heads that it has a label for."""

    name: str
    train_uri: str | None = Field(None, description="Parquet with the rows to train on")
    validation_uri: str | None = Field(None, description="Parquet with rows to measure on; never trained on")
    excerpt_sentences: int | None = Field(
        None, ge=1, description="take 1 to this many consecutive sentences of each document in place of the whole"
    )
    max_documents: int | None = Field(None, ge=1, description="rows used, drawn at random with the run's seed")
    weight: float = Field(1.0, gt=0, description="passes over the source in one epoch")
    max_windows: int = Field(8, ge=1, description="windows read of one document in training")


class TrainingConfig(Config):
    """A run: sources -> checkpoint."""

    data_root: str = Field(".", description="directory or URI that the sources' relative URIs start from")
    encoder: str = Field(description="`package:NAME`, a directory, a URI or a hub name")
    model: ModelConfig = ModelConfig()
    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    start_from: str | None = Field(None, description="checkpoint to go on from, and whose `model` counts")
    trained: Literal["all", "heads", "summarization"] = Field(
        "all", description="what learns; without the encoder its sentence vectors are computed once, and steps are fast"
    )
    lora_rank: int | None = Field(None, ge=1, description="train the encoder as low-rank deltas")
    saved_rank: int | None = Field(
        None, ge=1, description="save the difference to the package's encoder at this rank; default: lora_rank"
    )
    lora_alpha: int = Field(32, gt=0, description="factor of the deltas, divided by their rank")
    encoder_dropout: float = Field(0.1, ge=0, lt=1, description="its random numbers cost a CPU 3/4 of its speed")
    encoder_learning_rate: float = Field(2e-5, ge=0)
    head_learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises")
    epochs: float = Field(2, gt=0)
    max_batch_tokens: int = Field(4096, ge=64, description="tokens of one optimizer step")
    summary_weight: float = Field(1.0, ge=0, description="factor of the summary loss, which is a mean over sentences")
    sentiment_weight: float = Field(1.0, ge=0, description="factor of the sentiment loss, a mean over documents")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the sentiment labels")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    average_share: float = Field(
        0.0, ge=0, lt=1, description="share of the steps, at the end of the run, over which weights are averaged"
    )
    dtype: Literal["float32", "bfloat16"] = Field("bfloat16", description="number format of products (autocast)")
    notes: str = Field("", description="Markdown for the model card: what the model is for, its limits")
    seed: int = 0
    validate_every_steps: int = Field(500, ge=1)
    max_validation_rows: int | None = Field(500, ge=1, description="of each source, during the run; the end uses all")
