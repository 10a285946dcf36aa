"""The keys of `bertsum evaluate`."""

from collections.abc import Iterable
from typing import ClassVar, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from bertsum.config import SelectionConfig, SummarizerConfig, Topics, check_language
from bertsum.evaluation.baselines import BM25, Baseline, with_query
from bertsum.job_config import BATCH_TOKENS, BatchTokens, RunConfig
from bertsum.labels.config import LabelsConfig
from bertsum.schema import OutputGroup


class EvaluationConfig(LabelsConfig):
    """Everything beside the models that changes a measured row."""

    keep_columns: tuple[str, ...] = Field(
        (), description="columns that pass through, such as an id"
    )
    system_columns: tuple[str, ...] = Field(
        (), description="columns with summaries by other systems, as summary_column"
    )
    baselines: tuple[Baseline, ...] = Field(
        ("random", "textrank", "lexrank", "oracle"),
        description="baselines to measure beside the lead",
    )
    language: str | None = Field(
        None,
        description="ISO 639-1 code of all documents; default: told from the script of each",
    )
    language_column: str | None = Field(
        None, description="column with the ISO 639-1 code of each document"
    )
    trigram_blocking: bool | None = Field(
        None,
        description="trigram blocking in the models' summaries, as in summarizer.selection",
    )
    max_windows: int = Field(
        256, ge=1, description="windows of one document that are read, at most"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format of the encoders"
    )
    seed: int = Field(0, description="seed of the random baseline")
    topics: Topics = Field(
        {},
        description="measure topics that are told apart without training, as summarizer.topics; "
        "default: those of the models' heads",
    )

    query_column: str | None = Field(
        None, description="a text that the row's document answers, such as its title or a question"
    )
    same_column: str | None = Field(
        None, description="1 where query and document mean the same, 0 where they do not"
    )
    summary_query_column: str | None = Field(
        None,
        description="a text that the row's reference summary answers, such as a topic: each model "
        "is also measured with it as the query, beside BM25",
    )

    added_fields: ClassVar[frozenset[str]] = LabelsConfig.added_fields | {
        "topics",
        "query_column",
        "same_column",
        "summary_query_column",
    }

    _language_is_a_code = field_validator("language", mode="after")(check_language)

    @model_validator(mode="after")
    def _has_what_to_compare_with(self) -> Self:
        if self.topics and not self.topic_column:
            raise ValueError("topics are measured against labels: name them with topic_column")
        if self.same_column and not self.query_column:
            raise ValueError("same_column says whether query and document are: give query_column")
        if self.summary_query_column and not self.summary_column:
            raise ValueError("summary_query_column is what a summary answers: give summary_column")
        return self

    def _other_labels(self) -> list[str | None]:
        return [*super()._other_labels(), self.query_column]

    @property
    def outputs(self) -> tuple[OutputGroup, ...]:
        """Groups of columns of which the measures are made."""
        asked = {
            OutputGroup.EMBEDDING: self.query_column is not None,
            OutputGroup.TOPIC: bool(self.topics),
            OutputGroup.TARGETS: self.entities_column is not None,
        }
        return tuple(group for group in asked if asked[group])

    @property
    def summarizer(self) -> SummarizerConfig:
        """How the models are run."""
        selection = SelectionConfig(
            size=self.num_summary_sentences, trigram_blocking=self.trigram_blocking
        )
        return SummarizerConfig(selection=selection, max_windows=self.max_windows, dtype=self.dtype)

    def systems(self, models: Iterable[str]) -> list[str]:
        """Names of all that summaries are measured of; the same baseline twice is one."""
        names = [*models, self.lead, *dict.fromkeys(self.baselines)]
        if self.summary_query_column:
            names += [*map(with_query, models), BM25]
        return [*names, *dict.fromkeys(self.system_columns)]

    @property
    def lead(self) -> str:
        """Name of the first sentences as a system."""
        return f"LEAD-{self.num_summary_sentences}"


class EvaluateConfig(RunConfig):
    """`bertsum evaluate`: which columns hold what, and how the job runs.

    Only `evaluation` changes rows.
    """

    evaluation: EvaluationConfig = Field(cast(EvaluationConfig, {}), validate_default=True)
    max_batch_tokens: BatchTokens = Field("auto", description=BATCH_TOKENS)
    worst_examples: int = Field(
        10,
        ge=0,
        description="rows of each model and head that the report shows, with their texts, since "
        "the model is furthest off there; 0 where no text may lie in OUTPUT",
    )
