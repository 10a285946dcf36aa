"""A corpus of hostile Parquet files through planning, reading and writing: each error names its file, the rest is done.

Without Ray: what the actors add is in tests/jobs. Reading damaged files happens in a process of its own, since a native
library may crash on them.
"""

import io
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import documents, write
from helpers.odd_files import plan, read
from helpers.waiting import LIMIT_SECONDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.model.selection import join_sentences
from bertsum.runs.columns import check_documents, needed_columns, output_schema
from bertsum.runs.input import list_input, read_schema, stream_rows
from bertsum.runs.plan import Terms, make_plan
from bertsum.runs.records import Job, encode
from bertsum.runs.units import Limits
from bertsum.storage.folder import Folder
from bertsum.text.sentences import detect_language, split_sentences

pytestmark = [pytest.mark.faults]


ODD_NAMES = [
    "a b.parquet",
    "k=v%2F.parquet",
    "100%.parquet",
    "ü文😀.parquet",
    "x=/'\".parquet",
    "[*]?.parquet",
    "#.PQ",
]


def test_odd_files_are_read_and_the_others_are_named(tmp_path: Path) -> None:
    source, first = tmp_path / "in", 0
    for name in ODD_NAMES:
        write(documents(3, first_id=first), source / "names" / name)
        first += 3
    text = documents(4)
    write(text.slice(0, 0), source / "shapes" / "no rows.parquet")
    write(text, source / "shapes" / "rows of one.parquet", row_group_size=1)
    with pq.ParquetWriter(source / "shapes" / "no row groups.parquet", text.schema):
        pass
    large = text.set_column(1, "document", text["document"].cast(pa.large_string()))
    write(large, source / "shapes" / "large.parquet")
    write(
        text.set_column(1, "document", text["document"].dictionary_encode()),
        source / "shapes" / "encoded.parquet",
    )
    many = {f"c{i}": pa.array([i] * 4) for i in range(10_000)}
    write(
        pa.table(many | {"id": text["id"], "document": text["document"]}),
        source / "shapes" / "wide.parquet",
    )
    nested = pa.array([[{"a": 1}], None, [], [{"a": None}]])
    write(text.append_column("nested", nested), source / "shapes" / "nested.parquet")
    write(text.set_column(1, "document", pa.array([["a"]] * 4)), source / "bad" / "list.parquet")
    write(pa.table({"id": [1]}), source / "bad" / "no text.parquet")
    data = (source / "names" / "a b.parquet").read_bytes()
    for name, content in {
        "empty": b"",
        "magic": b"XXXX" + data[4:-4] + b"XXXX",
        "cut": data[: len(data) // 2],
        "huge footer": data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        "negative footer": data[:-8] + b"\xff\xff\xff\xff" + b"PAR1",
        "text": b"id,document\n1,a\n",
    }.items():
        (source / "bad" / f"{name}.parquet").write_bytes(content)

    made = plan(source, tmp_path / "out")
    assert sorted(made.problems) == sorted(
        f"bad/{path.name}" for path in (source / "bad").iterdir()
    )
    for path, reason in made.problems.items():
        assert len(reason) > 20, (path, reason)
    rows = read(source, made)
    assert sum(table.num_rows for table in rows) == 3 * len(ODD_NAMES) + 5 * 4


FUZZ = """
import json, sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from helpers.odd_files import plan, read
source = Path(sys.argv[1])
from bertsum.errors import InputError
outcome = {}
for directory in sorted(source.iterdir()):
    try:
        made = plan(directory, Path(sys.argv[2]))
        reason = next(iter(made.problems.values()), None)
        outcome[directory.name] = reason or sum(table.num_rows for table in read(directory, made))
    except InputError as error:
        outcome[directory.name] = str(error)
print(json.dumps(outcome))
"""


def test_flipped_bytes_and_cut_files_are_errors_or_whole(tmp_path: Path) -> None:
    """300 damaged copies of one file: each is an InputError that names it, or as many rows as its footer says."""
    sink = io.BytesIO()
    pq.write_table(documents(60), sink, row_group_size=20, write_page_checksum=True)
    data, chance = sink.getvalue(), random.Random(5)
    for number in range(300):
        damaged = bytearray(data)
        if number % 3 == 0:
            damaged = damaged[: chance.randrange(len(data))]
        else:
            for _ in range(chance.choice([1, 1, 4, 64])):
                damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "in" / f"{number:03d}").mkdir(parents=True)
        (tmp_path / "in" / f"{number:03d}" / "a.parquet").write_bytes(damaged)
    result = subprocess.run(
        [sys.executable, "-c", FUZZ, tmp_path / "in", tmp_path / "out"],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=LIMIT_SECONDS,
        env=_environment(),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    outcome = json.loads(result.stdout)
    assert len(outcome) == 300
    errors = [text for text in outcome.values() if isinstance(text, str)]
    assert len(errors) > 100
    assert all("a.parquet" in text for text in errors)
    assert {count for count in outcome.values() if not isinstance(count, str)} == {60}


def _environment() -> dict[str, str]:
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"}


@pytest.fixture(scope="module")
def summarizer(checkpoint: Path) -> Summarizer:
    return Summarizer(checkpoint, SummarizerConfig(dtype="float32"))


@pytest.fixture(scope="module")
def all_scores(checkpoint: Path) -> Summarizer:
    """The same model, whose summary is every sentence."""
    return Summarizer(
        checkpoint,
        SummarizerConfig(
            dtype="float32", selection=SelectionConfig(size=10**6, trigram_blocking=False)
        ),
    )


def tied(scores: Iterable[float]) -> bool:
    """Whether two of them are so near that the last digits of a number decide which is larger."""
    return any(later - earlier < 2e-4 for earlier, later in itertools.pairwise(sorted(scores)))


TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(max_size=60),
        st.lists(st.sampled_from(["The cat sleeps. ", "a", "。", "\n\n", "\u200b", "\u202e", '"', "word " * 30, "猫"]))
        .map("".join),
    ),
    max_size=12,
)  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=TEXTS, row_group_size=st.integers(1, 5), rows_per_unit=st.integers(1, 6))
def test_any_strings_and_nulls_through_files(
    tmp_path_factory: pytest.TempPathFactory,
    summarizer: Summarizer,
    all_scores: Summarizer,
    texts: list[str | None],
    row_group_size: int,
    rows_per_unit: int,
) -> None:
    """Written as Parquet, cut into units, predicted, encoded, read again: a row a row, in order, with its own words."""
    folder = tmp_path_factory.mktemp("any")
    table = pa.table(
        {"id": pa.array(range(len(texts)), pa.int64()), "document": pa.array(texts, pa.string())}
    )
    write(table, folder / "in" / "a.parquet", row_group_size=row_group_size)
    job = Job("model", "digest", summarizer.config)
    source = list_input(str(folder / "in"))
    check = partial(check_documents, config=summarizer.config)
    terms = Terms(limits=Limits(rows_per_unit, 2**20), check=check)
    units = make_plan(source, Folder(str(folder / "out")), job, terms).units.values()
    results = []
    for unit in units:
        (part,) = unit.slices
        schema = read_schema(source.root, part.path)
        columns = needed_columns(schema, summarizer.config)
        rows = stream_rows(source.root, part.file, part.start, part.stop, columns)
        data, counts = encode(
            list(summarizer.stream(rows)), output_schema(schema, summarizer.config), unit, job
        )
        results.append(pq.read_table(pa.BufferReader(data)))
        assert counts.rows == results[-1].num_rows == unit.num_rows
    result = pa.concat_tables(results).to_pylist()
    assert [row["id"] for row in result] == list(range(len(texts)))
    ones = [(summarizer([text])[0], all_scores([text])[0]) for text in texts]
    for row, text, (alone, every) in zip(result, texts, ones, strict=True):
        assert (row["status"], row["num_sentences"]) == (alone.status, alone.num_sentences)
        chosen = row["summary_sentences"] or []
        assert all(0 <= index < row["num_sentences"] for index in chosen)
        assert len(chosen) <= 3
        if row["summary"]:
            language = detect_language(text or "")
            assert row["summary"] == join_sentences(
                text, split_sentences(text, language), chosen, language
            )
        if not tied(every.summary_scores or []):
            assert chosen == list(alone.summary_sentences or [])
            assert row["summary_scores"] == (
                alone.summary_scores and pytest.approx(alone.summary_scores, abs=1e-4)
            )
        sentiment = alone.sentiment_scores or {}
        assert dict(row["sentiment_scores"] or []) == pytest.approx(sentiment, abs=1e-4)
        if not tied(sentiment.values()):
            assert row["sentiment"] == alone.sentiment
