"""A family of checkpoints: what its `family.json` may say, where it comes from, and its digest."""

import json
import shutil

import fsspec
import pytest
from helpers import tiny

from bertsum.checkpoints import locate
from bertsum.checkpoints.checkpoint import load_checkpoint, load_tokenizer
from bertsum.checkpoints.config import model_digest
from bertsum.checkpoints.family import read_family, save_family
from bertsum.checkpoints.locate import resolve, resolve_checkpoint
from bertsum.errors import ModelError

VALUES = {
    "bertsum_version": "0.2.0",
    "members": {"english": ["en"], "chinese": ["zh", "yue"], "multilingual": []},
    "others": "multilingual",
}


@pytest.fixture
def copy(family, tmp_path):
    return shutil.copytree(family, tmp_path / "copy")


def test_each_language_has_one_member(tmp_path):
    (tmp_path / "family.json").write_text(json.dumps(VALUES))
    family = read_family(tmp_path)
    members = {language: family.member_for(language) for language in ("en", "zh", "yue", "de")}
    assert members == {
        "en": "english",
        "zh": "chinese",
        "yue": "chinese",
        "de": "multilingual",
    }
    assert family.member_for(None) == family.member_for("english") == "multilingual"
    save_family(tmp_path, family)
    assert read_family(tmp_path) == family


def test_a_language_may_have_a_code_of_three_letters(tmp_path):
    values = VALUES | {"members": {"english": ["eng"], "multilingual": []}}
    (tmp_path / "family.json").write_text(json.dumps(values))
    assert read_family(tmp_path).member_for("en") == "english"


def test_a_checkpoint_is_no_family(checkpoint):
    assert read_family(checkpoint) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"others": "french"}, "others is 'french'"),
        ({"others": None}, "others"),
        ({"members": {}}, "members"),
        ({"members": {"../english": ["en"], "multilingual": []}}, "members"),
        ({"members": {"/tmp/english": ["en"], "multilingual": []}}, "members"),
        ({"members": {"..": ["en"], "multilingual": []}}, "members"),
        ({"members": {"a/b": ["en"], "multilingual": []}}, "members"),
        ({"members": {"a\\b": ["en"], "multilingual": []}}, "members"),
        ({"members": {"english\n": ["en"], "multilingual": []}}, "members"),
        ({"members": {"": ["en"], "multilingual": []}}, "members"),
        ({"members": {"_english": ["en"], "multilingual": []}}, "members"),
        ({"members": {"english": [], "multilingual": []}}, "'english' reads no language"),
        (
            {"members": {"english": ["en"], "other": ["en"], "multilingual": []}},
            "'english' and 'other' both read 'en'",
        ),
        (
            {"members": {"english": ["en"], "other": ["eng"], "multilingual": []}},
            "'english' and 'other' both read 'en'",
        ),
        ({"members": {"english": ["en-US"], "multilingual": []}}, "members.english.0"),
        ({"members": {"english": "en", "multilingual": []}}, "members.english"),
        ({"members": ["english"]}, "members"),
        ({"remote_code": "x"}, "remote_code"),
        ({"bertsum_version": None}, "bertsum_version"),
    ],
)
def test_a_hostile_family_is_refused(copy, changes, message):
    (copy / "family.json").write_text(json.dumps(VALUES | changes))
    for read in (read_family, model_digest):
        with pytest.raises(ModelError, match=message) as caught:
            read(copy)
        assert str(copy / "family.json") in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'"a"', b"null"])
def test_what_is_no_family_is_refused(copy, data):
    (copy / "family.json").write_bytes(data)
    with pytest.raises(ModelError, match=r"family\.json"):
        read_family(copy)


def test_a_member_that_stands_twice_is_refused(copy):
    """json would keep the last of the two, and German would go to the member for all others."""
    members = '{"english": ["en", "de"], "multilingual": [], "english": ["en"]}'
    text = f'{{"bertsum_version": "0.2.0", "members": {members}, "others": "multilingual"}}'
    (copy / "family.json").write_text(text)
    for read in (read_family, model_digest):
        with pytest.raises(ModelError, match="the key 'english' twice") as caught:
            read(copy)
        assert str(copy / "family.json") in str(caught.value)


def test_a_family_without_a_member_is_named(copy):
    shutil.rmtree(copy / "multilingual")
    with pytest.raises(ModelError, match=str(copy / "multilingual")):
        model_digest(copy)


# Digests


def test_a_digest_covers_every_member(copy, family):
    assert model_digest(copy) == model_digest(family)
    (copy / "README.md").write_text("notes")
    assert model_digest(copy) == model_digest(family)
    digests = {model_digest(copy)}
    (copy / "english" / "tokenizer.json").write_text("{}")
    digests.add(model_digest(copy))
    save_family(
        copy, read_family(tiny.family(copy, members={"english": ["en", "de"], "multilingual": []}))
    )
    digests.add(model_digest(copy))
    assert len(digests) == 3
    assert model_digest(copy / "english") not in digests


# The shipped model, and names


@pytest.fixture
def shipped(family, monkeypatch):
    monkeypatch.setattr(locate, "DEFAULT_MODEL", family)
    return family


def test_a_member_of_the_shipped_family_has_a_name(shipped):
    assert resolve(None) == resolve("bertsum-default") == shipped
    assert resolve("bertsum-default/english") == shipped / "english"
    assert resolve_checkpoint("bertsum-default/english") == shipped / "english"
    for name in ("french", "..", "english/..", ""):
        with pytest.raises(
            ModelError, match="bertsum-default/english, bertsum-default/multilingual"
        ):
            resolve(f"bertsum-default/{name}")


def test_a_shipped_checkpoint_has_no_members(checkpoint, monkeypatch):
    monkeypatch.setattr(locate, "DEFAULT_MODEL", checkpoint)
    assert resolve_checkpoint(None) == checkpoint
    with pytest.raises(ModelError, match="it is one checkpoint: bertsum-default"):
        resolve("bertsum-default/english")


def test_where_one_checkpoint_is_needed_a_family_names_its_members(shipped, tmp_path):
    for model in (None, "bertsum-default"):
        with pytest.raises(ModelError, match="bertsum-default/english, bertsum-default/mult"):
            resolve_checkpoint(model)
    for load in (resolve_checkpoint, load_tokenizer):
        with pytest.raises(ModelError, match=f"{shipped}/english, {shipped}/multilingual"):
            load(str(shipped))
    with pytest.raises(ModelError, match="is not a checkpoint"):
        load_checkpoint(shipped)


def test_training_does_not_start_from_a_family(shipped, tmp_path):
    from bertsum.training.config import TrainingConfig
    from bertsum.training.run import _start

    def config(start_from):
        source = {"name": "s", "train_uri": "x", "sentiment_column": "sentiment"}
        values = {"encoder": "none", "start_from": start_from, "sources": [source]}
        return TrainingConfig.model_validate(values)

    with pytest.raises(ModelError, match="bertsum-default/english"):
        _start(config("bertsum-default"), None, None, print)
    model, _ = _start(config("bertsum-default/english"), None, None, print)
    assert model.config == load_checkpoint(shipped / "english")[0].config


# Object storage


@pytest.fixture
def remote(monkeypatch, tmp_path, request, family):
    """A function that writes a file below `memory://NAME/model`, where a family is; an empty cache."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    filesystem = fsspec.filesystem("memory")
    root = f"/{request.node.name}/model"
    for path in family.rglob("*"):
        if path.is_file():
            filesystem.put_file(str(path), f"{root}/{path.relative_to(family)}")
    yield lambda name, data: filesystem.pipe_file(f"{root}/{name}", data), f"memory:/{root}"
    for name in filesystem.find(root):
        filesystem.rm_file(name)


def test_a_remote_family_comes_with_its_members_alone(remote, family):
    write, uri = remote
    write("english/training_state.pt", b"large")
    write("english/checkpoints/model.safetensors", b"large")
    write("old/model.safetensors", b"large")
    directory = resolve(uri)
    found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    expected = {"family.json"}
    for name in ("english", "multilingual"):
        for path in (family / name).iterdir():
            expected |= {f"{name}/{path.name}"} if path.suffix != ".md" else set()
    assert found == expected
    assert model_digest(directory) == model_digest(family)
    assert resolve(uri) == directory
    assert resolve_checkpoint(f"{uri}/english") != directory
    with pytest.raises(ModelError, match=f"{uri}/english, {uri}/multilingual"):
        resolve_checkpoint(uri)


def test_a_changed_member_of_a_remote_family_is_fetched_anew(remote, family):
    write, uri = remote
    first = resolve(uri)
    data = (family / "english" / "config.json").read_bytes()
    write("english/config.json", data + b"\n")
    assert (resolve(uri) / "english" / "config.json").read_bytes() == data + b"\n"
    assert (first / "english" / "config.json").read_bytes() == data


def test_a_hostile_remote_family_is_refused_before_anything_is_fetched(remote, tmp_path):
    write, uri = remote
    write("family.json", json.dumps(VALUES | {"members": {"../x": ["en"]}}).encode())
    with pytest.raises(ModelError, match=f"{uri}/family.json"):
        resolve(uri)
    assert not (tmp_path / ".cache").exists()
