"""The keys of `bertsum monitor`."""

from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from bertsum.config_base import Config
from bertsum.schema import NEGATIVE


class TrendsConfig(Config):
    """What is counted, and when a departure is an alarm."""

    time: str | None = Field(
        None,
        description="key of the partitions (`dt`), or column of dates, times or texts like "
        "2026-11-22; default: the day in the names of the partitions",
    )
    time_zone: str = Field(
        "UTC", description="IANA name of the zone whose days count times that have a zone"
    )
    by: tuple[str, ...] = Field(
        ("topic", "targets"),
        description="columns by whose values rows are grouped; a list, like targets, aspects, "
        "keywords or a list of texts, has a group for each entry. Without a choice: those of the "
        "default that OUTPUT has",
    )
    label: str = Field(NEGATIVE, description="sentiment whose share is watched")
    false_alarms: float = Field(
        1.0, gt=0, le=1000, description="false alarms accepted in a month, of all groups together"
    )
    least_rows: int = Field(
        20, ge=5, description="rows of a group on a day from which on it is judged"
    )
    window_days: int = Field(
        91, ge=28, le=1000, description="most days of the history by which a day is judged"
    )
    least_days: int = Field(
        28, ge=21, le=1000, description="fewest days of a history; before that there are no alarms"
    )

    @field_validator("time_zone", mode="after")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"there is no time zone {name!r} here; give an IANA name like Europe/Berlin"
            ) from error
        return name

    @field_validator("by", mode="after")
    @classmethod
    def _columns_differ(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if "" in names or len(set(names)) < len(names):
            raise ValueError("each column is named once")
        return names

    @model_validator(mode="after")
    def _history_fits(self) -> Self:
        if self.least_days > self.window_days:
            raise ValueError(
                f"least_days={self.least_days} is more than window_days={self.window_days}"
            )
        return self


class WebhookConfig(Config):
    """Where new alarms are sent."""

    url: str | None = Field(
        None,
        description="address, a secret; default: the environment variable BERTSUM_WEBHOOK_URL",
        repr=False,
    )
    timeout_seconds: float = Field(10, gt=0, le=300, description="how long one try may take")
    max_attempts: int = Field(4, ge=1, le=20, description="tries, with growing pauses")


class MonitorConfig(Config):
    """All keys of the command."""

    trends: TrendsConfig = TrendsConfig()
    webhook: WebhookConfig = WebhookConfig()
    storage_options: dict[str, dict[str, Any]] = Field(
        {},
        description="options of fsspec's filesystems by protocol, like {s3: {endpoint_url: ...}}",
        repr=False,
    )
