"""What becomes of results beside being written: tables, and what is looked at before readers."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from bertsum.config import NamesConfig
from bertsum.config_base import Config


class OutputConfig(Config):
    """What becomes of results beside being written."""

    table: Literal["parquet", "iceberg", "delta"] = Field(
        "parquet",
        description="parquet: files and manifests only; otherwise also a table of this format",
    )
    table_name: str = Field(
        "bertsum.summaries", description="NAMESPACE.TABLE in the Iceberg catalog"
    )
    catalog: str | None = Field(
        None,
        description="Iceberg catalog, by its name in the pyiceberg configuration; default: an "
        "SQLite file in OUTPUT/_iceberg",
    )
    keep_days: float = Field(
        7,
        ge=0,
        description="days to keep files that left the table, for readers of earlier snapshots",
    )
    file_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="size of a table's files; files below a quarter are merged; 0: never merge",
    )

    vanished_input: Literal["keep_partitions", "keep_files", "drop"] = Field(
        "keep_partitions",
        description="results whose input is gone. keep_partitions: keep them where the input's "
        "whole partition is gone, like old days that were deleted; keep_files: keep each; drop: "
        "treat them like results of changed input",
    )


STATISTICS = (
    *("rows", "error", "empty", "not_text", "unknown_language", "truncated", "markup"),
    *("tokens", "sentences", "characters", "letters", "position", "scores", "confidence"),
)
"""What `output.checks` looks at, beside `sentiment.LABEL` and `language.CODE`."""


class ChecksConfig(Config):
    """What is looked at in a partition of results before readers see it."""

    action: Literal["none", "warn", "hold"] = Field(
        "none",
        description="where a partition of results is unlike those before it or breaks a limit. "
        "warn: say so and publish it; hold: leave it unpublished until `bertsum publish`; none: "
        "look at nothing",
    )
    history_days: int = Field(
        42, ge=7, description="days before a partition's own with which it is compared"
    )
    min_history: int = Field(
        14,
        ge=5,
        description="published days of the same model that a comparison needs; with fewer, only "
        "`limits` and `same_model` hold",
    )
    false_holds: float = Field(
        0.001, gt=0, lt=1, description="chance that the comparison holds an ordinary partition"
    )
    limits: dict[str, tuple[float | None, float | None]] = Field(
        {},
        description="least and most of a statistic, null for none, over the ones that hold "
        "without: `{rows: [100, null], sentiment.negative: [0.02, 0.6]}`",
    )
    same_model: bool = Field(
        True,
        description="find fault with a model that is not the last published day's; not where "
        "on_existing is replace",
    )

    @field_validator("limits", mode="after")
    @classmethod
    def _limits_can_be_kept(
        cls, limits: dict[str, tuple[float | None, float | None]]
    ) -> dict[str, tuple[float | None, float | None]]:
        for name, (least, most) in limits.items():
            family, separator, label = name.partition(".")
            is_label = family in ("sentiment", "language") and separator and label
            if name not in STATISTICS and not is_label:
                raise ValueError(
                    f"there is no statistic {name!r}; there are {', '.join(STATISTICS)}, "
                    "sentiment.LABEL and language.CODE"
                )
            if least is not None and most is not None and least > most:
                raise ValueError(f"nothing lies in the limits of {name}, {least} to {most}")
        return limits


def _action_alone(value: Any) -> Any:
    """Take `checks: hold` for `checks: {action: hold}`."""
    return {"action": value} if isinstance(value, str) else value


class NamedOutputConfig(OutputConfig, NamesConfig):
    """What becomes of summaries beside being written, and what their columns are called."""

    checks: Annotated[ChecksConfig, BeforeValidator(_action_alone)] = ChecksConfig()
