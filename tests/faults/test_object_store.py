"""Folder on S3 over real HTTP: exclusive create, its probe, retries and their limits, permissions, one fetch a node."""

import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import fsspec
import pytest
from helpers.job_helpers import winners
from helpers.store import SECRET, Store
from helpers.waiting import LIMIT_SECONDS

from bertsum.checkpoints.locate import resolve
from bertsum.errors import InputError, ModelError, OutputError
from bertsum.runs.importing import find_input
from bertsum.runs.input import list_input, read_footers
from bertsum.storage import folder as storage
from bertsum.storage.folder import Folder, configure, mask
from bertsum.storage.lock import Claim

pytestmark = [pytest.mark.faults]


@pytest.fixture(autouse=True)
def _fresh_connections() -> None:
    fsspec.filesystem("s3").clear_instance_cache()


def folder(store: Store) -> Folder:
    return Folder(f"{store.uri}/out")


@pytest.mark.parametrize("size", [10, 101 * 2**20])  # the second goes up in parts
def test_create_exclusive_makes_an_object_once(store: Store, size: int) -> None:
    out = folder(store)
    assert out.create_exclusive("dt=1/a b%.parquet", b"1" * size)
    assert not out.create_exclusive("dt=1/a b%.parquet", b"2" * size)
    assert out.read_bytes("dt=1/a b%.parquet")[:10] == b"1" * 10
    assert out.list_names().keys() == {"dt=1/a b%.parquet"}
    assert out.info("dt=1/a b%.parquet") == out.list_names()["dt=1/a b%.parquet"]


def test_one_of_many_writers_wins(store: Store) -> None:
    won = winners(lambda data: folder(store).create_exclusive("unit", data), 1000)
    assert len(won) == 1
    assert folder(store).read_bytes("unit") == won * 1000


def test_the_probe_finds_a_store_that_ignores_the_condition(store: Store) -> None:
    assert folder(store).can_create_exclusively()
    with store.proxy.rule("PUT", "_bertsum", "drop_header", times=10):
        assert not folder(store).can_create_exclusively()
    assert store.objects() == {}


@pytest.mark.parametrize("action", ["slow_down", "internal", "reset"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_probe_and_a_claim_survive_a_lost_answer(store: Store, action: str, when: str) -> None:
    """`after`: the object is there, and the repeated request is refused because of it."""
    out = folder(store)
    with store.proxy.rule("PUT", "_bertsum", action, when=when) as rule:
        assert out.can_create_exclusively()
    assert rule.seen == 1
    with store.proxy.rule("PUT", "claims", action, when=when) as rule, Claim(out, print) as claim:
        claim.check()
        with (
            pytest.raises(OutputError, match=rf"is in use: a run on .* \(process {os.getpid()}\)"),
            Claim(out, print),
        ):
            pass
    assert rule.seen == 1
    with Claim(out, print) as claim:
        claim.check()
    assert sorted(store.objects()) == ["out/claims/00000001.json", "out/claims/00000002.json"]


def test_the_probes_of_killed_runs_go_after_an_hour(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder(store)
    out.write_replace("_bertsum/.bertsum-0123.tmp", b"first")
    out.write_replace("_bertsum/plan.json", b"{}")
    out.sweep_temporary("dt=1")
    assert len(store.objects()) == 2
    monkeypatch.setattr(storage, "_UNTOUCHED_SECONDS", 0.5)  # a store counts whole seconds
    time.sleep(2)
    out.sweep_temporary("dt=1")
    assert list(store.objects()) == ["out/_bertsum/plan.json"]


def test_a_copy_of_json_rows_of_which_an_answer_is_lost(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    with store.proxy.rule("PUT", r"_bertsum/input/\w+\.json", "reset", when="after") as rule:
        found = find_input(str(tmp_path / "a.jsonl"), folder(store))
    assert rule.seen == 1
    assert found.files == find_input(str(tmp_path / "a.jsonl"), folder(store)).files
    shards, problems = read_footers(found, found.files)
    assert ([shard.num_rows for shard in shards], problems) == ([2], {})


def test_without_exclusive_create_the_first_is_kept_and_the_object_is_whole(store: Store) -> None:
    out = Folder(f"{store.uri}/out", exclusive=False)
    assert out.create_exclusive("unit", b"first")
    assert not out.create_exclusive("unit", b"second")
    assert out.read_bytes("unit") == b"first"


@pytest.mark.parametrize("action", ["slow_down", "internal", "reset"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_failures_of_a_moment_are_retried(store: Store, action: str, when: str) -> None:
    """`after`: the request took effect and its answer was lost, so that its repetition finds the object."""
    out = folder(store)
    with store.proxy.rule("PUT", "unit", action, when=when, times=2) as rule:
        created = out.create_exclusive("unit", b"data")
    assert rule.seen == 2 if when == "before" else rule.seen >= 1
    assert created is (when == "before")
    with store.proxy.rule("GET", "unit", action, when=when, times=2) as rule:
        assert out.read_bytes("unit") == b"data"
    assert rule.seen == 2
    with store.proxy.rule("GET", "list-type", action, times=2) as rule:
        assert list(out.list_names()) == ["unit"]
    assert rule.seen == 2


def test_a_request_that_is_never_answered_is_sent_again(store: Store) -> None:
    configure({"s3": {"config_kwargs": {"read_timeout": 1}}})
    try:
        with store.proxy.rule("PUT", "unit", "silence") as rule:
            assert folder(store).create_exclusive("unit", b"data")
        assert rule.seen == 1
    finally:
        fsspec.config.conf.pop("s3")


def test_retries_wait_longer_and_longer_and_have_a_limit(store: Store) -> None:
    times: list[float] = []
    seen = -1

    def watch() -> None:
        nonlocal seen
        while not stop.is_set():
            if rule.seen != seen:
                seen = rule.seen
                times.append(time.monotonic())
            stop.wait(0.005)

    stop = threading.Event()
    with store.proxy.rule("PUT", "unit", "internal", times=1000) as rule:
        thread = threading.Thread(target=watch)
        thread.start()
        with pytest.raises(OutputError, match=r"cannot create s3://.*/out/unit: .*internal error"):
            folder(store).create_exclusive("unit", b"data")
        stop.set()
        thread.join()
    assert 5 <= rule.seen <= 25
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Each is a random part of a limit that doubles from 1 s on. Sums, since a part may be near 0, and
    # a busy machine makes the first ones longer.
    assert sum(pauses[-3:]) > max(2, 2 * sum(pauses[:2])), pauses
    assert len({round(pause, 2) for pause in pauses}) > len(pauses) / 2, f"no jitter: {pauses}"
    assert folder(store).info("unit") is None


@pytest.mark.parametrize(
    ("method", "path", "action", "words"),
    [
        ("PUT", "unit", lambda store: folder(store).create_exclusive("unit", b""), ["create", "/unit", "s3:PutObject"]),
        ("GET", "unit", lambda store: folder(store).read_bytes("unit"), ["read", "out/unit", "s3:GetObject"]),
        ("GET", "list-type", lambda store: folder(store).list_names(), ["list", "/out", "s3:ListBucket"]),
        ("DELETE", "unit", lambda store: folder(store).remove("unit"), ["remove", "out/unit", "s3:DeleteObject"]),
        ("PUT", "_bertsum", lambda store: folder(store).can_create_exclusively(), ["create", "s3:PutObject"]),
    ],
)  # fmt: skip
def test_a_missing_right_is_named_and_not_retried(
    store: Store, method, path, action, words
) -> None:
    with (
        store.proxy.rule(method, path, "denied", times=1000) as rule,
        pytest.raises(OutputError) as caught,
    ):
        action(store)
    assert rule.seen == 1
    for word in words:
        assert word in str(caught.value)


def test_input_that_may_not_be_read_is_not_taken_for_missing(store: Store) -> None:
    store.put("in/a.parquet", b"x")
    with (
        store.proxy.rule("HEAD", "in", "denied", times=1000),
        store.proxy.rule("GET", "list-type", "denied", times=1000),
        pytest.raises(InputError, match="ListBucket"),
    ):
        list_input(f"{store.uri}/in")


def test_no_server_and_no_bucket_are_errors_that_name_the_place(store: Store) -> None:
    with pytest.raises(OutputError, match="nobucket"):
        Folder("s3://nobucket-of-mine/x").create_exclusive("a", b"")
    configure(
        {
            "s3": {
                "endpoint_url": "http://127.0.0.1:9",
                "config_kwargs": {"retries": {"max_attempts": 1}},
            }
        }
    )
    try:
        with pytest.raises(OutputError, match=r"cannot list s3://.*127\.0\.0\.1:9"):
            Folder("s3://somewhere/x").list_names()
    finally:
        fsspec.config.conf.pop("s3")


def test_endpoint_and_credentials_from_the_configuration(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name)
    options = {"endpoint_url": store.proxy.url, "key": "someone1", "secret": "configured-secret"}
    configure({"s3": options | {"client_kwargs": {"region_name": "eu-west-1"}}})
    try:
        assert folder(store).create_exclusive("unit", b"data")
        assert mask("it says configured-secret") == "it says ***"
    finally:
        fsspec.config.conf.pop("s3")


def test_secrets_of_the_environment_are_masked(store: Store) -> None:
    assert mask(f"signature of {SECRET} wrong") == "signature of *** wrong"


FETCH = "import sys; from bertsum.checkpoints.locate import resolve; print(resolve(sys.argv[1]))"


def test_a_model_is_fetched_once_a_node(store: Store, checkpoint, tmp_path) -> None:
    """Three processes at once, as three replicas on one machine."""
    for path in checkpoint.iterdir():
        store.put(f"model/{path.name}", path.read_bytes())
    environment = store.environment | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", FETCH, f"{store.uri}/model"]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    found = {process.communicate(timeout=LIMIT_SECONDS)[0].strip() for process in processes}
    (target,) = found
    fetched = {path.name: path.read_bytes() for path in Path(target).iterdir()}
    assert (
        fetched.items() <= {path.name: path.read_bytes() for path in checkpoint.iterdir()}.items()
    )
    assert "model.safetensors" in fetched
    assert store.proxy.count("GET", r"model/model\.safetensors") == 1


def test_a_model_that_may_not_be_read_is_an_error(
    store: Store, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store.put("model/config.json", b"{}")
    with (
        store.proxy.rule("GET", "config.json", "denied", times=100),
        pytest.raises(ModelError, match=r"config\.json|model"),
    ):
        resolve(f"{store.uri}/model")
