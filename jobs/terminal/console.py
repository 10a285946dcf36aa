"""Where tables for people are printed, and their common shape."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from bertsum.schema import MIXED
from jobs.terminal.log_lines import is_json, json_line

_PLAIN_WIDTH = 120  # of tables that go to a file or a pipe


class JobConsole(Console):
    """A console whose prints are lines of JSON, where these are asked for."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does. A table is one line of JSON."""
        if not is_json():
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        lines = [line.rstrip() for line in captured.get().splitlines()]
        print(json_line("message", "\n".join(lines)), file=self.file, flush=True)


console = JobConsole(highlight=False, markup=False)
if not console.is_terminal:
    console = JobConsole(highlight=False, markup=False, width=_PLAIN_WIDTH)


def grid() -> Table:
    """Two columns without lines: a name and what there is to say of it."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def sentiment_text(sentiment: str | None, scores: Iterable[tuple[str, float]]) -> str:
    """`positive 0.93`, or a dash. `scores`: pairs of label and probability; `mixed` has none."""
    if sentiment is None or sentiment == MIXED:
        return sentiment or "-"
    return f"{sentiment} {dict(scores)[sentiment]:.2f}"
