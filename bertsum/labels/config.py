"""Which columns of labelled rows hold what: shared by preparing, training and evaluating."""

from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from bertsum.config_base import Config
from bertsum.schema import TEXT_COLUMN


class LabelsConfig(Config):
    """Which columns of a labelled set hold what."""

    text_column: str = Field(TEXT_COLUMN, description="column with the text of the document")
    summary_column: str | None = Field(
        None, description="reference summary, one sentence a line, or a list of sentences"
    )
    sentence_labels_column: str | None = Field(
        None,
        description="0 or 1 for each entry of `sentences_column`; used instead of the summary",
    )
    sentences_column: str | None = Field(
        None, description="the document's sentences, where it comes split"
    )
    sentiment_column: str | None = Field(None, description="one of model.sentiment_labels")
    sentiment: str | None = Field(None, description="one label for all rows of the source")
    aspect_sentiments_column: str | None = Field(
        None,
        description="list with O or a sentiment for each word; the document gets the "
        "sentiment that all its aspects share",
    )
    topic_column: str | None = Field(
        None, description="one of model.topic_labels, or of the names in `topic_names`"
    )
    topic_names: dict[str, str] = Field(
        {}, description="label in the data -> label of the model, where they differ"
    )
    tokens_column: str | None = Field(
        None, description="the document's words, for `token_sentiments_column`"
    )
    token_sentiments_column: str | None = Field(
        None,
        description="list with a label of model.token_sentiment_labels for each word of "
        "`tokens_column`",
    )
    entities_column: str | None = Field(
        None, description="names that the document mentions, for `entity_sentiments_column`"
    )
    entity_sentiments_column: str | None = Field(
        None,
        description="list with a label of model.token_sentiment_labels for each name of "
        "`entities_column`; the words of its mentions have it, other words have no label",
    )
    num_summary_sentences: int = Field(
        3, ge=1, description="most sentences of a summary, to learn and to evaluate"
    )

    added_fields: ClassVar[frozenset[str]] = frozenset(
        {"entities_column", "entity_sentiments_column"}
    )

    @field_validator("topic_names", mode="before")
    @classmethod
    def _numbers_are_names(cls, value: Any) -> Any:
        """The keys that YAML reads as numbers, in the words of `labels.class_name`."""
        if not isinstance(value, dict):
            return value
        return {str(key) if type(key) in (int, float) else key: name for key, name in value.items()}

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        sentiments = [self.sentiment_column, self.sentiment, self.aspect_sentiments_column]
        if sum(value is not None for value in sentiments) > 1:
            raise ValueError("give one of sentiment, sentiment_column and aspect_sentiments_column")
        if (self.sentence_labels_column is None) != (self.sentences_column is None):
            raise ValueError("sentence_labels_column and sentences_column go together")
        if (self.tokens_column is None) != (self.token_sentiments_column is None):
            raise ValueError("tokens_column and token_sentiments_column go together")
        if (self.entities_column is None) != (self.entity_sentiments_column is None):
            raise ValueError("entities_column and entity_sentiments_column go together")
        if self.tokens_column and self.entities_column:
            raise ValueError("give one of tokens_column and entities_column")
        if not any([*self._other_labels(), *sentiments]):
            raise ValueError("no label column is named: summary_column, sentiment_column, ...")
        return self

    def _other_labels(self) -> list[str | None]:
        """Columns with labels beside sentiments of documents."""
        return [
            self.summary_column,
            self.sentence_labels_column,
            self.topic_column,
            self.tokens_column,
            self.entities_column,
        ]
