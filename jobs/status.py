"""`bertsum status OUTPUT`: what a run has done, what is missing, and why."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, final

from bertsum.errors import ConfigError
from bertsum.runs.checking import Checked
from bertsum.runs.held import HELD
from bertsum.runs.partitions import partition_of
from bertsum.runs.records import FAILURES, MANIFEST, PLAN, SUCCESS, read_json
from bertsum.storage.folder import Folder, mask
from jobs.options import parse
from jobs.terminal.exit_codes import guard

_MOST_LINES = 10  # of incomplete partitions; a wave of `backfill` may begin hundreds


class FailedUnit(TypedDict):
    """An entry of failures.json; a file that cannot be read is in no unit, and has an empty one."""

    unit: str
    files: list[str]
    reason: str
    attempts: int


@final
class RunStatus(TypedDict):
    """A run over all of INPUT. `units` and `rows` are numbers by state: done, missing, failed.

    - `limit`: the rows of a try-out; None: all.
    - `then`: the model of the second stage, if the run has one.
    - `statuses`: rows by status; None while the run is incomplete.
    - `unreadable_files`: they are in no unit, and their rows are not known.
    - `held`: why a result is held back from readers, by partition.
    """

    output: str
    complete: bool
    limit: int | None
    input: str
    model: dict[str, str]
    then: dict[str, str] | None
    units: dict[str, int]
    rows: dict[str, int]
    statuses: dict[str, int] | None
    unreadable_files: int
    failures: list[FailedUnit]
    held: dict[str, str]


@final
class PartitionsStatus(TypedDict):
    """Partitions that were published, and units by state of those that were begun since.

    `held`: why a partition that is complete is held back from readers, by partition.
    """

    output: str
    complete: bool
    published: list[str]
    incomplete: dict[str, dict[str, int]]
    held: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusOptions:
    """The options of the command. With `address`, `output` is the id of a submission."""

    output: str
    address: str | None = None
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 complete, 1 incomplete (a try-out with --limit is, too), 2 there is no run."""
    return guard(lambda: status(parse(StatusOptions, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum status", description="What a run in OUTPUT has done and what not."
    )
    add = options.add_argument
    add("output", metavar="OUTPUT", help="directory that a job writes to, local or remote")
    add(
        "--address",
        metavar="URL",
        help="job server: OUTPUT is then the id of a submission to it",
    )
    add("--json", action="store_true", help="the same for machines")
    return options


def status(options: StatusOptions) -> int:
    """Print the state of the run; returns 0 if it is complete, or the submission succeeded."""
    if options.address is not None:
        return _submission_status(options.output, options.address, options.json)
    state = describe_output(Folder(options.output))
    if options.json:
        print(json.dumps(state, indent=1))
    else:
        print(_text_of_partitions(state) if "published" in state else _text_of_run(state))
    return 0 if state["complete"] else 1


def _submission_status(submission_id: str, address: str, as_json: bool) -> int:
    """Print what the job server says of a submission; returns 0 if it succeeded."""
    # It imports Ray, which the status of an OUTPUT does not need.
    from jobs.remote.job_server import JobServer

    submission = JobServer(address).describe(submission_id)
    if as_json:
        print(json.dumps(submission, indent=1))
    else:
        for key, value in submission.items():
            if value is not None and key != "log":
                print(f"{key:<12}{value}")
        for line in submission["log"]:
            print(line)
    return 0 if submission["state"] == "SUCCEEDED" else 1


def describe_output(output: Folder) -> RunStatus | PartitionsStatus:
    """`describe_run`, or `describe_partitions` where only chosen partitions were run since.

    Raises ConfigError where OUTPUT has no run.
    """
    if read_json(output, PLAN) is None:
        return describe_partitions(output)
    run = describe_run(output)
    units = run["units"]
    is_over = run["complete"] or run["limit"] is not None or bool(run["held"])
    if is_over or units["missing"] or units["failed"]:
        return run
    # All its units are there, but not its _SUCCESS: `nightly` or `backfill` may have gone on in it.
    return describe_partitions(output, run)


def describe_partitions(
    output: Folder, otherwise: RunStatus | None = None
) -> RunStatus | PartitionsStatus:
    """Partitions that are published and those that are begun.

    `otherwise` is returned where no partition is published. Raises ConfigError when there are none.
    """
    # The plan of a partition is written when its work begins, its _SUCCESS when it is published.
    published = _partitions_with(output, SUCCESS)
    begun = sorted(set(_partitions_with(output, PLAN)) - set(published))
    if not published and otherwise is not None:
        return otherwise
    if not published and not begun:
        raise ConfigError(f"there is no run in {output}: it has no {PLAN}")
    incomplete: dict[str, dict[str, int]] = {}
    held: dict[str, str] = {}
    for partition in begun:
        run = describe_run(Folder(f"{output.uri}/{partition}"))
        if run["held"]:
            held |= run["held"]
        else:
            incomplete[partition] = run["units"]
    return {
        "output": str(output),
        "complete": not incomplete and not held,
        "published": published,
        "incomplete": incomplete,
        "held": held,
    }


def _partitions_with(output: Folder, record: str) -> list[str]:
    """Partitions that have this file, sorted."""
    ending = f"/{record}"
    names = output.list_names(also=record)
    return sorted(name.removesuffix(ending) for name in names if name.endswith(ending))


def describe_run(output: Folder) -> RunStatus:
    """Units and rows by state, the failures, and what the run was.

    Raises ConfigError when there is no run.
    """
    manifest = read_json(output, MANIFEST)
    complete = output.info(SUCCESS) is not None and manifest is not None
    # The manifest lists what a complete run has; before that, its plan says what it will have.
    plan = manifest if complete else read_json(output, PLAN)
    if plan is None:
        raise ConfigError(f"there is no run in {output}: it has no {PLAN}")
    present = set(output.list_names())
    # Units of a published partition are done, even if a later run has cut it into other units.
    published = set() if complete else set(_partitions_with(output, SUCCESS))
    record: Mapping[str, list[FailedUnit]] = read_json(output, FAILURES) or {"failures": []}
    # A failure of an earlier attempt is past once the unit's file is there.
    failures = [failure for failure in record["failures"] if failure["unit"] not in present]
    failed_names = {failure["unit"] for failure in failures}
    units = dict.fromkeys(("done", "missing", "failed"), 0)
    rows = dict(units)
    # By the plan's names, so that files of an earlier model in OUTPUT do not count.
    for entry in plan["files"]:
        name = entry["name"]
        if name in present or partition_of(name) in published:
            state = "done"
        else:
            state = "failed" if name in failed_names else "missing"
        units[state] += 1
        rows[state] += entry["rows"]
    return {
        "output": str(output),
        "complete": complete,
        "limit": plan.get("limit"),
        "input": plan["input"],
        "model": plan["job"]["model"],
        "then": plan["job"]["then"]["model"] if "then" in plan["job"] else None,
        "units": units,
        "rows": rows,
        "statuses": manifest["statuses"] if complete and manifest else None,
        # they are in no unit, and so not among the units that failed
        "unreadable_files": sum(not failure["unit"] for failure in failures),
        "failures": failures,
        "held": {} if complete else _held_in(output, plan),
    }


def _held_in(output: Folder, plan: Mapping[str, Any]) -> dict[str, str]:
    """Why the result of a plan is held, by partition; empty where it is not.

    A record of other files than planned is of a run before, and says nothing of this one.
    """
    record = read_json(output, HELD)
    if record is None:
        return {}
    # a file that is kept of another job is in no plan
    held = {entry["name"] for entry in record["files"] if "job" not in entry}
    if held != {entry["name"] for entry in plan["files"]}:
        return {}
    reasons: dict[str, str] = {}
    for partition, entry in record["checked"].items():
        checked = Checked.from_json(entry)
        if checked.findings:
            reasons[partition] = checked.reason
    return reasons


def _text_of_partitions(state: PartitionsStatus) -> str:
    """For people: how many partitions are published, and the first that are not."""
    published, incomplete, held = state["published"], state["incomplete"], state["held"]
    which = f", {published[0]} to {published[-1]}" if published else ""
    lines = [f"{state['output']}: {len(published):,} partition(s) published{which}"]
    for partition, units in list(incomplete.items())[:_MOST_LINES]:
        failed = f", {units['failed']:,} failed" if units["failed"] else ""
        done = f"{units['done']:,} of {sum(units.values()):,} units"
        lines.append(f"incomplete: {partition}: {done}{failed}")
    if (others := len(incomplete) - _MOST_LINES) > 0:
        lines.append(f"incomplete: {others:,} more")
    for partition, reason in list(held.items())[:_MOST_LINES]:
        lines.append(f"held: {partition}: {reason}")
    if (others := len(held) - _MOST_LINES) > 0:
        lines.append(f"held: {others:,} more")
    if held:
        first = next(iter(held))
        lines.append(f"to let one of them through: bertsum publish {state['output']} '{first}'")
    example = next(iter([*incomplete, *held]), published[-1] if published else "")
    lines.append(f"more of one of them: bertsum status {state['output']}/{example}")
    return "\n".join(lines)


def _text_of_run(state: RunStatus) -> str:
    """For people: a line for each state that has units, and each failure."""
    headline = "incomplete; the same command resumes"
    if state["complete"]:
        headline = "complete"
    elif state["held"]:
        headline = "complete, and held back from readers; `bertsum publish` lets it through"
    elif state["limit"] is not None:
        headline = (
            f"a try-out of the first {state['limit']:,} rows; run without --limit for the rest"
        )
    then = f", then {state['then']['id']}" if state["then"] else ""
    lines = [
        f"{state['output']}: {headline}",
        f"input {state['input']}, model {state['model']['id']}{then}",
    ]
    for name, units in state["units"].items():
        if units or name == "done":
            lines.append(f"{name:<8} {units:>8,} units {state['rows'][name]:>12,} rows")
    if state["unreadable_files"]:
        lines.append(f"{'failed':<8} {state['unreadable_files']:>8,} files that cannot be read")
    if state["statuses"]:
        statuses = ", ".join(f"{name} {rows:,}" for name, rows in state["statuses"].items())
        lines.append(f"statuses {statuses}")
    for partition, reason in list(state["held"].items())[:_MOST_LINES]:
        lines.append(f"held     {partition or 'all rows'}: {reason}")
    for failure in state["failures"]:
        tried = f" (tried {failure['attempts']} times)" if failure["attempts"] else ""
        lines.append(f"failed: {mask(', '.join(failure['files']))}: {failure['reason']}{tried}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
