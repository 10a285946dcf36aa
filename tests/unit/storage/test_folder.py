"""Bytes and names: exclusive create, atomic replace, listings, and what is printed of a URI."""

import errno
import hashlib
import os
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from helpers.job_helpers import winners

from bertsum.errors import ConfigError, InputError, OutputError
from bertsum.masking import hide
from bertsum.storage.folder import TEMPORARY_PREFIX, FileInfo, Folder, describe, mask

ODD_NAMES = [
    "a b/x=1/c.parquet",
    "dt=2026%2F11/ü – 文.parquet",
    "k=v/[1]*?.parquet",
    "'quote\"/#.parquet",
]


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder on the local file system, and on one that fsspec treats as remote."""
    return Folder(
        str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out"
    )


@pytest.mark.parametrize("name", ODD_NAMES)
def test_create_exclusive_makes_an_object_once(folder: Folder, name: str) -> None:
    assert folder.create_exclusive(name, b"first")
    assert not folder.create_exclusive(name, b"second")
    assert folder.read_bytes(name) == b"first"
    assert list(folder.list_names()) == [name]
    assert folder.list_names()[name] == folder.info(name)
    assert folder.sha256(name) == hashlib.sha256(b"first").hexdigest()


def test_create_exclusive_has_one_winner_among_many(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    won = winners(lambda data: folder.create_exclusive("unit.parquet", data), 100_000)
    assert len(won) == 1
    assert folder.read_bytes("unit.parquet") == won * 100_000
    assert [path.name for path in tmp_path.iterdir()] == ["unit.parquet"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = Folder(str(tmp_path))
    with pytest.raises(
        OutputError, match=r"cannot create .*unit\.parquet: No space left on device"
    ):
        folder.create_exclusive("unit.parquet", b"data")
    assert list(tmp_path.iterdir()) == []


def test_the_probe_leaves_nothing(folder: Folder) -> None:
    assert folder.can_create_exclusively()
    assert folder.list_names() == {}
    folder.sweep_temporary()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_probe_says_that_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        Folder(str(tmp_path / "out")).can_create_exclusively()


def test_write_replace_changes_the_content(folder: Folder) -> None:
    folder.write_replace("_bertsum/plan.json", b"old")
    folder.write_replace("_bertsum/plan.json", b"new")
    assert folder.read_bytes("_bertsum/plan.json") == b"new"


def test_listing_leaves_out_hidden_names_and_a_missing_folder_is_empty(folder: Folder) -> None:
    assert folder.list_names() == {}
    for name in ("_SUCCESS", "_bertsum/plan.json", ".hidden/a", "x/.tmp", "x/_y", "x/z"):
        folder.write_replace(name, b"-")
    assert list(folder.list_names()) == ["x/z"]
    folder.write_replace("x/_bertsum/plan.json", b"-")
    folder.write_replace("x/_bertsum/manifest.json", b"-")
    assert list(folder.list_names(also="_SUCCESS")) == ["_SUCCESS", "x/z"]
    assert list(folder.list_names(also="_bertsum/plan.json")) == [
        "_bertsum/plan.json",
        "x/_bertsum/plan.json",
        "x/z",
    ]


def test_listing_while_files_come_and_go(tmp_path: Path) -> None:
    """What lies there all the time is shown, whatever a writer does beside it."""
    program = """
import sys
from bertsum.storage.folder import Folder
folder = Folder(sys.argv[1])
print(flush=True)
while True:
    folder.write_replace("beside.json", b"content")
    folder.remove("beside.json")
"""
    (tmp_path / "a.parquet").write_bytes(b"data")
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen = [set(Folder(str(tmp_path)).list_names()) for _ in range(5_000)]
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert set().union(*seen) == {"a.parquet", "beside.json"}
    assert all("a.parquet" in names for names in seen)


def test_times_of_writing_are_those_of_visible_files(folder: Folder) -> None:
    start = time.time()
    for name in ("a/b.parquet", "c.parquet", "_bertsum/plan.json"):
        folder.write_replace(name, b"x")
    times = folder.write_times()
    assert times.keys() == {"a/b.parquet", "c.parquet"}
    for name in times:
        assert start - 2 < times[name] < time.time() + 2  # a filesystem may round
        assert folder.modified(name) == pytest.approx(times[name], abs=1e-3)
    assert folder.modified("missing") is None


def test_remove_is_no_error_for_a_missing_file(folder: Folder) -> None:
    folder.write_replace("x", b"-")
    folder.remove("x")
    folder.remove("x")
    assert folder.info("x") is None


def test_version_changes_with_the_content_and_follows_links(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"1234")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.parquet").symlink_to(target)
    folder = Folder(str(tmp_path / "in"))
    before = folder.list_names()["link.parquet"]
    assert before.size == 4
    os.utime(target, ns=(1, 1))
    assert folder.list_names()["link.parquet"] == FileInfo(4, "1") != before


def make_old(folder: Folder, name: str, seconds: float) -> None:
    """As if the file had been written so long ago."""
    if folder.is_local:
        then = time.time() - seconds
        os.utime(f"{folder.uri}/{name}", (then, then))
    else:
        file = folder._fs.store[folder._path(name)]
        file.modified -= timedelta(seconds=seconds)


def test_sweep_removes_what_killed_writers_left_an_hour_ago(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    for name, age in (
        ("a/.bertsum-0.tmp", 3700),
        ("a/.bertsum-1.tmp", 3500),
        ("a/u.tmp", 3700),
        (".bertsum-2.tmp", 9e9),
    ):
        folder.write_replace(name, b"half")
        make_old(folder, name, min(age, 1e9))
    folder.sweep_temporary("a")
    found = {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {"a/.bertsum-1.tmp", "a/u.tmp", ".bertsum-2.tmp"}
    folder.sweep_temporary()
    assert not (tmp_path / ".bertsum-2.tmp").exists()


def test_sweep_removes_the_probe_of_a_killed_run_after_an_hour(folder: Folder) -> None:
    names = [f"_bertsum/{TEMPORARY_PREFIX}{number}.tmp" for number in range(2)]
    for name in [*names, "_bertsum/plan.json"]:
        folder.write_replace(name, b"first")
        make_old(folder, name, 3700 if name != names[1] else 3500)
    folder.sweep_temporary()
    assert [folder.info(name) is not None for name in names] == [False, True]
    assert folder.info("_bertsum/plan.json") is not None
    assert folder.untouched([*names, "_bertsum/plan.json"]) == ["_bertsum/plan.json"]


def test_the_probe_of_a_run_that_begins_while_another_one_sweeps(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Folder._create

    def then_sweep(self: Folder, name: str, data: bytes) -> bool:
        created = create(self, name, data)
        Folder(folder.uri).sweep_temporary("dt=1" if not folder.is_local else "")
        return created

    monkeypatch.setattr(Folder, "_create", then_sweep)
    assert folder.can_create_exclusively()


def test_a_file_that_is_written_while_another_run_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def sweep_before(temporary: Path, path: Path) -> None:
        Folder(str(tmp_path)).sweep_temporary()
        link(temporary, path)

    monkeypatch.setattr(os, "link", sweep_before)
    assert Folder(str(tmp_path)).create_exclusive("dt=1/unit", b"data")
    assert (tmp_path / "dt=1" / "unit").read_bytes() == b"data"


def test_errors_name_the_uri_and_have_the_type_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*/gone: No such file"):
        Folder(str(tmp_path), InputError).read_bytes("gone")
    with pytest.raises(ConfigError, match="nope"):
        Folder("nope://bucket/x")
    with pytest.raises(ConfigError):
        Folder("a\0b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/a", "s3://***@bucket/a"),
        (
            "cannot read https://u@h/x?Token=abc&n=1: no",
            "cannot read https://***@h/x?Token=***&n=1: no",
        ),
        (
            "https://a/b?X-Amz-Signature=ff&X-Amz-Credential=me/2026",
            "https://a/b?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        (
            "abfss://container@account.dfs.core.windows.net/x",
            "abfss://container@account.dfs.core.windows.net/x",
        ),
        ("abfss://user:pw@account/x", "abfss://***@account/x"),
        ("/data/dt=2026-11-20/token=1/a@b.parquet", "/data/dt=2026-11-20/token=1/a@b.parquet"),
        ("bad \udcff name", "bad \\udcff name"),
        (
            "{'secret': 'abcdefgh', 'endpoint_url': 'http://h'}",
            "{'secret': '***', 'endpoint_url': 'http://h'}",
        ),
        ("client_secret: abcdefgh", "client_secret: ***"),
        ("cannot list s3://AKIA:wJalr/K7@MD@bucket/in: no", "cannot list s3://***@bucket/in: no"),
        ("https://user:p@ssw0rd@127.0.0.1:9/in.parquet", "https://***@127.0.0.1:9/in.parquet"),
        ("no answer from http://head:8265/api/a@b", "no answer from http://head:8265/api/a@b"),
        ("http://h/x#access_token=abc", "http://h/x#access_token=***"),
        ("AWS_SECRET_ACCESS_KEY=wJalr/K7 bertsum", "AWS_SECRET_ACCESS_KEY=*** bertsum"),
        ("AccountKey=abc==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
        (
            "{s3: {client_kwargs: {aws_secret_access_key: abcdefgh}}}",
            "{s3: {client_kwargs: {aws_secret_access_key: ***}}}",
        ),
        ("{'token': 'abcdefgh'}", "{'token': '***'}"),
        ("{'Authorization': 'Bearer abcdefgh'}", "{'Authorization': '***'}"),
        ("--set max_batch_tokens=16384", "--set max_batch_tokens=16384"),
        ("unknown token: something", "unknown token: something"),
        ("there is no such key: rows_per_unit", "there is no such key: rows_per_unit"),
    ],
)
def test_mask_hides_credentials_and_nothing_else(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_mask_hides_what_environment_and_options_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef")
    monkeypatch.setenv("HARMLESS", "an ordinary value")
    hide(
        {
            "client_kwargs": {"password": "correct horse"},
            "endpoint_url": "http://store",
            "key": "short",
        }
    )
    hide(
        {
            "s3": {
                "auth": ["somebody", "swordfish"],
                "headers": {"Authorization": "Bearer abc"},
                "credential": "sesame open",
            }
        }
    )
    assert mask("somebody swordfish, Bearer abc, sesame open") == "*** ***, ***, ***"
    shown = mask(
        "wJalrXUtnFEMI 0123456789abcdef correct horse an ordinary value http://store short"
    )
    assert shown == "*** *** *** an ordinary value http://store short"


@pytest.mark.parametrize(
    ("inner", "is_below"),
    [("in", True), ("in/out", True), ("in/_out", False), ("input", False), ("", False)],
)
def test_is_below(tmp_path: Path, inner: str, is_below: bool) -> None:
    assert Folder(str(tmp_path / inner)).is_below(Folder(str(tmp_path / "in"))) is is_below


def test_is_below_by_another_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    root = Folder(str(tmp_path / "in"))
    for inner in ("in/../in/out", "other/../in", "link", "link/out"):
        assert Folder(f"{tmp_path}/{inner}").is_below(root), inner
    assert root.is_below(Folder(f"{tmp_path}/link/.."))
    assert root.is_below(Folder("/"))
    assert not Folder("/").is_below(root)
    assert not Folder(f"{tmp_path}/in/../out").is_below(root)


def test_an_error_of_the_system_keeps_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: not again where the message around it has it; and without credentials."""
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", "/home/x/.ray/auth_token")
    assert describe(gone) == "No such file or directory: /home/x/.ray/auth_token"
    assert describe(gone, known_path="/home/x/.ray/auth_token") == "No such file or directory"
    moved = OSError(errno.EXDEV, "Invalid cross-device link", "/a", None, "/b")
    assert describe(moved) == "Invalid cross-device link: /a -> /b"
    assert describe(OSError(errno.EBADF, "Bad file descriptor", 3)) == "Bad file descriptor"
    monkeypatch.setenv("MY_SECRET", "abcdefgh12345")
    assert describe(
        PermissionError(errno.EACCES, "Permission denied", "/x/abcdefgh12345")
    ).endswith(": /x/***")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        OutputError, match=r"cannot create .*/file/a: File exists: .*/file$"
    ) as caught:
        Folder(str(tmp_path / "file")).create_exclusive("a", b"")
    assert (
        str(caught.value).count(str(tmp_path)) <= 2
    )  # its own name, and that of the file that is no directory


def test_a_working_directory_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(
        ConfigError, match=r"in: .*the working directory of this process was removed"
    ):
        Folder("in")


def test_a_filesystem_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As hdfs:// where there is no Java: whatever its library raises is a wrong INPUT, in one line."""
    words = "Unable to load libjvm\ndlopen(/usr/lib/jvm/libjvm.so) failed"
    monkeypatch.setattr("fsspec.core.url_to_fs", mock.Mock(side_effect=OSError(words)))
    with pytest.raises(ConfigError) as caught:
        Folder("hdfs://user:secretsecret@nn/x")
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert "Unable to load libjvm; hdfs:// needs Java" in str(caught.value)
    assert "secretsecret" not in str(caught.value)
