"""How a job runs: its share of the cluster, its units of work, and all keys of `summarize`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bertsum.config import NamesConfig, RowConfig, SummarizerConfig
from bertsum.config_base import Config
from bertsum.output_config import NamedOutputConfig, OutputConfig


class ResourcesConfig(Config):
    """What the job asks of the cluster."""

    replicas: int | None = Field(
        None, ge=1, description="model replicas; default: as many as the cluster holds"
    )
    num_cpus: float | None = Field(
        None,
        gt=0,
        description="CPU cores a replica; default: all cores of the smallest node, at most 4",
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs a replica, also a fraction; default: 0 where the cluster has no GPUs; 1 "
        "if `replicas` is given; else the part of one that a replica keeps busy",
    )
    min_replicas: int | None = Field(
        None,
        ge=1,
        description="replicas that must run before work begins; others join later; default: all",
    )
    accelerator_type: str | None = Field(
        None,
        description="Ray's name of the GPU type (A10G, H100, ...), where a cluster has several",
    )
    timeout_seconds: float = Field(
        20,
        gt=0,
        description="how long to wait for resources; raise it on a cluster that scales from zero",
    )

    @model_validator(mode="after")
    def _shares_can_be_given(self) -> Self:
        # Ray counts in ten-thousandths, and gives a replica either a part of one GPU or whole ones
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            if value and value < 0.001:
                raise ValueError(f"{name} must be at least 0.001, not {value}")
        if self.num_gpus is not None and self.num_gpus > 1 and self.num_gpus % 1:
            raise ValueError(
                f"num_gpus must be a whole number where it is above 1, not {self.num_gpus}"
            )
        return self

    @model_validator(mode="after")
    def _fewer_to_begin(self) -> Self:
        if self.min_replicas is not None and (
            self.replicas is None or self.min_replicas > self.replicas
        ):
            raise ValueError(
                f"min_replicas must be at most replicas ({self.replicas}), not {self.min_replicas}"
            )
        return self


class DaysConfig(Config):
    """How INPUT is partitioned by day, for `nightly` and `backfill`."""

    partition: str = Field(
        "dt=%Y-%m-%d",
        description="a day's directory in INPUT, in strftime codes: `year=%Y/month=%m/day=%d`",
    )
    time_zone: str = Field(
        "UTC", description="IANA name of the zone whose yesterday `nightly` means"
    )


BatchTokens = Annotated[int, Field(ge=1)] | Literal["auto"]
BATCH_TOKENS = (
    "most tokens of one batch on the device. auto: 16,384, and 65,536 on a GPU of NVIDIA or AMD of "
    "whose memory they would take at most an eighth"
)


class RunConfig(Config):
    """How a job runs; nothing here changes what a row holds."""

    resources: ResourcesConfig = ResourcesConfig()
    output: OutputConfig = OutputConfig()
    rows_per_unit: int = Field(
        1000, ge=1, description="most rows of one unit of work, which is one output file"
    )
    max_unit_bytes: int = Field(
        256 * 2**20, ge=1, description="most uncompressed input bytes of one unit"
    )
    max_error_fraction: float = Field(
        0.01, ge=0, le=1, description="share of rows with status `error` above which the job fails"
    )
    max_unit_attempts: int = Field(
        3, ge=1, description="tries of a unit before it counts as failed"
    )
    replica_timeout_seconds: float = Field(
        900,
        gt=0,
        description="replace a replica without progress for so long, and try its unit again",
    )
    storage_options: dict[str, dict[str, Any]] = Field(
        {},
        description="options of fsspec's filesystems by protocol, like {s3: {endpoint_url: ...}}",
        repr=False,
    )
    openlineage: str | None = Field(
        None,
        description="server (http://host:5000) or local file for OpenLineage events; default: "
        "OpenLineage's own variables, else none",
        repr=False,
    )
    on_existing: Literal["resume", "replace"] = Field(
        "resume",
        description="if OUTPUT holds results of another model or configuration. resume: end with "
        "an error; replace: make new ones, then remove these",
    )


class JobConfig(RunConfig):
    """`bertsum summarize`: the summarizer's configuration, and how the job runs.

    Only `named_summarizer` changes what a file of results holds.
    """

    summarizer: RowConfig = RowConfig()
    output: NamedOutputConfig = NamedOutputConfig()
    max_batch_tokens: BatchTokens = Field("auto", description=BATCH_TOKENS)
    days: DaysConfig = DaysConfig()

    short_keys: ClassVar[Mapping[str, str]] = {"output.checks": "action"}

    @property
    def named_summarizer(self) -> SummarizerConfig:
        """What rows hold, with the names of their columns."""
        names = self.output.model_dump(include=set(NamesConfig.model_fields))
        return SummarizerConfig.model_validate(self.summarizer.model_dump() | {"output": names})
