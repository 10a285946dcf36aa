"""Configuration of one labelled set of a training run."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from bertsum.labels.config import LabelsConfig


class SourceConfig(LabelsConfig):
    """One labelled set. Each row trains the heads that it has a label for."""

    name: str = Field(description="name of the source in measures and in the model card")
    train_uri: str | None = Field(
        None, description="rows to train on: Parquet, or shards of bertsum prepare"
    )
    validation_uri: str | None = Field(
        None, description="rows to measure on, in the same formats; never trained on"
    )
    removed_pattern: str | None = Field(
        None,
        description="regular expression; what it matches is taken out of each document, like a "
        "publisher's mark that the model should not lean on",
    )
    excerpt_sentences: int | None = Field(
        None,
        ge=1,
        description="take a random excerpt of 1 to this many consecutive sentences of each "
        "document; default: the whole",
    )
    max_documents: int | None = Field(
        None,
        ge=1,
        description="most rows to train on, drawn at random with the run's seed; default: all",
    )
    weight: float = Field(1.0, gt=0, description="passes over the source in each epoch")
    max_windows: int = Field(
        8, ge=1, description="windows of one document that are read in training, at most"
    )
    query_column: str | None = Field(
        None,
        description="a text that the row's document answers, such as a question: its vector shall "
        "be nearer to the document's than to those of other documents",
    )
    negatives_column: str | None = Field(
        None,
        description="with query_column: documents that look right and are not, as a list of "
        "strings or as the `matches` of `bertsum match` with the text among candidate_columns",
    )
    max_negatives: int = Field(
        5, ge=1, description="documents of negatives_column that are read of a row: the first ones"
    )
    pair_weight_column: str | None = Field(
        None,
        description="with query_column: weight of the pair in its loss, such as a number of "
        "clicks; default: 1",
    )
    hold_vectors: bool = Field(
        False,
        description="hold the vectors of the source's documents and queries near those from before "
        "the run; a source may be there for this alone",
    )

    @property
    def learns_pairs(self) -> bool:
        """Whether the encoder learns from its queries."""
        return self.query_column is not None and self.train_uri is not None

    @model_validator(mode="after")
    def _pairs_have_queries(self) -> Self:
        if self.query_column is None and (self.negatives_column or self.pair_weight_column):
            raise ValueError(
                "negatives_column and pair_weight_column belong to the pairs of query_column: give "
                "it, too"
            )
        return self

    def _other_labels(self) -> list[str | None]:
        held = self.text_column if self.hold_vectors else None
        return [*super()._other_labels(), self.query_column, held]

    @field_validator("removed_pattern")
    @classmethod
    def _can_be_compiled(cls, value: str | None) -> str | None:
        try:
            # here, before any file is read
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        return value
