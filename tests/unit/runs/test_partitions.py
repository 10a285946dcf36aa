"""Patterns of partitions: what they match, and how little of a store they make us list."""

from pathlib import Path

import pytest

from bertsum.errors import ConfigError, InputError
from bertsum.runs.input import list_input
from bertsum.runs.partitions import ALL, Scope, inside, partition_of
from bertsum.storage.folder import Folder

NAMES = [
    "a.parquet",
    "dt=1/a.parquet",
    "dt=1/hour=2/b.parquet",
    "dt=10/a.parquet",
    "dt=[1]/a.parquet",
    "x/dt=1/a.parquet",
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for name in [*NAMES, "dt=1/_SUCCESS", "dt=1/_hidden/_SUCCESS", "dt=1/.part"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return Folder(str(tmp_path))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), NAMES),
        (("dt=1",), ["dt=1/a.parquet", "dt=1/hour=2/b.parquet"]),
        (("dt=1/hour=?",), ["dt=1/hour=2/b.parquet"]),
        (
            ("dt=*",),
            ["dt=1/a.parquet", "dt=1/hour=2/b.parquet", "dt=10/a.parquet", "dt=[1]/a.parquet"],
        ),
        (("*/dt=1", "dt=10"), ["dt=10/a.parquet", "x/dt=1/a.parquet"]),
        (("dt=3",), []),
    ],
)
def test_what_patterns_match(
    folder: Folder, patterns: tuple[str, ...], expected: list[str]
) -> None:
    scope = Scope(patterns)
    assert list(scope.list_names(folder)) == sorted(expected)
    assert [name for name in NAMES if scope.holds(partition_of(name))] == expected


def test_exact_partitions_are_not_patterns(folder: Folder) -> None:
    assert list(Scope.exactly(["dt=[1]"]).list_names(folder)) == ["dt=[1]/a.parquet"]
    with pytest.raises(ValueError, match="no partition"):
        Scope.exactly([])


def test_a_hidden_file_on_demand(folder: Folder) -> None:
    assert "dt=1/_SUCCESS" in ALL.list_names(folder, also="_SUCCESS")
    assert "dt=1/_hidden/_SUCCESS" not in ALL.list_names(folder, also="_SUCCESS")
    assert "dt=1/_SUCCESS" not in ALL.list_names(folder)


def test_one_partition_is_listed_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Folder, "list_names", lambda folder, below, also: asked.append(below) or {})
    Scope(("dt=1", "dt=10/hour=*", "dt=1")).list_names(folder)
    assert asked == ["dt=1", "dt=10"]


@pytest.mark.parametrize(
    "pattern", ["", " ", "/dt=1", "dt=1/", "../x", "a/./b", "_bertsum", "dt=1/.x"]
)
def test_patterns_that_name_no_partition(pattern: str) -> None:
    with pytest.raises(ConfigError, match="names no partition"):
        Scope((pattern,))


def test_input_without_a_file_there_says_so(folder: Folder) -> None:
    with pytest.raises(InputError, match="dt=3"):
        list_input(folder.uri, Scope(("dt=3",)))
    assert [file.path for file in list_input(f"{folder.uri}/dt=*", Scope(("dt=10",))).files] == [
        "dt=10/a.parquet"
    ]


def test_names_in_partitions() -> None:
    assert (inside("", "a"), inside("dt=1", "a")) == ("a", "dt=1/a")
    assert (partition_of("a"), partition_of("dt=1/hour=2/a")) == ("", "dt=1/hour=2")
