"""A run of a job over INPUT and OUTPUT: what the command line decides, and the command's Work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bertsum.errors import BertsumError, ConfigError, InputError
from bertsum.job_config import ResourcesConfig, RunConfig
from bertsum.runs.checking import Checks
from bertsum.runs.input import Input
from bertsum.runs.plan import Plan, Terms, make_plan, refuse_superseded
from bertsum.runs.records import Job
from bertsum.runs.tables.table import Lake
from bertsum.runs.units import Limits
from bertsum.storage.folder import Folder
from jobs.engine.work import GenerateWork, SummarizeThenWork, Work
from jobs.terminal.console import console

if TYPE_CHECKING:
    from jobs.engine.cluster import Shape
    from jobs.engine.waves import Replicas

RESUMES = "interrupted; finished units stay, and the same command goes on from there"
_NOT_EXCLUSIVE = (
    "{output} cannot create a file exclusively (no hard links, or no conditional put): each file "
    "still appears whole or not at all, but two runs at once may write a file twice; see to it "
    "that only one is at work"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that the command line decides, looked up once.

    - `input_uri`: INPUT as the user gave it.
    - `source`: its files.
    - `job`: model and configuration, which name the units.
    - `work`: what is done with the rows of a unit.
    - `address`: of Ray; `local` starts one.
    - `lake`: the table that OUTPUT is, if it is one.
    - `checks`: what is looked at before a result is published, if anything.
    - `then_resources`: of the second pool of replicas; None: `work` has one stage.
    """

    input_uri: str
    source: Input
    output: Folder
    job: Job
    work: Work
    config: RunConfig
    address: str
    lake: Lake | None = None
    checks: Checks | None = None
    then_resources: ResourcesConfig | None = None

    def check_models(self) -> None:
        """See `GenerateWork.check_model`: what a model can do is better known before Ray starts."""
        work = self.work.second if isinstance(self.work, SummarizeThenWork) else self.work
        if isinstance(work, GenerateWork):
            work.check_model()

    @property
    def limits(self) -> Limits:
        return Limits(self.config.rows_per_unit, self.config.max_unit_bytes)

    def plan(self, limit: int | None = None) -> Plan:
        """Return what is to do, of at most `limit` rows if it is given.

        Raises ConfigError for a limit with a choice of partitions, InputError and OutputError as
        `make_plan` does.
        """
        # where a walk of INPUT would come upon results, now or at the next run
        source, output = self.source, self.output
        is_nested = source.is_directory and output.is_below(source.root)
        if not is_nested and source.files:  # any file stands for all
            # its directory, since the file may be a link to anywhere
            directory = Folder(f"{source.root.uri}/{source.files[0].partition}")
            is_nested = directory.is_below(output)
        if is_nested:
            raise InputError(
                f"OUTPUT {output} and INPUT {source.root} lie in each other; the job would read "
                "its own results"
            )
        if limit is not None and not self.source.scope.is_all:
            raise ConfigError(
                "--limit does not go with a choice of partitions: a try-out publishes none"
            )
        terms = Terms(
            limits=self.limits, check=self.work.check, rules=self.config.output, limit=limit
        )
        try:
            plan = make_plan(self.source, self.output, self.job, terms)
        except InputError as error:
            if not self.source.copy_of:
                raise
            # the user knows the original, whose files have other names
            raise InputError(f"INPUT {self.source.copy_of}: {error}") from error
        if self.lake is not None and plan.limit is None:
            # a partition is published only when the table has its files, too
            behind = self.lake.behind(plan.expected, sorted(plan.partitions & plan.published))
            plan = replace(plan, published=plan.published - behind)
        return plan

    def replan(self, plan: Plan, reason: BertsumError) -> Plan:
        """Return a new plan of the same partitions, since OUTPUT has changed.

        - `plan`: the one before.
        - `reason`: how it was noticed.

        Raises InputError and OutputError, see `make_plan` and `refuse_superseded`.
        """
        console.print(
            f"OUTPUT has changed ({reason}); looking again at what is left to do", soft_wrap=True
        )
        files = tuple(file for file in self.source.files if plan.scope.holds(file.partition))
        source = replace(self.source, files=files, scope=plan.scope)
        new_plan = replace(self, source=source).plan()
        # the other run may have used another model, which is as wrong now as at the start
        if self.config.on_existing == "resume":
            refuse_superseded(new_plan.superseded, self.output)
        return new_plan


@contextmanager
def start_replicas(run: Run, plan: Plan) -> "Iterator[Replicas]":
    """Start or join Ray for as long as it is needed, and yield what the replicas are.

    Raises ResourceError where the replicas do not fit, see `jobs.engine.cluster`.
    """
    console.print(
        f"{len(plan.missing):,} of {len(plan.units):,} units to do; starting Ray ({run.address})"
    )
    # Ray takes seconds to import, and a finished job needs none of it
    from jobs.engine.cluster import connected
    from jobs.engine.pipeline import Pool
    from jobs.engine.unit_maker import ReplicaSpec
    from jobs.engine.waves import Replicas

    with connected(run.address):
        first_shape, shape = _reserve(run, len(plan.missing))
        exclusive = run.output.can_create_exclusively()
        if not exclusive:
            console.print(_NOT_EXCLUSIVE.format(output=run.output), soft_wrap=True)
        spec = ReplicaSpec(
            input_uri=run.source.root.uri,
            output_uri=run.output.uri,
            job=run.job,
            work=run.work,
            num_threads=shape.num_threads,
            num_gpus=shape.num_gpus,
            exclusive=exclusive,
            profiled=run.checks.names if run.checks else None,
            outdated=frozenset(plan.outdated) if run.lake else None,
            storage_options=run.config.storage_options,
        )
        first = None
        if first_shape is not None and isinstance(run.work, SummarizeThenWork):
            first_spec = replace(
                spec,
                work=run.work.first,
                num_threads=first_shape.num_threads,
                num_gpus=first_shape.num_gpus,
                pool="summarize",
                hands_on=True,
            )
            first, spec = Pool(first_spec, first_shape), replace(spec, pool="generate")
        yield Replicas(
            spec=spec,
            shape=shape,
            max_attempts=run.config.max_unit_attempts,
            timeout_seconds=run.config.replica_timeout_seconds,
            first=first,
        )


def _reserve(run: Run, num_units: int) -> "tuple[Shape | None, Shape]":
    """The shapes of the first pool, if there are two, and of the last one."""
    from jobs.engine.cluster import reserve, reserve_two

    can_grow, operations = run.address != "local", run.work.token_operations()
    resources = run.config.resources
    if run.then_resources is None:
        return None, reserve(resources, num_units, can_grow, operations)
    return reserve_two(resources, run.then_resources, num_units, can_grow, operations)
