"""Tiny models that write, as a training run with a decoder makes them, with random weights."""

from pathlib import Path

import pyarrow as pa
import torch
import yaml

from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.summaries.writer import Writer, make_model
from helpers import tiny
from helpers.job_helpers import write
from helpers.rows import summary_rows

DECODER = {"num_layers": 2, "num_heads": 4, "feed_forward_size": 64, "max_tokens": 20}
"""The keys of `decoder:` that make it tiny."""

# Fast enough for a tiny model to learn a few rows by heart.
LEARNING = {
    "dropout": 0.0,
    "encoder_rate": 0.02,
    "encoder_warmup_steps": 50,
    "decoder_rate": 0.05,
    "decoder_warmup_steps": 50,
}


def writer(kind: str = "bert", **changes) -> Writer:
    """In float64 and evaluation mode. What it writes depends on what it reads."""
    config = DecoderConfig.model_validate(DECODER | {"num_beams": 3} | changes)
    tokenizer = tiny.ENCODER_TOKENIZERS[kind]()
    made = Writer(make_model(tiny.encoder(kind), tokenizer, config, segments=True))
    torch.manual_seed(9)
    for name, weight in made.model.decoder.named_parameters():
        if weight.dim() > 1:  # Transformers' first weights are so small that all inputs look alike
            torch.nn.init.normal_(weight, std=0.1 if "word_embeddings" in name else 0.3)
    return made.double().eval()


def make_config(root: Path, **values: object) -> Path:
    """A training configuration of a tiny decoder, with its rows and its encoder."""
    tiny.save(root / "encoder", tiny.encoder(), tiny.wordpiece())
    write(pa.table(summary_rows(6)), root / "news.parquet")
    source = {"name": "news", "train_uri": "news.parquet", "validation_uri": "news.parquet"}
    settings = {
        "encoder": str(root / "encoder"),
        "data_root": str(root),
        "dtype": "float32",
        "max_batch_tokens": 120,
        "decoder": DECODER | LEARNING,
        "sources": [source | {"summary_column": "summary"}],
        "resources": {"num_cpus": 1},
    }
    path = root / "train.yaml"
    path.write_text(yaml.safe_dump(settings | values))
    return path
