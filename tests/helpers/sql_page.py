"""jobs/docs/sql.md as its queries; `python tests/helpers/sql_page.py OUTPUT` prints their answers into it.

OUTPUT is what the page's command has written; run both from the top of the project.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

PAGE = Path(__file__).parents[2] / "jobs" / "docs" / "sql.md"
TEXT = PAGE.read_text(encoding="utf-8")
OUTPUT = "out/sample"  # as the page names it

_QUESTION = re.compile(r"^## (.+?)\n.*?^```sql\n(.+?)^```\n\n```text\n(.*?)^```$", re.M | re.S)


def command() -> list[str]:
    """The arguments of the page's `bertsum summarize`."""
    (block,) = re.findall(r"^```\nbertsum summarize (.+?)^```$", TEXT, re.M | re.S)
    return shlex.split(block.replace("\\\n", " "))


def questions() -> Mapping[str, tuple[str, str]]:
    """Query and printed answer by question."""
    found = {question: (query, answer) for question, query, answer in _QUESTION.findall(TEXT)}
    assert len(found) == len(re.findall(r"^## ", TEXT, re.M)), "a question without an answer"
    return found


@contextmanager
def connection(output: str = OUTPUT) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with the page's views; paths are relative to the working directory."""
    views = re.search(r"^```sql\n(CREATE .+?)^```$", TEXT, re.M | re.S)
    assert views is not None
    with duckdb.connect() as database:
        database.execute(views[1].replace(OUTPUT, output))
        yield database


def main() -> None:
    """Write the page with the answers of OUTPUT."""

    def answered(match: re.Match[str]) -> str:
        box = str(database.sql(match[2])).strip()
        lines = [line.rstrip() for line in box.splitlines()]
        return match[0][: match.start(3) - match.start()] + "\n".join(lines) + "\n```"

    with connection(sys.argv[1]) as database:
        PAGE.write_text(_QUESTION.sub(answered, TEXT), encoding="utf-8")


if __name__ == "__main__":
    main()
