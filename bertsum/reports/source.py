"""The texts of INPUT that results were made of, read again, or the reason why that cannot be."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bertsum.errors import BertsumError
from bertsum.inference.arrow import read_documents
from bertsum.reports.result import Result
from bertsum.runs.importing import HUB_PREFIX, find_copies
from bertsum.runs.input import Input, InputFile, Shard, input_root, read_footers, stream_rows
from bertsum.runs.units import FileSlice
from bertsum.storage.folder import Folder, describe, mask

_THREADS = 8
_MASKED = "***"


@dataclass(frozen=True, slots=True)
class SourceText:
    """A text of INPUT; None for a null, and where it cannot be read: then `problem` says why.

    `query`: what the row asks, where the run has a column of queries.
    """

    text: str | None
    problem: str | None = None
    query: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of INPUT: of which content of which file, and its number in it."""

    part: FileSlice
    number: int


def read_texts(result: Result, rows: Sequence[Row], input_uri: str | None) -> list[SourceText]:
    """The texts of the rows, in their order.

    `input_uri`: where INPUT is now, whose files then need the recorded size only, since a copy has
    another time; None: where the records say. Never raises for INPUT.
    """
    roots, problem = _find_roots(result, input_uri)
    by_file: dict[InputFile, list[int]] = {}
    for index, row in enumerate(rows):
        by_file.setdefault(row.part.file, []).append(index)
    for indices in by_file.values():
        indices.sort(key=lambda index: rows[index].number)
    texts = [SourceText(None, problem)] * len(rows)
    if problem is not None:
        return texts

    def read(file: InputFile) -> list[SourceText]:
        numbers = [rows[index].number for index in by_file[file]]
        try:
            return _read_file(result, roots, file, numbers, any_time=input_uri is not None)
        except BertsumError as error:
            return [SourceText(None, mask(str(error)))] * len(numbers)

    with ThreadPoolExecutor(_THREADS) as pool:
        for file, of_file in zip(by_file, pool.map(read, by_file), strict=True):
            for index, text in zip(by_file[file], of_file, strict=True):
                texts[index] = text
    return texts


def _find_roots(result: Result, input_uri: str | None) -> tuple[list[Folder], str | None]:
    """Directories in which INPUT's files may lie, or why there are none."""
    uri = input_uri or result.input_uri
    copies = find_copies(result.output, result.input_uri)
    if copies or uri.startswith(HUB_PREFIX):
        return copies, None if copies else f"the copy of {uri} in OUTPUT is gone"
    if _MASKED in uri:
        return [], f"the records name INPUT without its credentials ({uri}): give it with --input"
    try:
        return [input_root(uri)], None
    except (BertsumError, OSError, ValueError) as error:
        return [], f"INPUT {mask(uri)} cannot be reached: {describe(error)}"


def _read_file(
    result: Result,
    roots: Iterable[Folder],
    file: InputFile,
    numbers: Sequence[int],
    *,
    any_time: bool,
) -> list[SourceText]:
    """Texts of the rows of these numbers, which ascend. Raises InputError."""
    problem = f"{mask(file.path)} is gone from INPUT"
    for root in roots:
        info = root.info(file.path)
        if info is None:
            continue
        if info.size != file.size or (info.version != file.version and not any_time):
            problem = f"{mask(file.path)} has changed in INPUT since these results were made"
            continue
        current = InputFile(file.path, info.size, info.version)
        shards, problems = read_footers(Input(root, (current,)), [current])
        if not shards:
            problem = problems[current.path]
            continue
        return _read_rows(result, root, shards[0], numbers)
    return [SourceText(None, problem)] * len(numbers)


def _read_rows(
    result: Result, root: Folder, shard: Shard, numbers: Sequence[int]
) -> list[SourceText]:
    # text and query alone: which other columns the rows of OUTPUT keep does not matter here
    config = result.config.model_copy(
        update={"keep_columns": (), "language_column": None, "targets_column": None}
    )
    texts: list[SourceText] = []
    first = 0
    for group in shard.row_groups:
        # a row group is read up to its last wanted row, so that no row is decoded twice
        wanted = [number for number in numbers if first <= number < first + group.num_rows]
        first += group.num_rows
        if not wanted:
            continue
        position, columns = wanted[0], [config.text_column]
        if config.query_column is not None:
            columns.append(config.query_column)
        for table in stream_rows(root, shard.file, wanted[0], wanted[-1] + 1, columns):
            stop = position + table.num_rows
            of_table = [number - position for number in wanted if position <= number < stop]
            if of_table:
                for document in read_documents(table.take(of_table), config):
                    texts.append(SourceText(document.text, document.problem, document.query))
            position = stop
    return texts
