"""An asset for Dagster: the summaries of a day are a partition, made on a Ray cluster."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster import DagsterExecutionInterruptedError
from pydantic import Field

from bertsum.errors import BertsumError, ConfigError

_RETRY_TAG = "dagster/retry_number"
_NAMES = ("partition", "state", "rows_made", "seconds", "warnings")  # of the JSON of `nightly`


class BertsumCluster(dg.ConfigurableResource["BertsumCluster"]):
    """A Ray cluster with a job server.

    A run that is tried again finds the submission that runs. Held results and a wrong command fail
    without another try.
    """

    address: str = Field(description="job server, http://HOST:8265")
    token: str | None = Field(default=None, description="Ray's token; give it by dg.EnvVar")
    env: list[str] = Field(default=[], description="names of variables that go along")
    code: str = Field(default="send", description="send this installation, or use the image's")
    limit_seconds: float = Field(default=86_400.0, description="how long a run follows a job")
    lost_seconds: float = Field(
        default=600.0, description="how long a job server may be silent before the run fails"
    )

    def run(
        self,
        context: dg.AssetExecutionContext,
        arguments: Sequence[str],
        job: str = "nightly",
    ) -> dg.MaterializeResult[Any]:
        """Run a job; of `nightly` the day is the partition's key.

        Raises Failure, with `allow_retries` only where another try may succeed.
        """
        # They import Ray, which the definitions of a code location do not need.
        from jobs.orchestrators.cluster_job import ClusterJob
        from jobs.remote.submissions import Rules

        task = ClusterJob(
            job=job,
            arguments=arguments,
            day=context.partition_key if job == "nightly" else None,
            address=self.address,
            token=self.token,
            env=self.env,
            rules=Rules(
                code=self.code,
                asked_by=f"dagster/{_asker(context.run)}",
                lost_seconds=self.lost_seconds,
                limit_seconds=self.limit_seconds,
            ),
        )
        try:
            return dg.MaterializeResult(metadata=_metadata(task.run(context.log.info)))
        except BertsumError as error:
            raise dg.Failure(str(error), allow_retries=error.exit_code == 1) from error
        except DagsterExecutionInterruptedError as interruption:
            run = context.instance.get_run_by_id(context.run_id)
            if run is None or run.status is not dg.DagsterRunStatus.CANCELING:
                raise  # the machine goes down, and the job goes on: a retry follows it
            try:
                task.stop(context.log.info)
            except ConfigError as error:  # it has ended, or was not sent yet
                context.log.info(str(error))
            raise dg.Failure("ended by a person", allow_retries=False) from interruption


def nightly_asset(
    *,
    name: str,
    arguments: Sequence[str],
    partitions_def: dg.DailyPartitionsDefinition,
    **options: Any,
) -> dg.AssetsDefinition:
    """An asset whose partitions are days, made by `nightly` on the resource `bertsum`.

    - `arguments`: of `nightly`, without the day: INPUT, OUTPUT and options.
    - `options`: of `dagster.asset`.
    """

    @dg.asset(name=name, partitions_def=partitions_def, **options)
    def nightly(
        context: dg.AssetExecutionContext, bertsum: BertsumCluster
    ) -> dg.MaterializeResult[Any]:
        return bertsum.run(context, arguments)

    asset: dg.AssetsDefinition = nightly
    return asset


def _asker(run: dg.DagsterRun) -> str:
    """The run that was asked for: Dagster's own retries ask for what the first run asked for."""
    return str(run.root_run_id if _RETRY_TAG in run.tags else run.run_id)


def _metadata(result: dict[str, Any]) -> dict[str, Any]:
    """What a materialization shows."""
    metadata = {"submission": result["submission"]}
    if result["output"] is not None:
        metadata["dagster/uri"] = result["output"]
    if "rows" in result:
        metadata["dagster/partition_row_count"] = result["rows"]
    metadata |= {name: result[name] for name in _NAMES if name in result}
    if statuses := result.get("statuses"):
        metadata["errors"] = statuses.get("error", 0)
        metadata["statuses"] = statuses
    return metadata
