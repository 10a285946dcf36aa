"""Configuration of a search over training configurations."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from bertsum.config import Config


class RangeConfig(Config):
    """Numbers from `low` to `high`."""

    low: float = Field(description="the smallest number")
    high: float = Field(description="the largest number")
    log: bool = Field(False, description="draw evenly among the logarithms")
    whole: bool = Field(False, description="whole numbers only, `high` included")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"low must be below high, and above 0 with log: {self.low} to {self.high}")
        return self


class TuningConfig(Config):
    """What `bertsum tune` tries. Each trial is a run of `bertsum train` with some values replaced."""

    training: str = Field(description="YAML file of the training run; its `best_metric` is what is sought")
    space: dict[str, RangeConfig | tuple[Any, ...]] = Field(
        min_length=1, description="key of the training configuration -> a list of choices, or a range"
    )
    num_trials: int = Field(8, ge=1, description="configurations drawn")
    max_concurrent_trials: int | None = Field(
        None, ge=1, description="trials at the same time; default: as many as the cluster holds"
    )
    searcher: Literal["random", "optuna"] = Field("random", description="how they are drawn; optuna learns from others")
    early_stopping: Literal["asha", "none"] = Field(
        "asha", description="asha: at each rung only the best trials go on (Li et al. 2020)"
    )
    grace_validations: int = Field(1, ge=1, description="validations before a trial may be stopped")
    reduction_factor: int = Field(3, ge=2, description="of so many trials at a rung one goes on")
    seed: int = Field(0, ge=0, description="of the draws")
