"""`bertsum status OUTPUT`: what a run has done, what is missing, and why."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from bertsum.errors import ConfigError
from bertsum.runs.partitions import partition_of
from bertsum.runs.records import FAILURES, MANIFEST, PLAN, SUCCESS, read_json
from bertsum.storage.folder import Folder, mask
from jobs.terminal.exit_codes import guard

_MOST_LINES = 10  # of incomplete partitions; a wave of `backfill` may begin hundreds


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 complete, 1 incomplete (a try-out with --limit is, too), 2 there is no run."""
    return guard(lambda: _status(parser().parse_args(argv)))


def _status(arguments: argparse.Namespace) -> int:
    if arguments.address is not None:
        return submission_status(arguments.output, arguments.address, arguments.json)
    return status(arguments.output, arguments.json)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(prog="bertsum status", description="What a run in OUTPUT has done and what not.")
    options.add_argument("output", metavar="OUTPUT", help="directory that a job writes to, local or remote")
    options.add_argument("--address", metavar="URL", help="job server: OUTPUT is then the id of a submission to it")
    options.add_argument("--json", action="store_true", help="the same for machines")
    return options


def status(output_uri: str, as_json: bool) -> int:
    """Print it, and say whether the run is complete."""
    found = describe_output(Folder(output_uri))
    print(json.dumps(found, indent=1) if as_json else _text(found))
    return 0 if found["complete"] else 1


def submission_status(submission_id: str, address: str, as_json: bool) -> int:
    """What the job server at `address` says of a submission, and whether it succeeded."""
    from jobs.remote.job_server import JobServer

    found = JobServer(address).describe(submission_id)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        log = found.pop("log")
        print("\n".join([*(f"{key:<12}{value}" for key, value in found.items() if value is not None), *log]))
    return 0 if found["state"] == "SUCCEEDED" else 1


def describe_output(output: Folder) -> dict[str, Any]:
    """`describe_run` or, where only chosen partitions were run since (`nightly`, `backfill`), `describe_partitions`."""
    if read_json(output, PLAN) is None:
        return describe_partitions(output)
    found = describe_run(output)
    if found["complete"] or found["limit"] is not None or found["units"]["missing"] or found["units"]["failed"]:
        return found
    return describe_partitions(output, found)


def describe_partitions(output: Folder, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    """Partitions that are published and those that are begun. Raises ConfigError when there are none.

    `otherwise`: what to say where no partition is published.
    """
    published = _places(output, SUCCESS)
    begun = sorted(set(_places(output, PLAN)) - set(published))
    if not published and otherwise is not None:
        return otherwise
    if not published and not begun:
        raise ConfigError(f"there is no run in {output}: it has no {PLAN}")
    incomplete = {place: describe_run(Folder(f"{output.uri}/{place}"))["units"] for place in begun}
    return {"output": str(output), "complete": not incomplete, "published": published, "incomplete": incomplete}


def _places(output: Folder, record: str) -> list[str]:
    """Partitions that have this file, sorted."""
    names = output.list_names(also=record)
    return sorted(name.removesuffix(f"/{record}") for name in names if name.endswith(f"/{record}"))


def describe_run(output: Folder) -> dict[str, Any]:
    """Units and rows by state, the failures, and what the run was. Raises ConfigError when there is no run."""
    manifest = read_json(output, MANIFEST)
    complete = output.info(SUCCESS) is not None and manifest is not None
    plan = manifest if complete else read_json(output, PLAN)
    if plan is None:
        raise ConfigError(f"there is no run in {output}: it has no {PLAN}")
    present = output.list_names()
    published = set() if complete else set(_places(output, SUCCESS))  # perhaps by a later run, with other units
    failures = (read_json(output, FAILURES) or {"failures": []})["failures"]
    failed_names = {failure["unit"] for failure in failures} - set(present)
    states = {"done": [0, 0], "missing": [0, 0], "failed": [0, 0]}
    for entry in plan["files"]:
        name = entry["name"]
        done = name in present or partition_of(name) in published
        state = states["done" if done else "failed" if name in failed_names else "missing"]
        state[0], state[1] = state[0] + 1, state[1] + entry["rows"]
    left = [failure for failure in failures if failure["unit"] not in present]
    return {
        "output": str(output),
        "complete": complete,
        "limit": plan.get("limit"),
        "input": plan["input"],
        "model": plan["job"]["model"],
        "units": {state: count for state, (count, _) in states.items()},
        "rows": {state: rows for state, (_, rows) in states.items()},
        "statuses": manifest["statuses"] if complete and manifest else None,
        "unreadable_files": sum(not failure["unit"] for failure in left),  # in no unit, their rows unknown
        "failures": left,
    }


def _text_of_partitions(found: dict[str, Any]) -> str:
    published, output = found["published"], found["output"]
    which = f", {published[0]} to {published[-1]}" if published else ""
    lines = [f"{output}: {len(published):,} partition(s) published{which}"]
    for place, units in list(found["incomplete"].items())[:_MOST_LINES]:
        failed = f", {units['failed']:,} failed" if units["failed"] else ""
        lines.append(f"incomplete: {place}: {units['done']:,} of {sum(units.values()):,} units{failed}")
    if (others := len(found["incomplete"]) - _MOST_LINES) > 0:
        lines.append(f"incomplete: {others:,} more")
    lines.append(f"more of one of them: bertsum status {output}/{[*found['incomplete'], *published[-1:]][0]}")
    return "\n".join(lines)


def _text(found: dict[str, Any]) -> str:
    if "published" in found:
        return _text_of_partitions(found)
    lines = [f"{found['output']}: {_headline(found)}", f"input {found['input']}, model {found['model']['id']}"]
    for state, units in found["units"].items():
        if units or state == "done":
            lines.append(f"{state:<8} {units:>8,} units {found['rows'][state]:>12,} rows")
    if found["unreadable_files"]:
        lines.append(f"{'failed':<8} {found['unreadable_files']:>8,} files that cannot be read")
    if found["statuses"]:
        lines.append("statuses " + ", ".join(f"{name} {count:,}" for name, count in found["statuses"].items()))
    for failure in found["failures"]:
        tried = f" (tried {failure['attempts']} times)" if failure["attempts"] else ""
        lines.append(f"failed: {mask(', '.join(failure['files']))}: {failure['reason']}{tried}")
    return "\n".join(lines)


def _headline(found: dict[str, Any]) -> str:
    if found["complete"]:
        return "complete"
    if found["limit"] is not None:
        return f"a try-out of the first {found['limit']:,} rows; run without --limit for the rest"
    return "incomplete; the same command resumes"


if __name__ == "__main__":
    sys.exit(main())
