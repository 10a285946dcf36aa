"""Vectors of short texts, such as names, in the space of the documents' embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bertsum.errors import ConfigError
from bertsum.model.batches import make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.text.encoder import DocumentEncoder


def text_vectors(
    texts: Sequence[str],
    model: BertSum,
    encoder: DocumentEncoder,
    *,
    key: str,
    may_be_unknown: bool = False,
) -> Tensor:
    """[N, H] float32 of length 1, on the model's device.

    - `key`: of the configuration that names the texts.
    - `may_be_unknown`: the vector of a text in a language that the model does not know is made,
      though it says nothing.

    Raises ConfigError for a text without a word, or without one that the model knows.
    """
    documents = encoder.encode(texts, [None] * len(texts), max_windows=1)
    for text, document in zip(texts, documents, strict=True):
        if not document.num_read_tokens:
            raise ConfigError(f"{key}: {text!r} has no word that the model reads")
        if document.is_unknown_language and not may_be_unknown:
            raise ConfigError(
                f"{key}: {text!r} is not in a language that the model reads. Say it in one that it "
                "does, or give a model that reads this language; each member of a family has to"
            )
    batch = make_batch(documents, range(len(documents)))
    with torch.inference_mode():
        logits = model(batch.to(next(model.parameters()).device), document_vectors=True)
    # a batch has its documents in an order of its own
    vectors: Tensor = logits.document_vectors[np.argsort(batch.documents).tolist()]
    return vectors
