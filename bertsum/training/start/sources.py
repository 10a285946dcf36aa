"""This worker's part of the rows that a run learns from and is measured on."""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from bertsum.config import SummarizerConfig
from bertsum.model_config import ModelConfig
from bertsum.text.encoder import DocumentEncoder
from bertsum.training.config import TrainingConfig
from bertsum.training.data import Sampling, read_examples
from bertsum.training.distributed import gather
from bertsum.training.examples import Example, ExampleFile, labelled, measurable, summarized
from bertsum.training.results.log import Report
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.validation import LabelledSource


def read_sources(
    config: TrainingConfig,
    model: ModelConfig,
    encoder: DocumentEncoder,
    report: Report,
) -> list[LabelledSource]:
    """Read this worker's part of all sources, and report what all workers read."""
    writes = config.decoder is not None
    sources = []
    for source in config.sources:
        start = time.monotonic()

        def read(
            uri: str | None,
            max_windows: int,
            max_rows: int | None = None,
            source: SourceConfig = source,
        ) -> ExampleFile:
            if uri is None:
                return ExampleFile.write(())
            return read_examples(
                source_uri(config, uri),
                source,
                encoder,
                model,
                max_windows=max_windows,
                sampling=Sampling(seed=config.seed, max_rows=max_rows),
                has_sentence_labels=not writes,
            )

        # a decoder reads one window, now and in a job; else measured is what a job reads
        num_windows = (1, 1) if writes else (source.max_windows, SummarizerConfig().max_windows)
        train = read(source.train_uri, num_windows[0], source.max_documents)
        # what is measured is found among all documents, and needs no negatives
        measured = source.model_copy(update={"negatives_column": None})
        validation = read(source.validation_uri, num_windows[1], source=measured)
        if writes:
            kept = LabelledSource(source, summarized(train), summarized(validation))
        else:
            kept = LabelledSource(source, labelled(train), measurable(validation))
        sources.append(kept)
        counts = {
            "rows to train on": len(kept.train),
            "to measure on": len(kept.validation),
            "without a label left out": len(train) - len(kept.train),
            "without text left out": train.num_skipped + validation.num_skipped,
        }
        # rows of both files are left out of the run
        counts["without a label left out"] += len(validation) - len(kept.validation)
        report({"message": _describe(source.name, counts, time.monotonic() - start)})
    return sources


def _describe(name: str, counts: Mapping[str, int], seconds: float) -> str:
    """A sentence of the counts of all workers; rows are left out of it where there are none."""
    totals: Counter[str] = Counter()
    for worker_counts in gather(dict(counts)):
        # Counter.update adds, where that of dict replaces
        totals.update(worker_counts)
    parts = []
    for kind, count in totals.items():
        if count or not kind.endswith("left out"):
            parts.append(f"{count} {kind}")
    return f"{name}: {', '.join(parts)} ({seconds:.0f} s)"


def repeated_texts(sources: Sequence[LabelledSource]) -> list[str]:
    """A warning for each source of which a validation text is a training text of any source, too.

    Case, marks and spaces do not count: of two sets of one origin one may have lost them. A pair is
    one text with its query. Every worker must call it.
    """
    # Those to measure on are fewer: they are kept, and the others only looked up.
    measured = [[_digest(example) for example in source.validation] for source in sources]
    wanted: set[bytes] = set().union(*chain.from_iterable(gather(measured)))
    trained: set[bytes] = set()
    for source in sources if wanted else ():
        trained |= wanted.intersection(map(_digest, source.train))
    trained = set().union(*gather(trained))
    warnings = []
    for source, digests in zip(sources, measured, strict=True):
        counts = gather((sum(digest in trained for digest in digests), len(digests)))
        repeated, total = np.sum(counts, axis=0)
        if repeated:
            warnings.append(
                f"{source.config.name}: {repeated} of {total} validation rows have the text of a "
                "training row, so their measures say little of new texts."
            )
    return warnings


def _digest(example: Example) -> bytes:
    texts = [example.document.text, example.pair.query.text if example.pair else ""]
    # of a text without a letter or digit all counts
    plain = [re.sub(r"[\W_]+", "", text.casefold()) or text for text in texts]
    return hashlib.blake2b("\0".join(plain).encode(), digest_size=16).digest()


def source_uri(config: TrainingConfig, uri: str) -> str:
    """The URI of a source's file: relative ones start from `data_root`."""
    uri = str(Path(uri).expanduser()) if uri.startswith("~") else uri
    if "://" in uri or uri.startswith("/"):
        return uri
    return f"{config.data_root}/{uri}"
