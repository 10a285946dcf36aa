"""A real object store over HTTP: moto's server as a process of its own, behind a proxy that can break requests."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.job_helpers import kill_all, make_checkpoint
from helpers.proxy import Proxy
from helpers.store import SECRET, Store
from helpers.waiting import LIMIT_SECONDS


@pytest.fixture(scope="session")
def store_port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "moto does not listen"
            assert server.poll() is None, "moto ended"
            time.sleep(0.1)
    yield port
    server.kill()
    server.wait(LIMIT_SECONDS)


@pytest.fixture(scope="session")
def proxy(store_port: int) -> Iterator[Proxy]:
    proxy = Proxy(store_port)
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    yield proxy
    os.environ.clear()
    os.environ |= before
    proxy.close()


@pytest.fixture
def store(proxy: Proxy) -> Store:
    bucket = f"b{uuid.uuid4().hex}"
    fsspec.filesystem("s3", endpoint_url=proxy.url, skip_instance_cache=True).mkdir(bucket)
    proxy.requests.clear()
    return Store(f"s3://{bucket}", proxy, dict(os.environ))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture
def jobs() -> "Iterator[list[subprocess.Popen[str]]]":
    """What a test starts; ended with all below it if the test fails."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for job in started:
        if job.poll() is None:
            kill_all(job)
        assert job.stdout is not None
        job.stdout.close()
