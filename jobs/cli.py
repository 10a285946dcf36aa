"""`bertsum <command>`: finds the command's module and hands over.

Nothing heavy is imported for `--help`.
"""

import importlib
import sys
from collections.abc import Sequence

from bertsum import __version__
from jobs.terminal.exit_codes import guard

COMMANDS = {
    "summarize": "documents in (Parquet, CSV or JSON), summaries and sentiment out, on Ray",
    "nightly": "summarize the partition of one day: yesterday's, if no other is given",
    "backfill": "summarize the partitions of many days, in waves, within a budget",
    "text": "one document, without a cluster",
    "prepare": "labelled rows in, training shards out",
    "train": "labelled Parquet files in, a checkpoint out",
    "tune": "many training runs, and the best configuration",
    "evaluate": "what models are worth on labelled rows, beside baselines",
    "generate": "written summaries and translations, by any sequence-to-sequence model",
    "match": "the nearest candidates of each text: answers, articles, products",
    "submit": "a job on a cluster, from outside it",
    "benchmark": "how fast this machine is, what holds it up, and what a corpus costs",
    "status": "what a run in OUTPUT has done, and what is missing",
    "publish": "let a result through that was held back from readers",
    "report": "what a run made, as one HTML page; or two runs side by side",
    "monitor": "sentiment over time by topic, entity or any column, with alarms",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the job failed or is incomplete, 2 command or config wrong."""
    return guard(lambda: _run(list(sys.argv[1:] if argv is None else argv)))


def _run(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        print(_usage())
        return 0
    if arguments[:1] == ["--version"]:
        print(f"bertsum {__version__}")
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        wrong = f"bertsum: there is no command {arguments[0]!r}\n\n" if arguments else ""
        print(wrong + _usage(), file=sys.stderr)
        return 2
    # Imported by name: the other commands, and the libraries that they need, stay unloaded.
    command = importlib.import_module(f"jobs.{arguments[0]}")
    return int(command.main(arguments[1:]))


def _usage() -> str:
    commands = "\n".join(f"  {name:<12}{text}" for name, text in COMMANDS.items())
    return (
        f"usage: bertsum <command> [options]\n\n{commands}\n\n"
        "`bertsum <command> --help` lists a command's options."
    )


if __name__ == "__main__":
    sys.exit(main())
