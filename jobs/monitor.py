"""`bertsum monitor OUTPUT`: sentiment over time by group, and alarms where one departs."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertsum.config_base import load_config
from bertsum.storage.folder import Folder, configure
from bertsum.trends.config import MonitorConfig
from jobs.options import add_config_options, override, parse, target_file
from jobs.terminal.days import parse_day
from jobs.terminal.exit_codes import ALARMED, guard

_FORMS = ("json", "slack")


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """The options of the command. None: what the configuration says, or not wanted.

    - `settings`: the values of `--set`, as KEY=VALUE
    - `until`, `since`: days as text
    - `webhook`: form of the message
    """

    output: str
    config: Path | None = None
    settings: Sequence[str] = ()
    time: str | None = None
    by: Sequence[str] = ()
    until: str | None = None
    since: str | None = None
    html: str | None = None
    png: str | None = None
    json: bool = False
    webhook: str | None = None
    fail_on_alarm: bool = False
    from_scratch: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done; 1 the webhook failed; 2 refused; 4 with --fail-on-alarm, a new alarm."""
    return guard(lambda: monitor(parse(MonitorOptions, parser(), argv)))


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum monitor",
        description="Sentiment over time by topic, entity or any column, with alarms.",
        epilog="exit codes: 0 done; 1 the webhook did not take the alarms; 2 the command is "
        f"wrong; {ALARMED} with --fail-on-alarm, there is a new alarm",
    )
    add = options.add_argument
    add("output", metavar="OUTPUT", help="directory that a job wrote to, local or remote")
    add_config_options(options, "YAML file with keys of `trends` and `webhook`")
    add(
        "--time",
        metavar="NAME",
        help="column or partition key of the day (default: the day in the partitions' names)",
    )
    add(
        "--by",
        metavar="NAME",
        action="append",
        default=[],
        help="column or partition key whose values are groups; repeatable (default: topic and "
        "targets, where OUTPUT has them)",
    )
    add("--until", metavar="DAY", help="last day that is looked at (default: the last of OUTPUT)")
    add("--since", metavar="DAY", help="alarms from this day on are new (default: the last day)")
    add("--html", metavar="FILE", help="write a page with all groups and alarms")
    add("--png", metavar="FILE", help="write a picture of the groups with the newest alarms")
    add("--json", action="store_true", help="the same for machines")
    add("--webhook", choices=_FORMS, help="send new alarms to BERTSUM_WEBHOOK_URL in this form")
    add("--fail-on-alarm", action="store_true", help=f"exit with {ALARMED} if an alarm is new")
    add("--from-scratch", action="store_true", help="neither use nor keep counts in OUTPUT")
    return options


def monitor(options: MonitorOptions) -> int:
    """Run the command; returns its exit code."""
    # these import pyarrow.compute, which `--help` does not need
    from bertsum.reports.result import read_result
    from bertsum.trends.delivery import deliver
    from bertsum.trends.page import render_trends
    from bertsum.trends.pictures import check_installed, draw_trends
    from bertsum.trends.trends import make_trends, trends_values
    from bertsum.trends.webhook import VARIABLE, webhook_address
    from jobs.terminal.trends import show_trends

    given = {"trends.time": options.time, "trends.by": list(options.by) or None}
    short = [override(key, value) for key, value in given.items() if value is not None]
    config = load_config(MonitorConfig, options.config, [*options.settings, *short])
    configure(config.storage_options)
    output = Folder(options.output)
    # what is wrong with the options is better known before the work than after it
    page = target_file("--html", options.html, [output]) if options.html else None
    picture = target_file("--png", options.png, [output]) if options.png else None
    if picture is not None:
        check_installed()
    address = None
    if options.webhook is not None:
        address = webhook_address(config.webhook, os.environ.get(VARIABLE))
    trends = make_trends(
        read_result(output),
        config.trends,
        until=parse_day(options.until) if options.until else None,
        since=parse_day(options.since) if options.since else None,
        keep_state=not options.from_scratch,
    )
    values = trends_values(trends)
    if options.json:
        print(json.dumps(values, indent=1))
    else:
        show_trends(trends, values)
    if page is not None:
        _write(*page, render_trends(trends, values).encode("utf-8"))
    if picture is not None:
        _write(*picture, draw_trends(trends))
    if trends.counted.damaged:
        _say(f"{trends.counted.damaged} was damaged; all files were read and counted again")
    if trends.counted.problem:
        _say(f"the counts cannot be kept, so files are read again: {trends.counted.problem}")
    if address is not None and options.webhook is not None:
        for line in deliver(output, trends, values, address, config.webhook, options.webhook):
            _say(line)
    return ALARMED if options.fail_on_alarm and trends.new_alarms else 0


def _write(folder: Folder, name: str, content: bytes) -> None:
    folder.write_replace(name, content)
    _say(f"{folder}/{name}: {len(content) / 1e6:.1f} MB")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
