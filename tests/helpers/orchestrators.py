"""What the tests of Airflow and Dagster share: a Ray with a job server, and the programs of their page."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from helpers.ray_nodes import Cluster
from jobs.remote.job_server import JobServer

PAGE = Path(__file__).parents[2] / "jobs/docs/orchestrators.md"
TOKEN = "a-token-of-forty-characters-for-schedulers"


@contextmanager
def job_server(num_cpus: int = 2) -> Iterator[Cluster]:
    """A Ray of its own, which wants a token."""
    # pytest's own directory has a name that is too long for Ray's sockets
    directory = Path(tempfile.mkdtemp(prefix="bertsum-ray-"))
    cluster = Cluster(directory, num_cpus=num_cpus, token=TOKEN)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory)


def submissions(cluster: Cluster) -> dict[str, str]:
    """The state of each submission, by its id."""
    jobs = JobServer(cluster.address, TOKEN).list_jobs()
    return {job.submission_id or "": str(job.status.value) for job in jobs}


def program(package: str, changes: Mapping[str, str]) -> str:
    """The program of the page that imports `package`, with other places in it."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    (text,) = [
        block for block in blocks if f"import {package}" in block or f"from {package}" in block
    ]
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
