"""Configuration of a search over training configurations, and of each of its trials."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from bertsum.config_base import Config, load_config, validated
from bertsum.errors import ConfigError
from bertsum.training.config import TrainingConfig

Value = bool | int | float | str | None


class RangeConfig(Config):
    """Numbers from `low` to `high`."""

    low: float = Field(description="the smallest number")
    high: float = Field(description="the largest number")
    log: bool = Field(False, description="draw evenly among the logarithms")
    whole: bool = Field(False, description="whole numbers only, `high` included")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"low must be below high, and above 0 with log: {self.low} to {self.high}"
            )
        # the remainder of 2.5 by 1 is 0.5, which counts as true; that of 2.0 is 0
        if self.whole and (self.low % 1 or self.high % 1):
            raise ValueError(f"low and high must be whole numbers: {self.low} to {self.high}")
        return self


class TuningConfig(Config):
    """What `bertsum tune` tries: runs of `bertsum train`, each with other values."""

    training: str | TrainingConfig = Field(
        description="the training run, or the YAML file with it; "
        "its `best_metric` is what is sought"
    )
    space: dict[str, RangeConfig | tuple[Value, ...]] = Field(
        min_length=1,
        description="key of the training configuration -> a list of choices, or a range",
    )
    num_trials: int = Field(8, ge=1, description="configurations tried; may be raised later")
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="trials at the same time; default: as many as the cluster holds"
    )
    searcher: Literal["random", "optuna"] = Field(
        "random",
        description="how they are drawn; optuna learns from the trials before "
        "(TPE, Bergstra et al. 2011)",
    )
    early_stopping: Literal["asha", "none"] = Field(
        "asha",
        description="asha: at some shares of the run only the best trials go on (Li et al. 2020)",
    )
    grace_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of its steps after which a trial may be stopped for the first time",
    )
    reduction_factor: int = Field(
        3,
        ge=2,
        description="of so many trials one goes on, and to so many times the share until the next "
        "comparison",
    )
    silence_seconds: float = Field(
        1800, gt=0, description="give up when no trial has said anything for so long"
    )
    seed: int = Field(0, ge=0, description="of the draws")

    @model_validator(mode="after")
    def _choices_differ(self) -> Self:
        for key, values in self.space.items():
            if isinstance(values, tuple) and (
                # repr, since 1, 1.0 and True are equal and yet three choices
                not values or len({repr(value) for value in values}) < len(values)
            ):
                raise ValueError(
                    f"space.{key}: a list of different choices is expected, not {list(values)}"
                )
        return self

    @property
    def most_trials(self) -> int:
        """`num_trials`, or the number of all combinations where that is smaller."""
        choices = [
            len(values) if isinstance(values, tuple) else math.inf for values in self.space.values()
        ]
        # a range has no end of values: the product is infinite with one
        return int(min(self.num_trials, math.prod(choices)))

    def read_training(self) -> TrainingConfig:
        """Read the run that trials differ from.

        Raises ConfigError if no trial could be run, or compared with others.
        """
        given = self.training
        base = load_config(TrainingConfig, Path(given)) if isinstance(given, str) else given
        if not base.best_metric:
            raise ConfigError(
                "the training configuration has no best_metric: say which measure is sought"
            )
        # Trials already share out the cluster, each on its part.
        if base.resources.replicas != 1:
            raise ConfigError(
                "a trial runs in one process: resources.replicas must be 1, "
                f"not {base.resources.replicas}; best.yaml can be trained with more"
            )
        # Every choice, and both ends of every range, stand in one of these combinations at least.
        most_values = 1
        for values in self.space.values():
            most_values = max(most_values, len(values) if isinstance(values, tuple) else 2)
        for index in range(most_values):
            example: dict[str, Value] = {}
            for key, values in self.space.items():
                if isinstance(values, tuple):
                    example[key] = values[index % len(values)]
                else:
                    end = (values.low, values.high)[index % 2]
                    example[key] = int(end) if values.whole else end
            with_values(base, example)
        for key, values in self.space.items():
            if isinstance(values, RangeConfig) and not values.whole:
                _check_fractions(base, key, values)
        return base


def with_values(base: TrainingConfig, values: Mapping[str, Value]) -> TrainingConfig:
    """Replace values of the training configuration by dotted keys.

    A source goes by its name, as in `sources.news.weight`.
    Raises ConfigError for a key or value that the configuration refuses.
    """
    # A frozen configuration cannot be changed: it is written out, changed and validated anew.
    # What is not given stays so: with new heads only given keys of `model` count.
    changed = base.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        # `sources.news.weight` -> sections sources and news, and key weight
        *path, last = key.split(".")
        section: object = changed
        known: object = base.model_dump(mode="json")
        for name in path:
            known = _entry(known, name, key)
            if isinstance(section, dict):
                section.setdefault(name, {})
            section = _entry(section, name, key)
        if not isinstance(known, dict) or not isinstance(section, dict):
            raise ConfigError(f"space.{key}: {'.'.join(path)} is a value, not a section")
        section[last] = value
    return validated(TrainingConfig, changed, f"the training run with {dict(values)}")


def _entry(section: object, name: str, key: str) -> object:
    """Return what `name` stands for in a section, or in a list of sections with names."""
    known: dict[str, object] = {}
    if isinstance(section, dict):
        known = section
    elif isinstance(section, list):
        for entry in section:
            if isinstance(entry, dict) and "name" in entry:
                known[str(entry["name"])] = entry
    if name not in known:
        raise ConfigError(
            f"space.{key}: there is no {name!r}; there are {', '.join(known) or 'no keys below it'}"
        )
    return known[name]


def _check_fractions(base: TrainingConfig, key: str, values: RangeConfig) -> None:
    """Check a number between the ends, which may be whole numbers where it is not."""
    # pi divides no range into whole numbers.
    inner = values.low + (values.high - values.low) / math.pi
    try:
        with_values(base, {key: inner})
    except ConfigError as error:
        raise ConfigError(
            f"space.{key}: {inner:g} lies in the range; with `whole: true` it would not. {error}"
        ) from error
