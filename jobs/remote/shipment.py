"""What goes to a cluster with a submission: a command, its files, and the code that runs it."""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

ENVIRONMENT_FILE = ".bertsum-environment.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A job as it is sent.

    - `arguments`: as they hold on the cluster.
    - `files`: those that go along, by the option that names them: `config` and `then`.
    - `output`: the job's OUTPUT; None if it has none.
    - `variables`: names of environment variables whose values go along.
    """

    job: str
    arguments: tuple[str, ...]
    files: Mapping[str, Path]
    output: str | None
    variables: tuple[str, ...]

    @property
    def base_id(self) -> str:
        """The same for the same job on the same inputs; a number for each attempt follows it."""
        content = b"".join(path.read_bytes() for path in self.files.values())
        digest = hashlib.sha256(content).hexdigest()
        identity = json.dumps([self.job, self.arguments, digest, self.variables])
        return f"bertsum-{self.job}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    @property
    def entrypoint(self) -> str:
        """The command line that Ray runs on the cluster."""
        return shlex.join(["python", "-m", "jobs.shipped", self.job, *self.arguments])


class RuntimeEnv(TypedDict):
    """Ray's runtime environment, as far as it is used here."""

    working_dir: str
    env_vars: dict[str, str]
    worker_process_setup_hook: str
    py_modules: NotRequired[list[str]]


@contextmanager
def packed(request: Request, code: str) -> Iterator[RuntimeEnv]:
    """Ray's runtime environment: the job's directory with what goes along, and the code as modules.

    The files exist until the end of the `with` block: Ray uploads them in between.

    `code`: `send` for this installation's, `image` for what the cluster has.
    """
    with tempfile.TemporaryDirectory(prefix="bertsum-submit-") as name:
        directory = Path(name, "files")
        directory.mkdir()
        for path in request.files.values():
            shutil.copyfile(path, directory / path.name)
        if request.variables:
            values = {variable: os.environ[variable] for variable in request.variables}
            # Ray names the package after a digest of its content. The nonce keeps a short secret
            # from being guessed by that name.
            content = {"variables": values, "nonce": secrets.token_hex(16)}
            (directory / ENVIRONMENT_FILE).write_text(json.dumps(content), encoding="utf-8")
        readme = f"{request.job} as `bertsum submit` sent it\n"
        (directory / "README").write_text(readme, encoding="utf-8")
        environment: RuntimeEnv = {
            "working_dir": str(directory),
            "env_vars": {"PYTHONUNBUFFERED": "1"},
            "worker_process_setup_hook": "jobs.shipped.take_environment",
        }
        if code == "send":
            environment["py_modules"] = []
            for package in ("bertsum", "jobs"):
                target = Path(name, package)
                ignored = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(Path(__file__).parents[2] / package, target, ignore=ignored)
                environment["py_modules"].append(str(target))
        yield environment
