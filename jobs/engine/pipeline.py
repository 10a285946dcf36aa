"""The Ray Data pipeline: a dataset of units through a pool of replicas; reports come out as they are ready."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.util.client import ray as ray_client

from bertsum.runs.units import Unit
from jobs.engine.cluster import Shape, beside_the_driver
from jobs.engine.replica import Replica
from jobs.engine.reports import UnitReport
from jobs.engine.unit_maker import Task

if TYPE_CHECKING:
    import ray.data

_UNITS_AT_ONCE = 2  # of one replica: it computes one, while the other is read and prepared, or written


def stream_reports(units: Mapping[str, Unit], task: Task, shape: Shape, monitor: Any) -> Iterator[UnitReport]:
    """Reports in the order in which units end; a unit that Ray loses for good has none."""
    client: Any = ray_client  # carries no types
    if client.is_connected():
        # Ray Data needs a full driver, which a process behind ray:// is not: an actor on the cluster is one.
        far: Any = ray.remote(Driver).options(**beside_the_driver()).remote(units, task, shape, monitor)
        reports = iter(lambda: ray.get(far.next_report.remote()), None)
    else:
        reports = iter(Driver(units, task, shape, monitor).next_report, None)
    for report in reports:
        yield UnitReport.from_json(report)


class Driver:
    """Whoever builds the dataset and iterates it: this process, or an actor in its place."""

    def __init__(self, units: Mapping[str, Unit], task: Task, shape: Shape, monitor: Any) -> None:
        self._rows = iter(_dataset(units, task, shape, monitor).iter_rows())

    def next_report(self) -> str | None:
        """JSON of a UnitReport, or None after the last."""
        row = next(self._rows, None)
        return None if row is None else str(row["report"])


def _dataset(units: Mapping[str, Unit], task: Task, shape: Shape, monitor: Any) -> "ray.data.Dataset":
    _ask_for_no_more_nodes()
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a block is a unit, and a report that is missing in the end is noticed
    context.execution_no_progress_timeout_s = -1  # a unit may take long; `waves` looks at documents instead
    kind: dict[str, Any] = {"accelerator_type": shape.accelerator_type} if shape.accelerator_type else {}
    items = [{"name": name, "unit": json.dumps(unit.to_json())} for name, unit in units.items()]
    replicas = min(shape.replicas, len(items))
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Replica,
        fn_constructor_args=(task, monitor),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(
            size=replicas,
            max_tasks_in_flight_per_actor=_UNITS_AT_ONCE,
            max_concurrent_calls_per_actor=_UNITS_AT_ONCE,
            enable_true_multi_threading=True,  # `Replica` takes turns at what must not happen twice at a time
        ),
        num_cpus=shape.num_cpus,
        num_gpus=shape.num_gpus,
        **kind,
    )


def _ask_for_no_more_nodes() -> None:
    """Keep Ray Data from asking the autoscaler for nodes; it reads these variables when it is first imported.

    Each replica that waits for room is a request already, and names its type of GPU. Ray Data would add requests of its
    own ten seconds after the start (Ray 2.60), which name CPUs and GPUs but no type: where a third A10G cannot be had,
    an H100 is started for them, on which no replica may run. It asks where the use of what there is, from 0 to 1 or a
    little more, reaches a threshold.
    """
    for resource in ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY"):
        os.environ[f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{resource}_UTIL_THRESHOLD"] = "1e9"
