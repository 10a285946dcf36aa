"""Documents with their texts of INPUT, and where the chosen sentences stand in them."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.report_runs import Run, predict, write_documents

from bertsum.config import SummarizerConfig
from bertsum.reports.documents import ReportDocument, read_documents, sample_rows
from bertsum.reports.readings import MOST_CHARACTERS
from bertsum.reports.result import read_result
from bertsum.runs.importing import find_input
from bertsum.runs.records import Job
from bertsum.schema import Prediction
from bertsum.storage.folder import Folder

TEXTS = ["Alpha 😀 one. Beta two. Gamma three.", "Plain. Words. Here.", None]


def documents(run: Run, input_uri: str | None = None) -> list[ReportDocument]:
    result = read_result(run.output)
    return read_documents(result, sample_rows(result.num_rows, 1000), input_uri)


def in_utf16(text: str, start: int, stop: int) -> str:
    """What JavaScript's `slice` gives."""
    return text.encode("utf-16-le")[2 * start : 2 * stop].decode("utf-16-le")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_documents(tmp_path / "in", {"dt=1": TEXTS, "dt=2": TEXTS[:2]})
    return Run(tmp_path / "in", tmp_path / "out", rows_per_unit=2).run()


def test_texts_are_read_again(run: Run) -> None:
    made = documents(run)
    assert [document.text for document in made] == [*TEXTS, *TEXTS[:2]]
    assert [document.row for document in made] == [0, 1, 2, 0, 1]
    assert made[2].problem == "the row has no text"
    assert made[3].partition == "dt=2"
    assert made[3].columns == [("id", "dt=2-0")]


def test_offsets_are_those_of_javascript(run: Run) -> None:
    first = documents(run)[0]
    (reading,) = first.readings
    assert first.text is not None and reading.spans is not None
    chosen = [in_utf16(first.text, *span) for span in reading.spans]
    assert chosen == ["Alpha 😀 one", "Gamma three."]
    assert reading.sentences is not None and reading.aspects is not None
    assert in_utf16(first.text, *reading.sentences[1][:2]) == "Beta two"
    assert in_utf16(first.text, *reading.aspects[0][:2]) == "Alpha 😀 one"


def test_a_sample_is_the_same_each_time_and_ascends() -> None:
    sample = sample_rows(100_000_000, 2000)
    assert sample == sample_rows(100_000_000, 2000) == sorted(set(sample))
    assert len(sample) == 2000
    assert sample_rows(3, 2000) == [0, 1, 2]


def test_input_that_is_gone_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in" / "dt=1" / "documents.parquet").unlink()
    made = documents(run)
    assert {document.text for document in made[:3]} == {None}
    assert made[0].problem == "dt=1/documents.parquet is gone from INPUT"
    assert made[3].text == TEXTS[0]
    assert made[0].readings[0].summary == "Alpha 😀 one Gamma three."


def test_input_that_has_changed_is_not_shown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "in" / "dt=1" / "documents.parquet"
    os.utime(path, (0, 0))
    made = documents(run)
    assert made[0].text is None
    assert made[0].problem is not None and "has changed" in made[0].problem


def test_input_that_was_moved_is_read_where_the_user_says(run: Run, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "in", tmp_path / "moved")  # whose files have other times
    shutil.rmtree(tmp_path / "in")
    assert documents(run)[0].text is None
    assert documents(run, str(tmp_path / "moved"))[0].text == TEXTS[0]
    # another file of that name and of another size is another text
    write_documents(tmp_path / "moved", {"dt=1": ["Other words that are more."] * 90})
    assert documents(run, str(tmp_path / "moved"))[0].text is None


def test_credentials_that_the_records_lack_are_asked_for(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "out" / "_bertsum" / "manifest.json"
    path.write_text(path.read_text().replace(str(tmp_path / "in"), "s3://***@bucket/in"))
    problem = documents(run)[0].problem
    assert problem is not None and "--input" in problem


def test_the_copy_of_a_csv_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,document\n1,Alpha. Beta. Gamma.\n")
    output = tmp_path / "out"
    files = find_input(str(tmp_path / "in.csv"), Folder(str(output)))
    run = Run(tmp_path / "in.csv", output, files=files).run()
    (document,) = documents(run)
    assert document.text == "Alpha. Beta. Gamma."


def test_without_recorded_spans_the_text_is_split_again(tmp_path: Path) -> None:
    """As the run did it, whose sentences here are those of the library's own rules."""
    config = SummarizerConfig.model_validate({"language": "en", "output": {"prefix": "ai_"}})
    text = "The council voted on Monday. Traffic will wait. The bridge is new."

    def by_rules(text: str, number: int) -> Prediction:
        return Prediction(
            predict(text, 0).status,
            summary="The bridge is new.",
            summary_sentences=[2],
            summary_scores=[0.75],
            num_sentences=3,
            num_tokens=12,
        )

    write_documents(tmp_path / "in", {"": [text, "One sentence only."]})
    run = Run(tmp_path / "in", tmp_path / "out", job=Job("m", "d", config), predict=by_rules).run()
    first, second = documents(run)
    assert first.readings[0].spans is not None
    assert [in_utf16(text, *span) for span in first.readings[0].spans] == ["The bridge is new."]
    assert first.readings[0].chosen_scores == [0.75]
    # its row says that it has three sentences, and its text has one
    assert second.readings[0].spans is None


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    text = "Word here. " * 3000
    write_documents(tmp_path / "in", {"": [text]})
    (document,) = documents(Run(tmp_path / "in", tmp_path / "out").run())
    assert document.text == text[:MOST_CHARACTERS]
    assert document.cut == len(text) - MOST_CHARACTERS
    assert document.readings[0].sentences is not None
    assert max(sentence[1] for sentence in document.readings[0].sentences) <= MOST_CHARACTERS


def test_embeddings_are_left_out(run: Run, tmp_path: Path) -> None:
    config = SummarizerConfig.model_validate({"outputs": ["embedding"]})

    def embedded(text: str, number: int) -> Prediction:
        return Prediction(predict(text, number).status, summary="a", embedding=[0.25, 0.5])

    job = Job("m", "d", config)
    other = Run(tmp_path / "in", tmp_path / "out2", job=job, predict=embedded).run()
    names = [name for document in documents(other) for name, _ in document.columns]
    assert set(names) == {"id"}
    (path, *_) = (tmp_path / "out2").rglob("*.parquet")
    assert "embedding" in pq.read_schema(path).names
