"""`summarize` on a real Ray reads CSV, TSV, JSON and Parquet of any name, and says what not."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.job_helpers import documents, result_files, write

from jobs import backfill, nightly, prepare, status, summarize

pytestmark = pytest.mark.usefixtures("cluster")


def visible_files(output: Path) -> list[str]:
    """Result files without the copy of INPUT, which is hidden from readers."""
    return [name for name in result_files(output) if not name.startswith("_")]


def read_result(output: Path) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(output / name, partitioning=None) for name in visible_files(output)
    )


def rows(num_rows: int, first_id: int = 0) -> list[dict[str, object]]:
    return documents(num_rows, first_id).to_pylist()


def write_lines(path: Path, table_rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in table_rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def test_json_lines_once_and_again_when_they_have_changed(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write_lines(tmp_path / "in.jsonl.gz", rows(12)), tmp_path / "out"
    command = [str(source), str(output), "--model", str(checkpoint), "--set", "rows_per_unit=5"]
    assert summarize.main([*command, "--dry-run"]) == 0
    assert not output.exists(), "a dry run writes nothing"
    assert "to do 3 with 12 rows" in " ".join(capsys.readouterr().out.split())
    assert summarize.main([*command, "--limit", "5"]) == 0
    assert read_result(output)["id"].to_pylist() == list(range(5))
    assert summarize.main(command) == 0
    assert read_result(output)["id"].to_pylist() == list(range(12))
    reference = tmp_path / "reference"
    write(documents(12), tmp_path / "in.parquet")
    arguments = [str(tmp_path / "in.parquet"), str(reference), *command[2:]]
    assert summarize.main(arguments) == 0
    scores = [
        "summary_scores",
        "sentiment_scores",
    ]  # whose last digits depend on the batch, and so on the cut of units
    assert (
        read_result(output).drop_columns(scores).equals(read_result(reference).drop_columns(scores))
    )
    capsys.readouterr()
    assert summarize.main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert status.main([str(output)]) == 0

    write_lines(source, rows(13))
    capsys.readouterr()
    assert summarize.main(command) == 1
    assert "input that has changed" in capsys.readouterr().err
    assert summarize.main([*command, "--on-existing", "replace"]) == 0
    assert read_result(output)["id"].to_pylist() == list(range(13))


def test_a_directory_of_csv_files_keeps_partitions_and_says_what_it_leaves_out(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, day in enumerate(("dt=2026-11-20", "dt=2026-11-21")):
        (tmp_path / "in" / day).mkdir(parents=True)
        lines = [f'{row["id"]},"{row["document"]}",NA\n' for row in rows(4, 4 * index)]
        (tmp_path / "in" / day / "a.csv").write_text("id,document,region\n" + "".join(lines))
    (tmp_path / "in" / "README").write_text("what these files are")
    output = tmp_path / "out"
    command = [str(tmp_path / "in"), str(output), "--model", str(checkpoint)]
    assert summarize.main(command) == 0
    printed = capsys.readouterr().out
    assert "left out of INPUT: 1 file(s)" in printed and "README" in printed
    assert "column 'region' has 'NA' (4): read as text" in printed
    assert [name.partition("/")[0] for name in visible_files(output)] == [
        "dt=2026-11-20",
        "dt=2026-11-21",
    ]
    assert read_result(output)["id"].to_pylist() == list(range(8))
    assert read_result(output)["region"].to_pylist() == ["NA"] * 8
    for main, options in (
        (summarize.main, ["--partitions", "dt=2026-11-20"]),
        (backfill.main, ["--from", "2026-11-20", "--to", "2026-11-21"]),
    ):
        assert main([*command, *options]) == 2
        assert "CSV, TSV and JSON are read by `bertsum summarize`" in capsys.readouterr().err
    assert nightly.main([*command, "--date", "2026-11-20"]) == 1
    assert (
        "that are no Parquet (they do not begin with PAR1): dt=2026-11-20/a.csv"
        in capsys.readouterr().err
    )
    one_file = [str(tmp_path / "in" / "dt=2026-11-20" / "a.csv"), *command[1:]]
    assert nightly.main([*one_file, "--date", "2026-11-20"]) == 2


def test_files_of_hive_are_read_by_every_command(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = tmp_path / "in" / "dt=2026-11-20"
    write(documents(3), day / "000000_0")
    write(documents(3, 3), day / "b.parquet")
    (day / "_SUCCESS").touch()
    (day / "000001_0").touch()
    common = ["--model", str(checkpoint)]
    for name, main, options in (
        ("all", summarize.main, []),
        ("some", summarize.main, ["--partitions", "dt=*"]),
        ("night", nightly.main, ["--date", "2026-11-20", "--wait-minutes", "0"]),
        ("days", backfill.main, ["--from", "2026-11-20", "--to", "2026-11-20"]),
    ):
        assert main([str(tmp_path / "in"), str(tmp_path / name), *common, *options]) == 0, name
        assert sorted(read_result(tmp_path / name)["id"].to_pylist()) == list(range(6))
        printed = capsys.readouterr()
        assert "left out of INPUT: 1 file(s)" in printed.out + printed.err
        assert "that are empty: dt=2026-11-20/000001_0" in printed.out + printed.err


def test_bytes_and_json_documents(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = documents(6)["document"].to_pylist()
    write(documents(6), tmp_path / "text.parquet")
    write(
        pa.table(
            {"id": range(6), "document": pa.array([text.encode() for text in texts], pa.binary())}
        ),
        tmp_path / "binary.parquet",
    )
    nested = [json.dumps({"payload": {"body": text}}) for text in texts]
    write(pa.table({"id": range(6), "document": nested}), tmp_path / "json.parquet")
    for name, options in (
        ("text", []),
        ("binary", ["--set", "summarizer.text_format=binary"]),
        (
            "json",
            ["--set", "summarizer.text_format=json", "--set", "summarizer.text_path=payload.body"],
        ),
    ):
        arguments = [
            str(tmp_path / f"{name}.parquet"),
            str(tmp_path / name),
            "--model",
            str(checkpoint),
            *options,
        ]
        assert summarize.main(arguments) == 0
        assert read_result(tmp_path / name).equals(read_result(tmp_path / "text"))
    capsys.readouterr()
    plain = [str(tmp_path / "binary.parquet"), str(tmp_path / "other"), "--model", str(checkpoint)]
    assert summarize.main(plain) == 2
    assert "summarizer.text_format=binary" in capsys.readouterr().err


def test_preparing_says_how_a_table_was_read(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = documents(4)["document"].to_pylist()
    labels = ["positive", "None", "negative", "None"]
    lines = [f'"{text}\t{label}\n' for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "train.tsv").write_text("document\tlabel\n" + "".join(lines))
    output = tmp_path / "shards"
    command = [str(tmp_path / "train.tsv"), str(output), "--encoder", str(checkpoint)]
    command += ["--sentiment-column", "label"]
    assert prepare.main([*command, "--dry-run"]) == 0
    assert not output.exists()
    assert prepare.main(command) == 0
    printed = capsys.readouterr().out
    assert "4 field(s) begin with a quotation mark, which is read as text" in printed
    assert "column 'label' has 'None' (2): read as text" in printed
    assert [
        pq.read_table(output / name)["label"].to_pylist() for name in visible_files(output)
    ] == [labels]


def test_a_table_without_a_header_is_refused_by_its_name(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("It works.,positive\nIt broke.,negative\n")
    arguments = [str(tmp_path / "rows.csv"), str(tmp_path / "out"), "--model", str(checkpoint)]
    assert summarize.main(arguments) == 2
    said = capsys.readouterr().err
    assert "rows.csv" in said
    assert "there is no column 'document'" in said
    assert "It works.: string, positive: string" in said
