"""Labelled rows that a tiny model can learn, and configurations for them."""

from bertsum.training.config import TrainingConfig
from helpers import tiny


def summary_rows(count: int = 8) -> dict:
    """Documents of five sentences, of which one is the summary: the one about the zebra."""
    texts, summaries = [], []
    for number in range(count):
        sentences = [
            tiny.sentence(*range(5 * number + 7 * i, 5 * number + 7 * i + 5)) for i in range(4)
        ]
        first, second, third = (
            tiny.WORDS[i % len(tiny.WORDS)] for i in (number, number + 3, 2 * number)
        )
        summaries.append(f"Zebra {first} {second} {third}.")
        sentences.insert(number % 5, summaries[-1])
        texts.append(" ".join(sentences))
    return {"document": texts, "summary": summaries}


def sentiment_rows(count: int = 8) -> dict:
    """Documents that say at the end what they think."""
    return {
        "document": [
            f"{tiny.text(2, 4, first=3 * i)} It was {['awful', 'great'][i % 2]}."
            for i in range(count)
        ],
        "label": [["negative", "positive"][i % 2] for i in range(count)],
    }


def training_config(**values) -> TrainingConfig:
    """Small, without dropout."""
    model = tiny.model_config(dropout=0.0).model_dump() | values.pop("model", {})
    defaults = {
        "encoder": "not read here",
        "model": model,
        "sources": [{"name": "news", "summary_column": "summary"}],
        "encoder_dropout": 0.0,
        "encoder_learning_rate": 1e-3,
        "head_learning_rate": 3e-3,
        "dtype": "float32",
        "max_batch_tokens": 200,
    }
    return TrainingConfig.model_validate(defaults | values)
