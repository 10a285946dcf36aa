"""`bertsum publish OUTPUT [PARTITION ...]`: let results through that `output.checks` holds back."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bertsum.config import SummarizerConfig
from bertsum.config_base import load_config
from bertsum.errors import BertsumError, ConfigError
from bertsum.job_config import JobConfig
from bertsum.runs.checking import Checks
from bertsum.runs.commit import Committer
from bertsum.runs.held import APPROVED, HELD, Held, approve, read_held
from bertsum.runs.input import read_schema
from bertsum.runs.partitions import Scope, inside
from bertsum.runs.records import SUCCESS
from bertsum.runs.tables.formats import open_table
from bertsum.runs.units import Limits
from bertsum.storage.folder import Folder, configure
from jobs.observability.lineage import Datasets, recorded
from jobs.options import add_config_options, parse
from jobs.terminal.exit_codes import guard

_MOST_NAMES = 5  # of held partitions that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """The options of the command.

    - `partitions`: patterns of directories; none: the held result of a run over everything.
    - `config`, `settings`: of the run, for its storage_options and openlineage.
    """

    output: str
    partitions: Sequence[str] = ()
    config: Path | None = None
    settings: Sequence[str] = ()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 published, now or before; 1 OUTPUT has changed; 2 no such result is held."""
    leaving = "interrupted; what is let through stays so, and the same command goes on"
    return guard(lambda: publish(parse(PublishOptions, parser(), argv)), leaving)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="bertsum publish",
        description="Publish results that output.checks holds back.",
        epilog="exit codes: 0 published, now or before, 1 OUTPUT has changed, 2 nothing of that "
        "name is held",
    )
    add = options.add_argument
    add("output", metavar="OUTPUT", help="directory that the job wrote to, local or remote")
    add(
        "partitions",
        metavar="PARTITION",
        nargs="*",
        help="directories of OUTPUT, like 'dt=2026-11-22' or 'dt=2026-11-*' (default: the result "
        "of a run over all of INPUT)",
    )
    add_config_options(options, "YAML file of the run, where it has storage_options or openlineage")
    return options


def publish(options: PublishOptions) -> int:
    """Publish what is meant, one group after the other; returns 0.

    Raises ConfigError where nothing of that name is held.
    """
    config = load_config(JobConfig, options.config, options.settings)
    configure(config.storage_options)
    output = Folder(options.output)
    groups = _groups(output, options.partitions)
    for group in groups:
        held = read_held(output, group)
        if held is None or output.info(inside(group, SUCCESS)) is not None:
            print(f"nothing to do: {group or output} is published")
            for record in (APPROVED, HELD):  # of a run that was killed after _SUCCESS
                output.remove(inside(group, record))
            continue
        with recorded(_datasets(output, held), config.openlineage, print) as ending:
            ending.rows = _publish(output, held)
    return 0


def _publish(output: Folder, held: Held) -> int:
    """Let one group through and publish it; returns its rows."""
    # written before anything else: whatever ends this process, a later run publishes it
    approve(output, held)
    table_config = held.output_config
    committer = Committer(
        output=output,
        job=held.job,
        input_uri=held.input_uri,
        limits=Limits(1, 1),  # of new units, and nothing is made here
        max_error_fraction=1.0,  # somebody has looked at the rows
        lake=open_table(table_config, output),
        checks=Checks(output=table_config, day_pattern="", names=table_config, is_replacing=False),
        approved=held,
    )
    counts = committer.commit(held.plan(), {})
    print(f"published {held.group or output}: {counts.rows:,} rows, in spite of")
    for partition, entry in held.checked.items():
        if entry.findings:
            print(f"  {partition or 'all rows'}: {entry.reason}")
    return counts.rows


def _datasets(output: Folder, held: Held) -> Datasets:
    """What the run that was held would tell OpenLineage, but the columns of INPUT.

    INPUT is not read here. What was read of it follows from the columns of a result.
    """
    read: list[str] = []
    schema: pa.Schema | None = None
    config = held.job.config
    assert isinstance(config, SummarizerConfig)  # no other command has checks
    for name in list(held.files)[:1]:
        with suppress(BertsumError):  # what is wrong with a file ends the commit, and is told there
            schema = read_schema(output, name)
    if schema is not None:
        read = [name for name in schema.names if name not in config.predicted.names]
        optional = (config.language_column, config.targets_column, config.query_column)
        read += [name for name in (config.text_column, *optional) if name and name not in read]
    return Datasets(
        command="summarize",
        input_uri=held.input_uri,
        output_uri=output.uri,
        read_columns=read,
        output_schema=schema,
    )


def _groups(output: Folder, patterns: Sequence[str]) -> list[str]:
    """Names of the groups that are meant.

    Raises ConfigError for a pattern that fits neither a held nor a published one.
    """
    if not patterns and output.info(HELD) is not None:
        return [""]
    groups: dict[str, None] = {}
    listed = output.list_names(also=HELD)
    held = [name.removesuffix(f"/{HELD}") for name in listed if name.endswith(f"/{HELD}")]
    for pattern in patterns:
        # a directory may be named `a[1]`, and messages name it so
        matching = [pattern] if pattern in held else list(filter(Scope((pattern,)).holds, held))
        if not matching and output.info(inside(pattern, SUCCESS)) is not None:
            matching = [pattern]
        if not matching:
            raise ConfigError(f"{output}/{pattern} is not held{_others(held)}")
        groups |= dict.fromkeys(sorted(matching))
    if not groups:
        raise ConfigError(f"{output} has no held result of a run over all of INPUT{_others(held)}")
    return list(groups)


def _others(held: Sequence[str]) -> str:
    if not held:
        return "; nothing is"
    more = " ..." if len(held) > _MOST_NAMES else ""
    return f"; held are {', '.join(sorted(held)[:_MOST_NAMES])}{more}"


if __name__ == "__main__":
    sys.exit(main())
