"""The Ray Data pipeline: a dataset of units goes through pools of replicas, reports come out.

Of two pools the first hands the rows of each unit on to the second, in Ray's object store. Ray Data
holds the first one back where too many of them wait there, and has a unit that is lost with its node
made again.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.client import ray as ray_client

from bertsum.runs.units import Unit
from jobs.engine.cluster import Shape, beside_the_driver
from jobs.engine.monitor import ActorHandle
from jobs.engine.ray_workarounds import EndsWhenOver, prepare_ray_data
from jobs.engine.replica import Replica
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import ReplicaSpec

# Of one replica: it computes one, while the other one is read and prepared, or written.
_UNITS_AT_ONCE = 2
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of one kind: what each must know, and how many there are."""

    spec: ReplicaSpec
    shape: Shape


def stream_reports(
    units: Mapping[str, Unit],
    pools: Sequence[Pool],
    monitor: ActorHandle,
    is_over: threading.Event,
) -> Iterator[UnitReport]:
    """Yield reports in the order in which units end. A unit that Ray loses for good has none.

    - `pools`: through which each unit goes, one after the other.
    - `monitor`: whom the replicas report to.

    Another thread may set `is_over`: the iteration ends with CancelledError then.
    """
    client: Any = ray_client  # carries no types
    # `iter(call, None)` yields what `call` returns until it returns None
    if client.is_connected():
        # Ray Data needs a full driver, which a process behind ray:// is not: an actor on the
        # cluster is one.
        actor = ray.remote(Driver).options(**beside_the_driver())
        driver: ActorHandle = actor.remote(units, pools, monitor)
        reports = iter(lambda: _unless_over(driver.next_report.remote(), is_over), None)
    else:
        reports = iter(Driver(units, pools, monitor, is_over).next_report, None)
    for report in reports:
        yield UnitReport.from_json(report)


def _unless_over(report: Any, is_over: threading.Event) -> str | None:
    """Wait for a report in pieces. Raises CancelledError once `is_over` is set."""
    while not ray.wait([report], timeout=_POLL_SECONDS)[0]:
        if is_over.is_set():
            raise CancelledError("the run that wanted these reports is over")
    value: str | None = ray.get(report)
    return value


class Driver:
    """Builds the dataset and iterates over it: in this process, or as an actor in its stead."""

    def __init__(
        self,
        units: Mapping[str, Unit],
        pools: Sequence[Pool],
        monitor: ActorHandle,
        is_over: threading.Event | None = None,
    ) -> None:
        # before the import, at which Ray Data reads what this sets
        prepare_ray_data()
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1  # a block is a unit; one without a report is tried again
        # a unit may take long; `waves` watches documents
        context.execution_no_progress_timeout_s = -1
        items = [{"name": name, "unit": json.dumps(unit.to_json())} for name, unit in units.items()]
        # a block for each unit: what goes to a replica at once, or is lost, is one unit
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        for pool in pools:
            dataset = _through(dataset, pool, monitor, len(items))
        if is_over is not None:  # an actor ends with its caller
            EndsWhenOver.set_event(is_over)
            callbacks: list[Any] = [EndsWhenOver]  # typed with a private class of Ray
            dataset.context.custom_execution_callback_classes = callbacks
        self._rows = iter(dataset.iter_rows())

    def next_report(self) -> str | None:
        """Return the JSON of a UnitReport, or None after the last."""
        row = next(self._rows, None)
        return None if row is None else str(row["report"])


def _through(dataset: Any, pool: Pool, monitor: ActorHandle, num_units: int) -> Any:
    """Return the dataset of what a pool makes of `dataset` (both are Ray's, and untyped)."""
    import ray.data

    shape = pool.shape
    # Ray Data takes this option only if it has a value; it goes to `ray.remote`, untyped
    gpu_type: dict[str, Any] = (
        {"accelerator_type": shape.accelerator_type} if shape.accelerator_type else {}
    )
    return dataset.map_batches(
        Replica,
        fn_constructor_args=(pool.spec, monitor),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(shape.replicas, num_units),
            max_tasks_in_flight_per_actor=_UNITS_AT_ONCE,
            max_concurrent_calls_per_actor=_UNITS_AT_ONCE,
            # `Replica` locks what must not happen twice at once
            enable_true_multi_threading=True,
        ),
        num_cpus=shape.num_cpus,
        num_gpus=shape.num_gpus,
        **gpu_type,
    )
