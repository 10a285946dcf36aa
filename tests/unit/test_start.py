"""A command imports what it needs: an import of torch takes a second, one of Transformers' modules several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import LIMIT_SECONDS

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "tests" / "data" / "version_0_1_0" / "finished"
COMMAND = "import sys; from jobs.cli import main; main({arguments!r})"
ENGLISH = "The council voted on Monday. Traffic will be sent over the new bridge."
CHINESE = "市议会周一投票决定关闭旧桥。交通将改走新桥。"


def modules_after(code, text=""):
    """Names of the modules that a process has imported at the end of this code."""
    code += "; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
        timeout=LIMIT_SECONDS,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_importing_the_library_imports_nothing_large():
    modules = modules_after("import sys; import bertsum")
    assert not modules & {"torch", "numpy", "pyarrow", "pydantic", "transformers"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_large(arguments):
    modules = modules_after(COMMAND.format(arguments=arguments))
    assert not modules & {"torch", "numpy", "pyarrow", "pydantic", "ray", "transformers"}


def test_status_imports_no_torch():
    modules = modules_after(COMMAND.format(arguments=["status", str(OUTPUT)]))
    assert not modules & {"torch", "ray", "transformers", "tokenizers", "pandas"}


# torch._dynamo, which imports sympy, takes as long as torch itself.
DEAR = {"transformers", "ray", "pandas", "scipy", "sympy", "torch._dynamo", "pyarrow.dataset"}


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_one_document_is_summarized_without_transformers(text):
    modules = modules_after(COMMAND.format(arguments=["text", "-"]), text)
    assert "torch" in modules
    assert not modules & DEAR


@pytest.mark.parametrize("text", ["", " \n", "\x00\x01\x02\x03 a"])
def test_a_document_that_is_no_text_needs_no_model(text):
    modules = modules_after(COMMAND.format(arguments=["text", "-"]), text)
    assert not modules & (DEAR | {"torch", "tokenizers"})


def test_a_summarizer_is_made_without_transformers():
    code = "import sys; from bertsum import Summarizer; Summarizer()(sys.stdin.read())"
    assert not modules_after(code, ENGLISH) & DEAR


BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hypothesis", "pytest_timeout", "peft", "ray"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import pytest
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests/gpu"]))
"""


def test_the_tests_for_gpus_need_little_beside_pytest():
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_gpu.py::test_the_host_never_waits" in done.stdout
