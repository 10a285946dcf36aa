"""What a submission runs on the cluster: `python -m jobs.shipped <command> ...`.

It runs in a directory that came with the submission. Environment variables come in a file of that
directory and not through Ray's `env_vars`, which Ray shows in the dashboard and writes into the
logs of every node.
"""

import json
import os
import sys
from pathlib import Path

from jobs import cli
from jobs.remote.shipment import ENVIRONMENT_FILE


def take_environment() -> None:
    """Set the variables that came along, in every process of the job.

    Ray calls it when a worker starts, so that replicas have them, too.
    """
    path = Path(ENVIRONMENT_FILE)  # Ray starts each process in the job's directory
    if path.is_file():
        os.environ.update(json.loads(path.read_text(encoding="utf-8"))["variables"])


if __name__ == "__main__":
    take_environment()
    sys.exit(cli.main())
