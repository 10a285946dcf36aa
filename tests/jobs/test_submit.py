"""`bertsum submit` against a real Ray with its job server: what arrives, what does not leak, what ends how."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import tiny_seq2seq
from helpers.job_helpers import documents, losses, make_training, read_result, write
from helpers.ray_nodes import Cluster, free_port, start_submit
from helpers.waiting import LIMIT_SECONDS

from bertsum.errors import ConfigError
from jobs.submit import make_request

TOKEN = "a-token-of-forty-characters-for-the-tests"
SECRET = "swordfish-4711-swordfish"


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    """Two CPUs, a job server, and a token without which it does not talk."""
    directory = Path(
        tempfile.mkdtemp(prefix="bertsum-ray-")
    )  # pytest's own is too long for Ray's sockets
    found = Cluster(directory, num_cpus=2, token=TOKEN)
    yield found
    found.stop()
    shutil.rmtree(directory)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write(documents(600), tmp_path / "in" / "a.parquet")
    return tmp_path / "in"


def start(*arguments: object, **variables: str) -> "subprocess.Popen[str]":
    return start_submit(*arguments, **{"RAY_AUTH_TOKEN": TOKEN, **variables})


def run(*arguments: object, **variables: str) -> tuple[int, str]:
    """Exit code, and what it printed."""
    job = start(*arguments, **variables)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    return job.returncode, printed


def submission_of(printed: str) -> str:
    return re.findall(r"bertsum-summarize-[0-9a-f]{12}-\d+", printed)[0]


@pytest.mark.slow
def test_a_job_is_sent_followed_and_found_again(
    cluster: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    config = tmp_path / "job.yaml"
    config.write_text("rows_per_unit: 100\n")
    command = ["summarize", source, tmp_path / "out", "--model", checkpoint, "--config", config]
    command += ["--address", cluster.address, "--env", "BERTSUM_TEST_SECRET"]
    first = start(*command, BERTSUM_TEST_SECRET=SECRET)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (tmp_path / "out").exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)  # until it runs
    code, printed = run(*command, BERTSUM_TEST_SECRET=SECRET)  # the same command meanwhile
    first_printed, _ = first.communicate(timeout=LIMIT_SECONDS)
    assert (first.returncode, code) == (0, 0), first_printed + printed
    submission = submission_of(first_printed)
    assert f"{submission} sent to {cluster.address}" in first_printed
    assert f"{submission} is running already; following it" in printed
    for log in (first_printed, printed):
        assert "6 of 6 units to do" in log
        assert re.search(r"rows ok +600\b", log)
    assert read_result(tmp_path / "out")["id"].to_pylist() == list(range(600))

    code, printed = run(*command, BERTSUM_TEST_SECRET=SECRET)  # and after it: OUTPUT has everything
    assert code == 0
    assert "nothing to do" in printed
    assert submission_of(printed) == submission[:-1] + "2"

    shown = status(cluster, submission, "--json")
    assert (shown["state"], shown["exit_code"]) == ("SUCCEEDED", 0)
    assert (
        f"summarize {source} {tmp_path}/out --model {checkpoint} --config job.yaml"
        in shown["command"]
    )
    assert SECRET not in json.dumps(shown)
    logs = [path for path in (cluster.directory / "ray").rglob("logs/**/*") if path.is_file()]
    assert any(submission in path.name for path in logs)
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]


def status(cluster: Cluster, submission: str, *options: str) -> dict[str, object]:
    command = [
        sys.executable,
        "-m",
        "jobs.cli",
        "status",
        submission,
        "--address",
        cluster.address,
        *options,
    ]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"RAY_AUTH_TOKEN": TOKEN},
        timeout=LIMIT_SECONDS,
    )
    assert found.stdout, found.stderr
    return json.loads(found.stdout)


@pytest.mark.slow
def test_variables_reach_the_driver_and_the_workers(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.remote.job_server import JobServer
    from jobs.remote.shipment import packed

    monkeypatch.setenv("BERTSUM_TEST_SECRET", SECRET)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    request = make_request(
        "summarize", [str(tmp_path), str(tmp_path / "out")], ["BERTSUM_TEST_SECRET"]
    )
    program = (
        "import hashlib, os, ray; from jobs.shipped import take_environment; take_environment();"
        "digest = lambda: hashlib.sha256(os.environ['BERTSUM_TEST_SECRET'].encode()).hexdigest();"
        "ray.init(log_to_driver=False); print(digest(), ray.get(ray.remote(digest).remote()))"
    )
    server = JobServer(cluster.address)
    with packed(request, "send") as runtime_env:
        name = server.submit_job(entrypoint=f'python -c "{program}"', runtime_env=dict(runtime_env))
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (job := server.get_job_info(name)).status.is_terminal():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job.status == "SUCCEEDED", server.get_job_logs(name)
    driver, worker = server.get_job_logs(name).split()[-2:]
    assert driver == worker
    assert len(driver) == 64


@pytest.mark.slow
def test_a_job_that_is_wrong_ends_with_its_own_code_and_can_be_sent_again(
    cluster: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    command = [
        "summarize",
        source,
        tmp_path / "out",
        "--model",
        checkpoint,
        "--address",
        cluster.address,
    ]
    command += ["--set", "rows_per_unit=0"]
    for attempt in "12":
        code, printed = run(*command)
        assert code == 2, printed
        assert "rows_per_unit: Input should be greater than or equal to 1" in printed
        assert submission_of(printed).endswith(f"-{attempt}")


@pytest.mark.slow
def test_other_jobs_go_the_same_way(
    cluster: Cluster, source: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """A night without input, a night with input, then a training run, whose configuration is an argument of its own."""
    night = [
        "nightly",
        tmp_path / "nights",
        tmp_path / "out",
        "--model",
        checkpoint,
        "--address",
        cluster.address,
    ]
    night += ["--date", "2026-11-22", "--json"]
    code, printed = run(*night)
    assert (code, '"state": "no_input"' in printed) == (1, True), printed
    write(documents(30), tmp_path / "nights" / "dt=2026-11-22" / "a.parquet")
    code, printed = run(*night)
    assert (code, '"rows_made": 30' in printed) == (0, True), printed
    config = make_training(
        tmp_path / "training", resources={"replicas": 1, "num_cpus": 1}, max_steps=3
    )
    code, printed = run("train", config, tmp_path / "model", "--address", cluster.address)
    assert code == 0, printed
    assert len(losses(tmp_path / "model")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("is_second_stage", [False, True], ids=["generate", "then"])
def test_written_summaries(
    is_second_stage: bool, cluster: Cluster, checkpoint: Path, tmp_path: Path
) -> None:
    """`generate`, and `summarize --then` with its two files, whose names hold on the cluster."""
    model = tiny_seq2seq.save(tmp_path / "bart")
    write(documents(30), tmp_path / "in" / "a.parquet")
    config, then = tmp_path / "job.yaml", tmp_path / "generate.yaml"
    sentences = {"sentences_model": str(checkpoint)}
    decoding = {"generate": {"decoding": {"max_tokens": 12}}}
    command = [tmp_path / "in", tmp_path / "out", "--config", config]
    if is_second_stage:
        config.write_text("rows_per_unit: 10\n")
        then.write_text(json.dumps({"model": str(model)} | sentences | decoding))
        command = ["summarize", *command, "--model", checkpoint, "--then", then]
    else:
        config.write_text(json.dumps({"rows_per_unit": 10} | sentences | decoding))
        command = ["generate", *command, "--model", model]
    command += ["--address", cluster.address]
    code, printed = run(*command)
    assert code == 0, printed
    assert "3 of 3 units to do" in printed
    result = read_result(tmp_path / "out")
    assert result["id"].to_pylist() == list(range(30))
    assert result["abstract_status"].to_pylist() == ["ok"] * 30
    assert ("summary" in result.schema.names) == is_second_stage
    code, printed = run(*command)
    assert (code, "nothing to do" in printed) == (0, True), printed


@pytest.mark.slow
def test_a_job_is_cancelled(cluster: Cluster, checkpoint: Path, tmp_path: Path) -> None:
    write(documents(60_000), tmp_path / "in" / "a.parquet")
    command = [
        "summarize",
        tmp_path / "in",
        tmp_path / "out",
        "--model",
        checkpoint,
        "--address",
        cluster.address,
    ]
    code, printed = run(*command, "--no-wait")
    assert code == 0
    follower = start(*command)
    assert follower.stdout is not None
    assert "following it" in follower.stdout.readline()  # a later one would send the job again
    code, said = run(*command, "--cancel")
    assert code == 0, said
    assert f"{submission_of(printed)} stopped" in said
    followed, _ = follower.communicate(timeout=LIMIT_SECONDS)
    assert follower.returncode == 1, followed
    assert "was stopped; what is done stays, and the same command resumes" in followed
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    code, said = run(*command, "--cancel")
    assert (code, "is not running" in said) == (2, True), said


@pytest.mark.slow
def test_servers_that_are_not_there_or_do_not_want_us(cluster: Cluster, tmp_path: Path) -> None:
    command = ["summarize", tmp_path, tmp_path / "out", "--address"]
    code, printed = run(*command, f"http://127.0.0.1:{free_port()}")
    assert (code, "Connection refused" in printed) == (1, True), printed  # it may come up yet
    code, printed = run(
        *command, cluster.address, RAY_AUTH_TOKEN="a-wrong-token-that-nobody-has-ever-issued"
    )
    assert (code, "RAY_AUTH_TOKEN" in printed) == (2, True), printed
    assert TOKEN not in printed
    code, printed = run(*command, "ray://127.0.0.1:10001")
    assert (code, "http://HOST:8265" in printed) == (2, True), printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["s3://key:secret@bucket/in", "s3://bucket/out"],
            r"s3://\*\*\*@bucket/in holds credentials.*--env",
        ),
        (["news", "s3://bucket/out"], "input 'news' is a path on this machine"),
        (["/in", "out"], "output 'out' is a path on this machine"),
        (["/in", "/out", "--model", "tests"], "model 'tests' is a path on this machine"),
        (["/in", "/out", "--config", "/nowhere.yaml"], "no configuration file /nowhere.yaml"),
    ],
)
def test_arguments_that_cannot_hold_on_a_cluster(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_request("summarize", arguments, [])


@pytest.mark.parametrize("model", ["tests", "mine=tests"])
def test_each_model_of_evaluate_holds_on_the_cluster(model: str) -> None:
    arguments = ["/in", "/out", "--model", "base=", "--model", "a-name-on-a-hub"]
    make_request("evaluate", [*arguments, "--model", "mine=/on/all/nodes"], [])
    with pytest.raises(ConfigError, match="model 'tests' is a path on this machine"):
        make_request("evaluate", [*arguments, "--model", model], [])


def test_the_candidates_of_match_hold_on_the_cluster() -> None:
    request = make_request("match", ["s3://b/in", "s3://b/candidates", "s3://b/out"], [])
    assert request.entrypoint.endswith("match s3://b/in s3://b/candidates s3://b/out")
    with pytest.raises(ConfigError, match="candidates 'answers' is a path on this machine"):
        make_request("match", ["s3://b/in", "answers", "s3://b/out"], [])


def test_publish_goes_to_the_cluster_that_sees_output() -> None:
    request = make_request("publish", ["s3://b/out", "dt=2026-11-22"], [])
    assert request.entrypoint.endswith("jobs.shipped publish s3://b/out dt=2026-11-22")
    assert request.output == "s3://b/out"
    with pytest.raises(ConfigError, match="output 'out' is a path on this machine"):
        make_request("publish", ["out", "dt=2026-11-22"], [])


def test_jobs_and_variables_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"no job 'text' to submit; there are summarize"):
        make_request("text", ["-"], [])
    with pytest.raises(ConfigError, match=r"--env NOT_SET_ANYWHERE: there is no such variable"):
        make_request("summarize", ["/in", "/out"], ["NOT_SET_ANYWHERE"])
    with pytest.raises(SystemExit) as ended:
        make_request("summarize", ["/in", "/out", "--no-such-option"], [])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("job.yaml", "model: s3://b/bart", "--config and --then are both called job.yaml"),
        ("then.yaml", "model: tests", "model 'tests' is a path on this machine"),
        ("then.yaml", "models: x", "models: there is no such key"),
        (None, "", "there is no configuration file"),
    ],
)
def test_the_file_of_the_second_stage(
    name: str | None, content: str, message: str, tmp_path: Path
) -> None:
    config, then = tmp_path / "job.yaml", tmp_path / "b" / (name or "none.yaml")
    config.write_text("rows_per_unit: 7\n")
    then.parent.mkdir()
    if name is not None:
        then.write_text(content)
    arguments = ["/in", "/out", "--config", str(config), "--then", str(then)]
    with pytest.raises(ConfigError, match=message):
        make_request("summarize", arguments, [])


def test_what_is_the_same_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, other = tmp_path / "job.yaml", tmp_path / "elsewhere" / "job.yaml"
    other.parent.mkdir()
    config.write_text("rows_per_unit: 7\n")
    other.write_text("rows_per_unit: 7\n")
    arguments = ["/in", "/out", "--set", f"summarizer.text_column={config}"]
    request = make_request("summarize", [*arguments, "--config", str(config)], [])
    assert request.arguments == (*arguments, "--config", "job.yaml")
    assert request.entrypoint.startswith("python -m jobs.shipped summarize /in /out --set ")
    assert request.output == "/out"
    same = make_request("summarize", [*arguments, "--config", str(other)], [])
    assert same.base_id == request.base_id
    assert (
        make_request("summarize", [*arguments, f"--config={config}"], []).arguments[-1]
        == "--config=job.yaml"
    )
    monkeypatch.setenv("A_NAME", "x")
    ids = {
        request.base_id,
        make_request("summarize", [*arguments, "--config", str(config)], ["A_NAME"]).base_id,
    }
    other.write_text("rows_per_unit: 8\n")
    ids.add(make_request("summarize", [*arguments, "--config", str(other)], []).base_id)
    ids.add(make_request("summarize", arguments, []).base_id)
    assert len(ids) == 4
    then = tmp_path / "generate.yaml"
    then.write_text("model: s3://b/bart\n")
    two = make_request("summarize", [*arguments, f"--then={then}", "--config", str(config)], [])
    assert two.arguments == (*arguments, "--then=generate.yaml", "--config", "job.yaml")
    base_id = two.base_id
    then.write_text("model: s3://b/pegasus\n")  # as it is now is what is sent
    assert two.base_id != base_id
    trained = make_request("train", [str(config), "/out"], [])
    assert trained.arguments == ("job.yaml", "/out")
