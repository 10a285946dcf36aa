"""The keys of `bertsum match`."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from bertsum.config import NamesConfig, SummarizerConfig
from bertsum.config_base import Config
from bertsum.job_config import BATCH_TOKENS, BatchTokens, RunConfig
from bertsum.output_config import OutputConfig
from bertsum.schema import TEXT_COLUMN, OutputGroup

PREFIX = "bertsum_"
"""What the names of predicted columns begin with, beside the columns of queries and candidates."""

EMBEDDING, STATUS, ERROR, TOKENS = (
    PREFIX + name for name in ("embedding", "status", "error", "num_tokens")
)


class MatchConfig(Config):
    """Everything beside the model and the candidates that changes what a row of matches holds."""

    text_column: str = Field(TEXT_COLUMN, description="column of QUERIES with the text")
    candidate_text_column: str = Field(
        TEXT_COLUMN, description="column of CANDIDATES with the text"
    )
    id_column: str = Field("id", description="column of CANDIDATES that names them in the matches")
    candidate_columns: tuple[str, ...] = Field(
        (), description="columns of CANDIDATES that each match has, too"
    )
    keep_columns: tuple[str, ...] | None = Field(
        None, description="columns of QUERIES that pass through; default: all but the text"
    )
    top_k: int = Field(5, ge=1, le=10_000, description="most candidates of one query")
    min_score: float | None = Field(
        None, description="matches have at least this score, a cosine in [-1, 1]; default: any"
    )
    equal_columns: tuple[str, ...] = Field(
        (),
        description="columns of both in which a query and its matches have the same values, like "
        "[language, in_stock]; an empty value is equal to none",
    )
    seen_column: str | None = Field(
        None,
        description="column of QUERIES with an id, or a list of ids, of candidates that are left "
        "out of the matches",
    )
    user_column: str | None = Field(
        None,
        description="column of QUERIES that says who wrote or read the text: the mean vector of a "
        "user's texts is one query, and OUTPUT has one row a user",
    )
    weight_column: str | None = Field(
        None, description="column of QUERIES with the weight of a text in the mean (user_column)"
    )
    time_column: str | None = Field(
        None, description="column of QUERIES with the date or time of a text (user_column)"
    )
    half_life_days: float | None = Field(
        None,
        gt=0,
        description="days after which a text counts half as much as a newer one (time_column)",
    )
    max_windows: int = Field(
        256, ge=1, description="windows read of one text; what lies beyond is not read"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="number format of the encoder; see summarizer.dtype"
    )

    @field_validator("candidate_columns", "keep_columns", "equal_columns", mode="after")
    @classmethod
    def _names_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if (names or ()).count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return names

    @model_validator(mode="after")
    def _columns_fit_together(self) -> Self:
        reserved = {"id", "score", "rank"}
        if clashes := reserved.intersection(self.candidate_columns):
            raise ValueError(
                f"a match has fields id, score and rank of its own, so candidate_columns cannot "
                f"name {sorted(clashes)}; id_column says which column the id is"
            )
        if self.user_column is None and (self.weight_column or self.time_column):
            raise ValueError(
                "weight_column and time_column weigh the texts of a user: give user_column, too"
            )
        if self.user_column is not None and self.keep_columns is not None:
            raise ValueError(
                "a row of the result is a user and has the columns of user_column and "
                "equal_columns, so keep_columns cannot be given with user_column"
            )
        if (self.time_column is None) != (self.half_life_days is None):
            raise ValueError("time_column and half_life_days go together: give both or none")
        return self

    def candidate_encoder(self) -> SummarizerConfig:
        """How the vectors of candidates are made, and which of their columns are kept."""
        kept = (self.id_column, *self.candidate_columns, *self.equal_columns)
        return self._encoder(self.candidate_text_column, tuple(dict.fromkeys(kept)))

    def query_encoder(self) -> SummarizerConfig:
        """How the vectors of queries are made, and which of their columns are kept."""
        if self.user_column is None and self.keep_columns is None:
            return self._encoder(self.text_column, None)
        kept = [*(self.keep_columns or ()), *self.equal_columns]
        optional = (self.user_column, self.weight_column, self.time_column, self.seen_column)
        kept += [name for name in optional if name is not None]
        return self._encoder(self.text_column, tuple(dict.fromkeys(kept)))

    def _encoder(self, text_column: str, kept: tuple[str, ...] | None) -> SummarizerConfig:
        return SummarizerConfig(
            text_column=text_column,
            keep_columns=kept,
            outputs=(OutputGroup.EMBEDDING,),
            embedding_type="float16",
            max_windows=self.max_windows,
            dtype=self.dtype,
            output=NamesConfig(prefix=PREFIX),
        )


class MatchRows(Config):
    """What decides a row of matches beside the model; it is hashed into the names of results.

    `candidates`: digest of the candidates and of how they were encoded.
    """

    match: MatchConfig
    candidates: str


class MatchOutputConfig(OutputConfig):
    """What becomes of matches beside being written."""

    table_name: str = Field("bertsum.matches", description="NAMESPACE.TABLE in the Iceberg catalog")


class MatchJobConfig(RunConfig):
    """`bertsum match`: what is matched, and how the job runs. Only `match` changes rows."""

    match: MatchConfig = MatchConfig()
    output: MatchOutputConfig = MatchOutputConfig()
    max_batch_tokens: BatchTokens = Field("auto", description=BATCH_TOKENS)
    pass_queries: int = Field(
        1024, ge=1, description="queries that are compared with all candidates in one pass"
    )
