"""What a checkpoint's `config.json` says of a model: its architecture, and its answers to queries."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from bertsum.config_base import Config


class ModelConfig(Config):
    """Architecture of a BERTSUM model; saved in the checkpoint's `config.json`."""

    pooling: Literal["cls", "mean"] = Field(
        "mean",
        description="sentence vector: its [CLS] token's vector, or the mean of its tokens' vectors",
    )
    segments: bool = Field(
        True, description="alternate token_type_ids 0/1 by sentence, where the encoder has two"
    )
    max_window_tokens: int = Field(
        512, ge=16, description="longest window, in tokens, special tokens included"
    )
    prefix_tokens: int = Field(
        0,
        ge=0,
        description="prefix tuning: learned keys and values in each layer of the encoder; 0: none",
    )
    summarization_layers: Literal["linear", "lstm", "transformer"] = Field(
        "transformer",
        description="layers between sentences, before the linear layer that scores each sentence",
    )
    num_summarization_layers: int = Field(
        2, ge=1, description="number of inter-sentence layers (unused by linear)"
    )
    num_heads: int = Field(
        8, ge=1, description="attention heads of the inter-sentence layers and the summary vector"
    )
    feed_forward_size: int = Field(
        2048, ge=1, description="inner size of the inter-sentence layers, in features"
    )
    position_scale: float = Field(
        1.0, ge=0, description="factor on the sinusoidal sentence positions"
    )
    surface_features: bool = Field(
        False,
        description="give the summarization layers each sentence's position, length and repetition",
    )
    rank_candidates: bool = Field(
        False,
        description="choose among whole summaries by a network that predicts their ROUGE, "
        "instead of sentence by sentence",
    )
    fewer_sentences: int = Field(
        0,
        ge=0,
        le=3,
        description="compare summaries with up to so many sentences below the budget too "
        "(rank_candidates)",
    )
    candidate_text_features: bool = Field(
        False,
        description="compare summaries also by their numbers, names and quotations, and by first "
        "words such as He or But (rank_candidates)",
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of features dropped in the heads during training"
    )
    sentiment_pooling: Literal["attention", "mean", "lstm"] = Field(
        "attention",
        description="document vector of the sentiment: attention over sentences, mean, or LSTM",
    )
    sentiment_labels: tuple[str, ...] = Field(
        ("negative", "neutral", "positive"),
        description="sentiments, in the order of the model's outputs; empty: no sentiment",
    )
    topic_labels: tuple[str, ...] = Field(
        (), description="topics, in the order of the model's outputs; empty: no topic"
    )
    token_sentiment_labels: tuple[str, ...] = Field(
        (),
        description="sentiments of single words (O, positive, ...); empty: none",
    )

    embedding_layers: tuple[int, ...] = Field(
        (),
        description="layers of the encoder (0: the embeddings of words) whose means over a "
        "document's tokens become its embedding, by a matrix that is fitted at the end of "
        "training; empty: the mean of the last layer is the embedding",
    )
    embedding_lead_tokens: int | None = Field(
        None,
        ge=1,
        description="a sentence that begins behind this many tokens of its document weighs half as "
        "much in the embedding, behind twice as many a third, and so on; null: all tokens weigh "
        "alike; a run with trained: embedding may give it anew",
    )

    @field_validator("embedding_layers")
    @classmethod
    def _layers_ascend(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)) or min(value, default=0) < 0:
            raise ValueError(f"numbers of layers ascend from 0 on, and are not {list(value)}")
        return value

    @field_validator("sentiment_labels", "topic_labels", "token_sentiment_labels", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        """Take [0, 1] for names; of [no, yes] YAML makes booleans, and the text is lost."""
        if not isinstance(value, list | tuple):
            return value
        for name in value:
            if name is None or isinstance(name, bool):
                raise ValueError(
                    f"a class is named {name}: YAML reads null, ~, yes, no, on, off, true and "
                    "false as no text; put the name in quotes, as the data has it"
                )
        return tuple(str(name) if isinstance(name, int | float) else name for name in value)

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        for name in ("sentiment_labels", "topic_labels", "token_sentiment_labels"):
            labels = getattr(self, name)
            # A head with one class has nothing to decide: its softmax is always 1.
            if len(set(labels)) != len(labels) or len(labels) == 1:
                raise ValueError(f"{name} must be at least two different names, or none: {labels}")
        return self


class QueryWeights(Config):
    """How importance and query make the score of a sentence; in the checkpoint's `config.json`.

    The logit of a sentence is that of its importance, and its answer: nearness and words. The
    defaults, for a checkpoint of which they were not fitted, were chosen on training rows of
    bbc_news, scitldr and cnn_dailymail.
    """

    nearness: float = Field(8.0, description="factor of the cosine of sentence and query")
    words: float = Field(0.25, description="factor of BM25 of the query's words in the sentence")
    usual_cosine: float = Field(
        0.2,
        description="a cosine halfway between those of sentences to queries of their own documents "
        "and of others: a sentence without the query's words then keeps its importance",
    )
    answers: float = Field(
        0.12,
        description="ROUGE-1 + ROUGE-2 for which an answer of 1 stands, as a mean over the sentences "
        "of a set, where whole summaries are compared; chosen, not fitted",
    )
