"""Rows of queries -> rows of matches: what a replica of `bertsum match` runs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, MutableMapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from bertsum.errors import BertsumError
from bertsum.inference.stream import Progress, Stream
from bertsum.matching.candidates import Candidates
from bertsum.matching.columns import kept_columns, match_fields
from bertsum.matching.config import EMBEDDING, ERROR, STATUS, TOKENS, MatchConfig
from bertsum.matching.top_k import Indices, Queries, top_k
from bertsum.schema import is_list

_NO_CANDIDATES = np.zeros(0, np.int64)


class Matcher:
    """Tables of queries in, tables with their nearest candidates out, one row a row.

    - `encoder`: gives the tables their columns with vectors and statuses
    """

    def __init__(
        self,
        encoder: Stream,
        candidates: Candidates,
        config: MatchConfig,
        *,
        device: torch.device,
        pass_queries: int,
    ) -> None:
        """`pass_queries`: how many rows are compared with all candidates at once."""
        self.encoder, self._candidates, self._config = encoder, candidates, config
        self._device, self._pass_queries = device, pass_queries
        self.stage_seconds = encoder.stage_seconds
        self._signs_of_life: list[Callable[[], None]] = []

    @property
    def max_batch_tokens(self) -> int:
        return self.encoder.max_batch_tokens

    @max_batch_tokens.setter
    def max_batch_tokens(self, max_batch_tokens: int) -> None:
        self.encoder.max_batch_tokens = max_batch_tokens

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """Matches of `tables`, in order; the first queries are prepared before this returns."""
        return self._match_all(self.encoder.stream(tables, on_progress))

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """Rows of status `error`, without matches."""
        return self._match(self.encoder.give_up(table, reason))

    def on_batch(self, call: Callable[[], None]) -> None:
        """Call `call` after each batch of texts and each block of candidates, from now on."""
        self.encoder.on_batch(call)
        self._signs_of_life.append(call)

    def _match_all(self, encoded: Iterable[pa.Table]) -> Iterator[pa.Table]:
        waiting: list[pa.Table] = []
        num_rows = 0
        for table in encoded:
            # a table without rows makes one without rows, too
            for start in range(0, max(1, table.num_rows), self._pass_queries):
                part = table.slice(start, self._pass_queries)
                if waiting and num_rows + part.num_rows > self._pass_queries:
                    yield self._match(pa.concat_tables(waiting))
                    waiting, num_rows = [], 0
                waiting.append(part)
                num_rows += part.num_rows
        if waiting:
            yield self._match(pa.concat_tables(waiting))

    def _match(self, table: pa.Table) -> pa.Table:
        """The rows of `table`, which has the encoder's columns, with their matches."""
        start = time.perf_counter()
        has_vector = pc.is_valid(table[EMBEDDING]).to_numpy()
        matches = self._nearest(table.filter(pa.array(has_vector)), has_vector)
        self.stage_seconds["forward"] += time.perf_counter() - start
        made = self._config.query_encoder().predicted.names
        own = pa.schema([field for field in table.schema if field.name not in made])
        names = kept_columns(own, self._config)
        result = table.select(names).append_column("matches", matches)
        for name, column in (("status", STATUS), ("error", ERROR), ("num_tokens", TOKENS)):
            result = result.append_column(table.schema.field(column).with_name(name), table[column])
        return result.replace_schema_metadata(None)

    def _nearest(self, queries: pa.Table, has_vector: npt.NDArray[np.bool_]) -> pa.ListArray:
        """One list of matches for each entry of `has_vector`, null where that is false."""
        config, candidates = self._config, self._candidates
        num_features = queries[EMBEDDING].type.list_size
        vectors = queries[EMBEDDING].combine_chunks().flatten().to_numpy()
        nearest = top_k(
            Queries(
                vectors.reshape(
                    queries.num_rows, num_features
                ).copy(),  # torch takes no read-only arrays
                candidates.group_numbers(queries),
                self._seen(queries),
            ),
            candidates.blocks,
            config.top_k,
            device=self._device,
            on_block=self._give_sign_of_life,
        )
        is_match = nearest.indices >= 0
        if config.min_score is not None:
            is_match &= nearest.scores >= config.min_score
        counts = np.zeros(len(has_vector), np.int64)
        counts[has_vector] = is_match.sum(1)
        rows = candidates.take(nearest.indices[is_match])
        ranks = np.nonzero(is_match)[1] + 1  # the best ones come first, so no rank is left out
        arrays = [
            _as_array(rows[config.id_column]),
            pa.array(nearest.scores[is_match].astype(np.float32)),
            pa.array(ranks.astype(np.int32)),
            *(_as_array(rows[name]) for name in config.candidate_columns),
        ]
        fields = match_fields(rows.schema, config)
        return pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)),
            pa.StructArray.from_arrays(arrays, fields=fields),
            type=pa.list_(pa.struct(fields)),
            mask=pa.array(~has_vector),
        )

    def _seen(self, queries: pa.Table) -> list[Indices]:
        """Candidates that each query must not get."""
        if self._config.seen_column is None:
            return [_NO_CANDIDATES] * queries.num_rows
        column = _as_array(queries[self._config.seen_column])
        ids = pc.list_flatten(column) if is_list(column.type) else column
        positions = self._candidates.positions(ids)
        seen: list[Indices] = []
        for value in column.to_pylist():
            values = value if isinstance(value, list) else [value]
            known = [positions[key] for key in values if key in positions]
            seen.append(np.concatenate([_NO_CANDIDATES, *known]))
        return seen

    def _give_sign_of_life(self) -> None:
        for call in self._signs_of_life:
            call()


class GivenVectors:
    """The stream of queries that have their vectors already: users, whose texts were averaged."""

    def __init__(self) -> None:
        self.stage_seconds: MutableMapping[str, float] = defaultdict(float)
        self.max_batch_tokens = 0

    def stream(
        self, tables: Iterable[pa.Table], on_progress: Progress | None = None
    ) -> Iterator[pa.Table]:
        """The same tables."""
        for table in tables:
            if on_progress:
                on_progress(table.num_rows, pc.sum(table[TOKENS]).as_py() or 0)
            yield table

    def give_up(self, table: pa.Table, reason: str) -> pa.Table:
        """Raises BertsumError: no vector makes a process die."""
        raise BertsumError(reason)

    def on_batch(self, call: Callable[[], None]) -> None:
        """Nothing runs in batches here."""


def _as_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
