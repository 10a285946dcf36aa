"""Vectors of texts by an encoder as its authors published it, before any training."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from bertsum.checkpoints.checkpoint import load_encoder
from bertsum.model.batches import group_by_length
from bertsum.training.results.log import Report, shown
from bertsum.training.state import weights_digest

_BATCH_TOKENS = 4096


class UntrainedEncoder:
    """The mean of the last hidden states of a text, read as the authors do: in one piece."""

    def __init__(
        self,
        source: str,
        prefix: str,
        max_tokens: int,
        device: torch.device | None = None,
    ) -> None:
        """`source`: as `load_encoder` takes it; `prefix`: what stands before each text."""
        encoder, self._tokenizer = load_encoder(source)
        self._encoder = encoder.train(False).to(device or torch.device("cpu"))
        self._prefix, self._max_tokens = prefix, max_tokens

    def digest(self, dtype: str) -> bytes:
        """Digest of all that makes vectors of texts, computed in `dtype`."""
        settings = f"untrained {self._max_tokens} {dtype} {self._prefix}"
        return weights_digest(settings, self._encoder.state_dict())

    @torch.inference_mode()
    def embed(
        self, texts: Sequence[str], report: Report = lambda line: None
    ) -> npt.NDArray[np.float32]:
        """[N, H] vectors of length 1, of the beginning of each text."""
        vectors = np.zeros((len(texts), self._encoder.config.hidden_size), np.float32)
        if not texts:
            return vectors
        prefixed = [self._prefix + text for text in texts]
        ids = self._tokenizer(prefixed, truncation=True, max_length=self._max_tokens)["input_ids"]
        groups = group_by_length([len(row) for row in ids], _BATCH_TOKENS)
        for group in shown(groups, len(texts), "vectors before training", report):
            rows = {"input_ids": [ids[index] for index in group]}
            batch = self._tokenizer.pad(rows, return_tensors="pt").to(self._encoder.device)
            hidden = self._encoder(**batch).last_hidden_state.float()  # [B, L, H]
            is_text = batch["attention_mask"].unsqueeze(2)
            means = (hidden * is_text).sum(1) / is_text.sum(1)
            vectors[group] = torch.nn.functional.normalize(means, dim=1).cpu().numpy()
        return vectors
