"""Two runs at once on one OUTPUT: what makes both end well, each row there once, and no lock.

They plan the same names, because the second one takes over the units of the first one's plan, and a
name is created once (`Folder.create_exclusive`). Two things are left, which are dealt with here.

1. A run finds files that it did not plan, since the other one cut its units differently. Whoever
   made its files later sees those of the other: `check_listing`. Nothing then stands for complete
   before a run has brought the two together.

2. The files of a table are put together (`bertsum.runs.tables.compaction`), and the small ones go.
   So their names are free again for the other run, which may still have one of their units in
   work. Therefore:

   - a small file goes only after the manifest of its partition lists the big one;
   - whoever creates a small file looks into that manifest afterwards: `create_unit`.

   Either the create comes before the small file goes: it is refused, or it is that very file. Or it
   comes after, and so does the look, which finds the big file and takes the small one away again.
   So rows lie there twice between a create and its look at most. A process that dies just there, or
   whose put arrives after its death, leaves a small file that neither manifest nor table lists; the
   next run over the partition removes it, as any file that repeats rows.

   A run whose planned files are gone, or joined by others, makes a new plan and commits that:
   `settle`.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from bertsum.errors import BertsumError, InputError, OutputError
from bertsum.runs.partitions import inside, partition_of
from bertsum.runs.plan import Plan
from bertsum.runs.records import MANIFEST, SUCCESS, Counts, FileRecord, Job, Known, read_json
from bertsum.runs.units import Unit
from bertsum.storage.folder import Folder, mask

_MOST_REPLANS = 3  # for each, another run must have changed files between a plan and its commit


def create_unit(
    output: Folder,
    name: str,
    unit: Unit,
    *,
    job: Job,
    data: bytes | memoryview,
    outdated: Collection[str] | None,
) -> tuple[bool, FileRecord | None]:
    """Whether this call made the unit's file, and else the bigger file of its rows, if that is why.

    `outdated`: see `find_holder`.
    """
    holder = find_holder(output, name, unit, job=job, outdated=outdated)
    created = holder is None and output.create_exclusive(name, data)
    # looked for once more: the big file may have come between the first look and the create
    if created and (holder := find_holder(output, name, unit, job=job, outdated=outdated)):
        output.remove(name)
    return created and holder is None, holder


def find_holder(
    output: Folder,
    name: str,
    unit: Unit,
    *,
    job: Job,
    outdated: Collection[str] | None,
) -> FileRecord | None:
    """The file of the manifest, another one than the unit's own, that has the unit's rows.

    Its record has that file's name, and counts of the unit's rows alone, tokens and statuses
    unknown. `outdated`: files that the plan gives up, whose rows are made anew. None: no files of
    this OUTPUT are ever put together, since it is no table.
    """
    known = Known()
    if outdated is not None:
        known.add(read_json(output, inside(unit.partition, MANIFEST)), unit.partition)
    for other, file in known.files.items():
        # the manifest may list what is gone since, or what this very plan is about to replace
        is_valid = file.job == job.fingerprint and other != name and other not in (outdated or ())
        if is_valid and file.unit.holds(unit) and output.info(other) is not None:
            return replace(known.records[other], counts=Counts(unit.num_rows, 0, {}))
    return None


def list_results(output: Folder, plan: Plan) -> set[str]:
    """The results in the partitions of the plan.

    Raises OutputError when a planned one is missing.
    """
    names = set(plan.scope.list_names(output))
    if not plan.scope.is_all:  # which holds the directories below a partition, too
        partitions = set(map(partition_of, plan.expected | plan.outdated))
        names = {name for name in names if partition_of(name) in partitions}
    if gone := sorted(plan.expected - names):
        first = mask(gone[0])
        raise OutputError(
            f"{len(gone)} file(s) vanished from OUTPUT {output} during the run: {first}"
        )
    return names


def refuse_unplanned(output: Folder, plan: Plan, names: Collection[str]) -> None:
    """Raise OutputError when the names are not all known to the plan."""
    if unplanned := sorted(set(names) - plan.expected - plan.outdated):
        raise OutputError(
            f"{len(unplanned)} file(s) appeared in OUTPUT {output} that this run did not plan, "
            f"like {mask(unplanned[0])}: is another run at work there? Run the command again when "
            "it has ended"
        )


def check_listing(output: Folder, plan: Plan) -> None:
    """Raise OutputError where OUTPUT is not what was planned; nothing then stands for complete."""
    try:
        refuse_unplanned(output, plan, list_results(output, plan))
    except OutputError:
        # _SUCCESS of the other run may be there already, and would vouch for both
        withdraw(output, plan.record_directories)
        raise


def withdraw(output: Folder, directories: Collection[str]) -> None:
    """Take _SUCCESS away; readers who wait for it wait again."""
    for directory in directories:
        output.remove(inside(directory, SUCCESS))


def settle(
    commit: Callable[[Plan], Counts],
    plan: Plan,
    replan: Callable[[Plan, BertsumError], Plan],
    is_table: bool,
) -> Counts:
    """What `commit` returns, also where another run changed the files of a table meanwhile.

    `replan` makes the plan of the same partitions anew, and is told why. The error of `commit` is
    raised where the new plan is the same, or leaves work to do.
    """
    replans = 0
    while True:
        try:
            return commit(plan)
        except (OutputError, InputError) as error:
            if not is_table or replans == _MOST_REPLANS:
                raise
            again = replan(plan, error)
            # the same plan would fail the same way; one with work to do is for a new run
            before, now = (plan.units.keys(), plan.outdated), (again.units.keys(), again.outdated)
            if before == now or again.missing or again.problems:
                raise
        plan, replans = again, replans + 1
