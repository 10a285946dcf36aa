"""`match` on a real Ray: the nearest candidates, once, again, and after a change."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import tiny
from helpers.job_helpers import result_files, write

from bertsum.config import SummarizerConfig
from bertsum.inference.summarizer import Summarizer
from bertsum.training.data import read_examples
from bertsum.training.start.source_config import SourceConfig
from jobs import match

pytestmark = pytest.mark.usefixtures("cluster")

CANDIDATES = 40


def texts(count: int, first: int) -> list[str]:
    return [tiny.text(1 + i % 3, first=3 * i + first) for i in range(count)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """25 questions, one of them empty, and 40 answers in two files, one of them empty."""
    answers: list[str | None] = [*texts(CANDIDATES, 1)]
    answers[7] = None
    languages = ["en", "de"] * (CANDIDATES // 2)
    columns = {
        "id": [f"answer {i}" for i in range(CANDIDATES)],
        "text": answers,
        "language": languages,
        "price": range(CANDIDATES),
    }
    table = pa.table(columns)
    write(table.slice(0, 30), tmp_path / "answers" / "a.parquet")
    write(table.slice(30), tmp_path / "answers" / "b.parquet")
    questions: list[str | None] = [*texts(25, 2)]
    questions[4] = None
    seen = [[f"answer {i}", f"answer {i + 1}", "unknown"] if i % 3 else None for i in range(25)]
    columns = {
        "id": range(25),
        "document": questions,
        "language": ["en", "de", "fr", None, "en"] * 5,
        "seen": seen,
    }
    write(pa.table(columns), tmp_path / "questions.parquet", row_group_size=10)
    return tmp_path


def command(corpus: Path, checkpoint: Path, *more: str) -> list[str]:
    paths = [str(corpus / name) for name in ("questions.parquet", "answers", "out")]
    options = ["--model", str(checkpoint), "--candidate-text-column", "text"]
    return [*paths, *options, "--set", "rows_per_unit=10", *more]


def read(corpus: Path) -> pa.Table:
    """The matches: hidden directories are no part of them."""
    names = [name for name in result_files(corpus / "out") if not name.startswith("_")]
    return pa.concat_tables(pq.read_table(corpus / "out" / name) for name in names)


def expected_scores(corpus: Path, checkpoint: Path) -> np.ndarray:
    """[25, 40] cosines by the library alone; nan for a question or answer without a text."""
    config = SummarizerConfig(outputs=("embedding",), dtype="float32")
    summarizer = Summarizer(str(checkpoint), config)
    answers = pq.read_table(corpus / "answers", columns=["text"])["text"].to_pylist()
    questions = pq.read_table(corpus / "questions.parquet")["document"].to_pylist()
    vectors = []
    for values in (questions, answers):
        rows = [prediction.embedding or [np.nan] * 32 for prediction in summarizer(values)]
        vectors.append(np.array(rows, np.float64))
    return vectors[0] @ vectors[1].T


def test_matching(corpus: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(corpus, checkpoint, "--top-k", "3")
    arguments += ["--set", "match.candidate_columns=[price, text]", "--set", "match.dtype=float32"]
    assert match.main([*arguments, "--dry-run"]) == 0
    assert not (corpus / "out").exists()
    assert match.main(arguments) == 0
    result = read(corpus)
    assert result["id"].to_pylist() == list(range(25))
    assert result.column_names == ["id", "language", "seen", "matches", "status", "error",
                                   "num_tokens"]  # fmt: skip
    answers = pq.read_table(corpus / "answers").to_pylist()
    scores = expected_scores(corpus, checkpoint)
    for row in result.to_pylist():
        if row["id"] == 4:
            assert (row["matches"], row["status"]) == (None, "empty")
            continue
        assert [entry["rank"] for entry in row["matches"]] == [1, 2, 3]
        expected = np.sort(np.nan_to_num(scores[row["id"]], nan=-2))[::-1][:3]
        for entry, score in zip(row["matches"], expected, strict=True):
            answer = answers[entry["price"]]
            assert (entry["id"], entry["text"]) == (answer["id"], answer["text"])
            # batches of other sizes round the last bits of vectors in another way
            assert entry["score"] == pytest.approx(score, abs=2e-3)
            assert entry["score"] == pytest.approx(scores[row["id"], entry["price"]], abs=2e-3)
    manifest = json.loads((corpus / "out" / "_candidates/_bertsum/manifest.json").read_text())
    assert manifest["statuses"] == {"ok": 39, "empty": 1}

    # again: nothing to do; one file lost: the same bytes, and no candidate is encoded again
    capsys.readouterr()
    assert match.main(arguments) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2
    lost = corpus / "out" / result_files(corpus / "out")[-1]
    before = lost.read_bytes()
    lost.unlink()
    assert match.main(arguments) == 0
    assert lost.read_bytes() == before
    assert capsys.readouterr().out.count("nothing to do") == 1

    # another candidate: the matches are of other candidates, and are replaced when asked for
    write(pq.read_table(corpus / "answers/b.parquet").slice(1), corpus / "answers/b.parquet")
    assert match.main(arguments) == 1
    assert "--on-existing replace" in capsys.readouterr().err
    assert match.main([*arguments, "--on-existing", "replace"]) == 0
    found = {entry["id"] for row in read(corpus).to_pylist() for entry in row["matches"] or ()}
    assert "answer 30" not in found


def test_matches_are_negatives_to_learn_from(corpus: Path, checkpoint: Path) -> None:
    """`train` reads OUTPUT as it is; what is known to be right is left out by `seen_column`."""
    questions = pq.read_table(corpus / "questions.parquet").drop_columns(["seen"])
    answers = pq.read_table(corpus / "answers")
    questions = questions.append_column("text", answers["text"].slice(0, 25))
    questions = questions.append_column("seen", answers["id"].slice(0, 25))
    write(questions, corpus / "questions.parquet")
    arguments = command(corpus, checkpoint, "--top-k", "4")
    for setting in (
        "candidate_columns=[text]",
        "keep_columns=[document, text]",
        "seen_column=seen",
    ):
        arguments += ["--set", f"match.{setting}"]
    assert match.main(arguments) == 0
    values = {"name": "mined", "text_column": "text", "query_column": "document",
              "negatives_column": "matches", "max_negatives": 3}  # fmt: skip
    examples = read_examples(
        str(corpus / "out"),
        SourceConfig.model_validate(values),
        tiny.document_encoder(),
        tiny.model_config(),
        max_windows=8,
    )
    rows = [row for row in read(corpus).to_pylist() if row["text"]]
    assert len(examples) == len(rows) == 24
    for example, row in zip(examples, rows, strict=True):
        if row["document"] is None:
            assert example.pair is None
            continue
        assert example.pair.query.text == row["document"]
        found = [entry["text"] for entry in row["matches"]]
        wrong = [text for text in found if text != row["text"]]
        assert [text.text for text in example.pair.negatives] == wrong[:3]
        assert len(found) == 4


def test_only_what_may_match_does(corpus: Path, checkpoint: Path) -> None:
    arguments = command(corpus, checkpoint, "--top-k", "40")
    for setting in ("equal_columns=[language]", "seen_column=seen", "min_score=0.3",
                    "keep_columns=[id]", "dtype=float32"):  # fmt: skip
        arguments += ["--set", f"match.{setting}"]
    assert match.main(arguments) == 0
    answers = pq.read_table(corpus / "answers").to_pylist()
    questions = pq.read_table(corpus / "questions.parquet").to_pylist()
    scores = expected_scores(corpus, checkpoint)
    rows = read(corpus).to_pylist()
    assert [row["id"] for row in rows] == list(range(25))
    num_matches = 0
    for question, row in zip(questions, rows, strict=True):
        if question["document"] is None:
            continue
        allowed, doubtful = set(), set()
        for number, answer in enumerate(answers):
            score = scores[question["id"], number]
            is_equal = question["language"] is not None and (
                answer["language"] == question["language"]
            )
            if is_equal and answer["id"] not in (question["seen"] or ()) and score > 0.297:
                # by the rounding of vectors a score at the border may be on either side
                (doubtful if score < 0.303 else allowed).add(answer["id"])
        matched = [entry["id"] for entry in row["matches"]]
        num_matches += len(matched)
        assert allowed <= set(matched) <= allowed | doubtful
        assert len(set(matched)) == len(matched)
    assert num_matches > 20
    assert rows[2]["matches"] == rows[3]["matches"] == []  # French, and no language


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["match.id_column=sku"], "there is no column 'sku' (match.id_column names it)"),
        (["match.equal_columns=[price]"], "there is no column 'price'"),
        (["match.seen_column=language", "match.id_column=price"], "of whole numbers or of lists"),
        (["match.candidate_columns=[rank]"], "fields id, score and rank of its own"),
        (["match.half_life_days=3"], "time_column and half_life_days go together"),
        (["match.user_column=id", "match.keep_columns=[id]"], "cannot be given with user_column"),
    ],
)
def test_wrong_columns_are_refused(
    settings: list[str], message: str, corpus: Path, checkpoint: Path, capsys
) -> None:
    options = [option for setting in settings for option in ("--set", setting)]
    assert match.main(command(corpus, checkpoint, *options, "--dry-run")) == 2
    assert message in capsys.readouterr().err


def test_a_user_column_with_the_name_of_a_made_one_is_refused(
    corpus: Path, checkpoint: Path, capsys
) -> None:
    questions = pq.read_table(corpus / "questions.parquet")
    users = pa.array(["a"] * questions.num_rows)
    write(questions.append_column("Status", users), corpus / "questions.parquet")
    arguments = command(corpus, checkpoint, "--set", "match.user_column=Status", "--dry-run")
    assert match.main(arguments) == 2
    assert "columns ['Status'] have the names of columns of the result" in capsys.readouterr().err


def test_a_family_is_refused(corpus: Path, tmp_path: Path, capsys) -> None:
    family = tiny.family(tmp_path / "family")
    assert match.main(command(corpus, family)) == 2
    assert "vectors of two members cannot be compared" in capsys.readouterr().err


def test_users_with_several_texts(corpus: Path, checkpoint: Path, capsys) -> None:
    questions = pq.read_table(corpus / "questions.parquet")
    users = pa.array([f"user {i % 3}" for i in range(25)])
    write(questions.append_column("user", users), corpus / "questions.parquet", row_group_size=10)
    arguments = command(corpus, checkpoint, "--top-k", "4")
    for setting in ("user_column=user", "seen_column=seen", "dtype=float32"):
        arguments += ["--set", f"match.{setting}"]
    assert match.main(arguments) == 0
    rows = read(corpus).to_pylist()
    assert [(row["user"], row["status"]) for row in rows] == [
        (f"user {number}", "ok") for number in range(3)
    ]
    scores = np.nan_to_num(expected_scores(corpus, checkpoint))
    for number, row in enumerate(rows):
        # the mean's cosines are proportional to the sums of its texts' cosines
        sums = scores[number::3].sum(0)
        seen = {name for names in questions["seen"].to_pylist()[number::3] for name in names or ()}
        allowed = [i for i in range(CANDIDATES) if f"answer {i}" not in seen and i != 7]
        best = sorted(allowed, key=lambda i, sums=sums: -sums[i])[:4]
        chosen = [int(entry["id"].split()[1]) for entry in row["matches"]]
        assert not {entry["id"] for entry in row["matches"]} & seen
        # vectors of float16: near ties may be the other way round
        np.testing.assert_allclose(sums[chosen], sums[best], atol=0.02)
    assert sorted(path.name for path in (corpus / "out").iterdir() if path.is_dir()) == [
        "_bertsum", "_candidates", "_texts", "_users"]  # fmt: skip
    capsys.readouterr()
    assert match.main(arguments) == 0
    assert capsys.readouterr().out.count("nothing to do") == 3
