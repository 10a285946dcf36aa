"""Where a model comes from: directories, object storage, names; errors say what was asked for."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from bertsum.checkpoints import locate as model_source
from bertsum.checkpoints.locate import DEFAULT_MODEL, resolve
from bertsum.errors import ConfigError, ModelError


@pytest.fixture
def remote(monkeypatch, tmp_path, request):
    """A function that writes a file of `memory://NAME/model`; the cache is empty."""
    monkeypatch.setenv("HOME", str(tmp_path))
    filesystem = fsspec.filesystem("memory")
    root = f"/{request.node.name}/model"
    yield lambda name, data: filesystem.pipe_file(f"{root}/{name}", data), f"memory:/{root}"
    for name in filesystem.find(root):
        filesystem.rm_file(name)


def test_none_is_the_shipped_model():
    assert resolve(None) == resolve("bertsum-default") == DEFAULT_MODEL


def test_a_directory_is_itself(tmp_path, monkeypatch):
    assert resolve(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert resolve(f"~/{tmp_path.name}") == tmp_path
    (tmp_path / "config.json").write_text("{}")
    assert resolve(f"file://{tmp_path}") == tmp_path


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "a/b/c", "../nowhere"])
def test_a_missing_directory_is_named_and_not_looked_up_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(
        model_source, "_download_from_hub", lambda name: pytest.fail("asked the hub")
    )
    with pytest.raises(ModelError, match=f"model '{name}': there is no such directory"):
        resolve(name)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model\.bin"):
        resolve(str(tmp_path / "model.bin"))


def test_a_remote_directory_is_copied_once(remote, monkeypatch):
    write, uri = remote
    write("config.json", b"{}")
    write("model.safetensors", b"weights")
    write("training_state.pt", b"large")
    write("old/config.json", b"other")
    directory = resolve(uri)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"weights",
    }
    monkeypatch.setattr(model_source, "_fetch_whole", lambda *_: pytest.fail("fetched again"))
    assert resolve(uri) == resolve(f"{uri}/") == directory


def test_a_changed_remote_model_of_equal_size_is_fetched_anew(remote):
    write, uri = remote
    write("model.safetensors", b"weights 1")
    first = resolve(uri)
    write("model.safetensors", b"weights 2")
    second = resolve(uri)
    assert (first / "model.safetensors").read_bytes() == b"weights 1"
    assert (second / "model.safetensors").read_bytes() == b"weights 2"


def test_a_failed_download_leaves_nothing(remote, monkeypatch, tmp_path):
    write, uri = remote
    write("config.json", b"{}")
    write("model.safetensors", b"weights")
    original = model_source.shutil.copyfileobj

    def fail_at_weights(source, copy):
        if copy.name.endswith(".safetensors"):
            raise OSError(28, "No space left on device")
        original(source, copy)

    monkeypatch.setattr(model_source.shutil, "copyfileobj", fail_at_weights)
    with pytest.raises(ModelError, match=rf"{uri}.*No space left"):
        resolve(uri)
    assert [path.suffix for path in (tmp_path / ".cache" / "bertsum").iterdir()] == [".lock"]


def test_one_fetches_and_the_others_wait(remote, monkeypatch):
    write, uri = remote
    write("config.json", b"{}")
    original, copied = model_source.shutil.copyfileobj, []

    def slowly(source, copy):
        time.sleep(0.5)
        copied.append(copy.name)
        original(source, copy)

    monkeypatch.setattr(model_source.shutil, "copyfileobj", slowly)
    with ThreadPoolExecutor(3) as pool:  # flock holds between open files, whoever opened them
        directories = set(pool.map(resolve, [uri] * 3))
    assert len(directories) == len(copied) == 1


def test_two_processes_may_fetch_at_once(remote, monkeypatch, tmp_path):
    monkeypatch.setattr(model_source, "_MAX_WAIT_SECONDS", 0.0)
    write, uri = remote
    write("config.json", b"{}")
    original = model_source.shutil.copyfileobj

    def beaten(source, copy):
        monkeypatch.setattr(model_source.shutil, "copyfileobj", original)
        resolve(uri)  # the other process
        original(source, copy)

    monkeypatch.setattr(model_source.shutil, "copyfileobj", beaten)
    directory = resolve(uri)
    found = (tmp_path / ".cache" / "bertsum").iterdir()
    assert [path for path in found if path.suffix != ".lock"] == [directory]
    assert (directory / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("times", [1, 2])
def test_a_model_that_is_replaced_while_it_is_fetched_is_fetched_again(
    remote, monkeypatch, tmp_path, times
):
    write, uri = remote
    write("config.json", b"old")
    write("model.safetensors", b"old")
    original, replaced = model_source.shutil.copyfileobj, []

    def replace(source, copy):
        original(source, copy)
        if len(replaced) < times and copy.name.endswith("config.json"):
            replaced.append(b"new %d" % len(replaced))
            write("config.json", replaced[-1])
            write("model.safetensors", replaced[-1])

    monkeypatch.setattr(model_source.shutil, "copyfileobj", replace)
    directory = resolve(uri)
    assert {path.read_bytes() for path in directory.iterdir()} == {replaced[-1]}
    assert [
        path for path in (tmp_path / ".cache" / "bertsum").iterdir() if path.suffix != ".lock"
    ] == [directory]
    assert resolve(uri) == directory


def test_a_file_that_goes_while_the_model_is_fetched(remote, monkeypatch):
    write, uri = remote
    write("config.json", b"old")
    write("model.safetensors", b"old")
    original = model_source.shutil.copyfileobj

    def replace(source, copy):
        monkeypatch.setattr(model_source.shutil, "copyfileobj", original)
        original(source, copy)
        fsspec.filesystem("memory").rm_file(f"{uri.removeprefix('memory:/')}/model.safetensors")
        write("model-00001.safetensors", b"new")

    monkeypatch.setattr(model_source.shutil, "copyfileobj", replace)
    assert sorted(path.name for path in resolve(uri).iterdir()) == [
        "config.json",
        "model-00001.safetensors",
    ]


def test_a_model_that_is_replaced_all_the_time_is_named(remote, monkeypatch, tmp_path):
    write, uri = remote
    write("config.json", b"0")
    original, number = model_source.shutil.copyfileobj, itertools.count(1)

    def replace(source, copy):
        original(source, copy)
        write("config.json", b"%d" % next(number))

    monkeypatch.setattr(model_source.shutil, "copyfileobj", replace)
    with pytest.raises(ModelError, match=rf"model {uri} is being replaced: .* each of 3 fetches"):
        resolve(uri)
    assert {path.suffix for path in (tmp_path / ".cache" / "bertsum").iterdir()} == {".lock"}


def test_an_empty_remote_directory_is_named(remote):
    _, uri = remote
    with pytest.raises(ModelError, match=uri):
        resolve(uri)


def test_an_unknown_protocol_is_named():
    with pytest.raises(ConfigError, match="nosuch"):
        resolve("nosuch://bucket/model")


def test_a_hub_that_cannot_be_reached_is_an_error_that_names_the_model(monkeypatch):
    import huggingface_hub

    def unreachable(name, **_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"model 'someone/some-model'.*no network$"):
        resolve("someone/some-model")


@pytest.mark.parametrize(
    ("model", "revision"), [("someone/some-model", None), ("someone/some-model@a1b2", "a1b2")]
)
def test_a_hub_name_may_have_a_revision(monkeypatch, tmp_path, model, revision):
    import huggingface_hub

    def fetch(name, *, revision, allow_patterns):
        calls.append((name, revision))
        return str(tmp_path)

    calls = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert resolve(model) == tmp_path
    assert calls == [("someone/some-model", revision)]


def test_credentials_in_a_uri_are_not_shown(monkeypatch):
    with pytest.raises(ConfigError) as caught:
        resolve("nosuch://user:secret@host/model")
    assert "secret" not in str(caught.value)
