"""Settings out of range or unusable: a message and exit code 2, for every command; and no traceback."""

from pathlib import Path

import pytest
import yaml
from helpers.job_helpers import documents, make_search, make_training, write

from jobs import cli

RUNS = ("summarize", "nightly", "backfill", "prepare", "evaluate")
_NEEDED = {
    "nightly": ["--date", "2026-11-01"],
    "backfill": ["--from", "2026-11-01", "--to", "2026-11-02"],
    "prepare": ["--summary-column", "document"],
    "evaluate": ["--summary-column", "document"],
}
SETTINGS = [
    "rows_per_unit=.inf", "rows_per_unit=.nan", "rows_per_unit=0", "rows_per_unit=-1", "rows_per_unit=1e30",
    f"rows_per_unit={10**30}", f"max_unit_bytes={10**400}", "max_error_fraction=.nan", "max_error_fraction=-.inf",
    "replica_timeout_seconds=.inf", "replica_timeout_seconds=.nan", "replica_timeout_seconds=-1",
    "resources.num_cpus=.nan", "resources.num_cpus=.inf", "resources.num_cpus=0", "resources.num_cpus=1e-9",
    "resources.num_gpus=.nan", "resources.num_gpus=-1", "resources.num_gpus=1.5", "resources.replicas=.inf",
    f"resources.replicas={10**20}", "resources.timeout_seconds=.nan", "resources.timeout_seconds=1e30",
    "output.keep_days=.inf", "output.keep_days=.nan", "storage_options=[1]", "storage_options.s3=1", "on_existing=both",
    "no_such_key=1", "resources=1", "=1", "rows_per_unit", "rows_per_unit=[", "rows_per_unit=2026-99-99",
]  # fmt: skip
SUMMARIZER = [
    "selection.size=.inf", "selection.size=-.inf", "selection.size=.nan", "selection.size=0", "selection.size=1e300",
    "selection.size=2.5", "max_windows=0", f"max_windows={10**25}", "max_windows=.inf", "dtype=int8", "text_column=[]",
]  # fmt: skip
URIS = ["hdfs://nn/x", "foo://x/y", "", " ", "s3://", "http://", "a\0b", "/nowhere/at/all"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(documents(3), tmp_path / "in" / "dt=2026-11-01" / "a.parquet")
    return tmp_path / "in"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What stderr says of a command that ends with exit code 2."""
    code = cli.main([str(argument) for argument in arguments])
    printed = capsys.readouterr().err
    assert code == 2, f"exit {code}: {printed}"
    assert "error: " in printed
    assert "Traceback" not in printed
    return printed


def command(job: str, source: Path, *more: str) -> list[str]:
    return [job, str(source), str(source.parent / "out"), *_NEEDED.get(job, []), *more]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("job", RUNS)
def test_a_value_of_a_run(
    job: str, setting: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *command(job, source, "--set", setting))
    assert setting.partition("=")[0].rpartition(".")[2] in message
    assert not (source.parent / "out").exists()


@pytest.mark.parametrize("setting", SUMMARIZER)
def test_a_value_of_the_summarizer(
    setting: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = setting.partition("=")[0].rpartition(".")[2]
    assert key in refused(
        capsys, *command("summarize", source, "--dry-run", "--set", f"summarizer.{setting}")
    )
    assert key in refused(capsys, "text", source, "--set", setting)
    assert key in refused(capsys, "benchmark", source, "--set", f"summarizer.{setting}")


@pytest.mark.parametrize("unit", ["characters", "tokens", "share"])
def test_a_number_of_sentences_and_a_budget_of_another_unit(
    unit: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = f"summarizer.selection={{unit: {unit}, size: 1}}"
    message = refused(
        capsys, *command("summarize", source, "--dry-run", "--sentences=1", "--set", setting)
    )
    assert "--sentences 1" in message
    assert unit in message


@pytest.mark.parametrize(
    ("job", "option", "values"),
    [
        ("summarize", "--limit", ["-1", "0", "1.5", "nan", "inf", "x", "", str(10**20)]),
        ("summarize", "--sentences", ["-1", "0", "1.5", "nan", str(10**20)]),
        ("summarize", "--show", ["-1", "nan"]),
        ("evaluate", "--sentences", ["-1", "0"]),
        ("evaluate", "--limit", ["-1"]),
        ("prepare", "--limit", ["0"]),
        ("nightly", "--wait-minutes", ["nan", "-1", "inf", "-inf", "1e300", "x"]),
        ("nightly", "--time-zone", ["", " ", "/etc", "..", "Mars/Base", "null", "3", "Europe"]),
        ("nightly", "--date", ["", "yesterday", "2026-13-01", "9999-12-31"]),
        ("backfill", "--to", ["", "2026-10-01", "9999-12-31"]),
        ("backfill", "--max-hours", ["nan", "-1", "inf"]),
        ("backfill", "--max-documents", ["nan", "-1", "0"]),
        ("backfill", "--price-per-hour", ["nan", "-1", "inf"]),
        ("benchmark", "--price", ["nan", "-1", "inf"]),
        ("benchmark", "--documents", ["0", "-1", "nan"]),
        ("benchmark", "--repetitions", ["0"]),
        ("benchmark", "--corpus", ["0", "-3"]),
        ("submit", "--max-restarts", ["-1", "nan"]),
        ("submit", "--lost-seconds", ["nan", "-1", "inf"]),
    ],
)
def test_a_number_or_name_of_an_option(
    job: str, option: str, values: list[str], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {
        "benchmark": ["benchmark", str(source)],
        "submit": ["submit", "summarize", "/in", "/out"],
    }
    needed = first.get(job) or command(job, source)
    for value in values:
        refused(capsys, *needed, f"{option}={value}")
    assert not (source.parent / "out").exists()


@pytest.mark.parametrize("uri", URIS)
def test_an_input_that_cannot_be_opened(
    uri: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for job in ("summarize", "backfill", "prepare", "evaluate"):
        output, needed = source.parent / "out", _NEEDED.get(job, [])
        refused(capsys, job, uri, output, *needed)
    refused(capsys, "benchmark", uri)
    refused(capsys, "text", uri)


@pytest.mark.parametrize("uri", [uri for uri in URIS if not uri.startswith(("/", "s3", "http"))])
def test_an_output_that_cannot_be_opened(
    uri: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for job in RUNS:
        refused(capsys, job, source, uri, *_NEEDED.get(job, []))
    refused(capsys, "status", uri)


def test_a_format_of_the_log_that_is_none(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTSUM_LOG_FORMAT", "JSON")
    message = refused(capsys, *command("summarize", source, "--dry-run"))
    assert "BERTSUM_LOG_FORMAT is 'JSON'; text or json is expected" in message


def test_a_configuration_file_that_is_none(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "list": b"[1, 2]", "text": b"hello", "number": b"3", "latin": b"summarizer: {language: \xe9}", "nul": b"a: \0",
        "utf16": "rows_per_unit: 3".encode("utf-16"), "tab": b"a:\n\t- b: [", "nested": b"[" * 100_000,
        "alias": b"a: &a 1\nb: *a", "tag": b"!!python/object/apply:os.getcwd []", "key": b"? [1]\n: 2",
        "date": b"a: 2026-99-99",
    }  # fmt: skip
    paths = [tmp_path / "gone.yaml", tmp_path, Path("/dev/null/x")]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)
    for path in paths:
        for job in RUNS:
            refused(capsys, *command(job, source, "--config", str(path)))
        refused(capsys, "text", "-", "--config", path)
        refused(capsys, "benchmark", source, "--config", path)
        refused(capsys, "train", path, tmp_path / "out")
        refused(capsys, "tune", path, tmp_path / "out")


@pytest.mark.parametrize(
    "setting",
    ["epochs=.inf", "epochs=.nan", "head_learning_rate=.nan", "head_learning_rate=.inf", "max_steps=0", "seed=1e30",
     "checkpoint_every_minutes=.nan", "checkpoint_every_minutes=-1", f"max_batch_tokens={10**30}", "clip_norm=.inf",
     "resources.num_cpus=.nan", "model.position_scale=.inf", "sources=[]", "weight_decay=-.inf"],
)  # fmt: skip
def test_a_value_of_training(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = make_training(tmp_path)
    key = setting.partition("=")[0].rpartition(".")[2]
    assert key in refused(capsys, "train", training, tmp_path / "out", "--set", setting)
    search = make_search(tmp_path)
    name, _, value = setting.partition("=")
    if "." not in name and name != "sources":
        values = yaml.safe_load(search.read_text()) | {"space": {name: [yaml.safe_load(value), 1]}}
        search.write_text(yaml.safe_dump(values))
        assert key in refused(capsys, "tune", search, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "setting", ["num_trials=0", "silence_seconds=.nan", f"num_trials={10**30}", "num_trials=.inf"]
)
def test_a_value_of_a_search(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setting.partition("=")[0] in refused(
        capsys, "tune", make_search(tmp_path), tmp_path / "out", "--set", setting
    )
