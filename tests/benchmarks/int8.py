"""Would the encoder's products in whole numbers of 8 bits be worth it on this CPU?

    python tests/benchmarks/int8.py ../shared/data/sentiment/*/validation.parquet --rows 300

Each linear layer of the encoder multiplies whole numbers, by the recipes of int8_linear.py. oneDNN
makes such products fast on CPUs with VNNI. The same rows go through float32, bfloat16 and each
recipe in turn; shown are CPU seconds, how often label and summary are those of float32, and ROUGE-1
where a file has summaries to compare with. Nothing of the product uses this.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
from int8_linear import RECIPES, to_int8

from bertsum import Prediction, Summarizer
from bertsum.config import SummarizerConfig
from bertsum.evaluation.rouge import mean_rouge, rouge


def load(model: str, arithmetic: str) -> Summarizer:
    """A model whose encoders compute in float32, in bfloat16, or by a recipe."""
    dtype = "float32" if arithmetic in RECIPES else arithmetic
    config = SummarizerConfig.model_validate({"dtype": dtype})
    summarizer = Summarizer(model, config, device="cpu")
    if arithmetic in RECIPES:
        for reader in summarizer.readers.values():
            to_int8(reader.model.encoder, RECIPES[arithmetic])
    return summarizer


def read(path: Path, rows: int) -> tuple[list[str], list[str] | None]:
    """Texts, and their summaries where there are any."""
    table = pq.read_table(path)
    table = table.filter(table["document"].is_valid()).slice(0, rows)
    has_summaries = "summary" in table.column_names
    return (
        table["document"].to_pylist(),
        table["summary"].to_pylist() if has_summaries else None,
    )


def share(ours: Sequence[Prediction], theirs: Sequence[Prediction], field: str) -> float:
    """Of rows with the same value."""
    pairs = zip(ours, theirs, strict=True)
    num_equal = sum(bool(getattr(a, field) == getattr(b, field)) for a, b in pairs)
    return num_equal / len(ours)


def rouge_1(predictions: Sequence[Prediction], references: Sequence[str]) -> float:
    """Mean of the F-measures in percent."""
    summaries = [prediction.summary or "" for prediction in predictions]
    return mean_rouge(rouge(summaries, references)).rouge_1


def main() -> None:
    """Print a row for each file and arithmetic."""
    options = argparse.ArgumentParser()
    options.add_argument("inputs", type=Path, nargs="+")
    options.add_argument("--rows", type=int, default=300)
    options.add_argument("--model", default="bertsum-default")
    options.add_argument("--recipes", nargs="*", choices=RECIPES, default=[*RECIPES])
    arguments = options.parse_args()
    torch.set_num_threads(1)
    vnni = torch.cpu._is_vnni_supported()
    print(f"VNNI: {vnni}" + ("" if vnni else "; int8 may be slow, or wrong by saturation"))
    names = ["float32", "bfloat16", *arguments.recipes]
    by_name = {name: load(arguments.model, name) for name in names}
    print("file, rows, arithmetic, CPU s, of float32's, labels, summaries as float32, ROUGE-1")
    agreeing: dict[str, float] = dict.fromkeys(by_name, 0)
    num_rows = 0
    for path in arguments.inputs:
        texts, references = read(path, arguments.rows)
        num_rows += len(texts)
        exact: list[Prediction] = []
        exact_seconds = 0.0
        for name, summarizer in by_name.items():
            summarizer(texts[: len(texts) // 10 + 1])  # the first rows learn words
            start = time.process_time()
            predictions = summarizer(texts)
            seconds = time.process_time() - start
            if name == "float32":
                exact, exact_seconds = predictions, seconds
            labels = share(predictions, exact, "sentiment")
            agreeing[name] += labels * len(texts)
            score = "" if references is None else f", {rouge_1(predictions, references):.2f}"
            print(
                f"{path.parent.name}, {len(texts)}, {name}, {seconds:.2f}, "
                f"{seconds / exact_seconds:.2f}, {labels:.4f}, "
                f"{share(predictions, exact, 'summary_sentences'):.4f}{score}",
                flush=True,
            )
    for name, count in agreeing.items():
        print(f"labels of all {num_rows:,} rows, {name}: {count / num_rows:.4f}")


if __name__ == "__main__":
    main()
