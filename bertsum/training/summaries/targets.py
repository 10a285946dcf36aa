"""Reference summaries -> what the decoder reads and what it shall write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bertsum.model.losses import IGNORE


@dataclass(frozen=True, slots=True)
class Targets:
    """B summaries of up to L tokens: at each index the decoder reads one id and shall write another.

    Of the summary `a b`: it reads [CLS] a b, and shall write a b [SEP].
    """

    inputs: Tensor  # [B, L] int64, padded
    labels: Tensor  # [B, L] int64, IGNORE where there is padding


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTokenizer:
    """Makes targets of at most `max_tokens` tokens.

    `tokenizer`: a fast one of Transformers, with [CLS], [SEP] and [PAD].
    """

    tokenizer: Any
    max_tokens: int

    def encode(self, summaries: Sequence[str]) -> list[list[int]]:
        """Ids of each whole summary, its lines joined by a space, [SEP] at the end."""
        texts = [" ".join(summary.split()) for summary in summaries]
        # the backend itself: a call of the tokenizer would take an author's "[SEP]" for an end
        encodings = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [[*encoding.ids, self.tokenizer.sep_token_id] for encoding in encodings]

    def targets(self, summaries: Sequence[str]) -> Targets:
        """Targets of B summaries, each cut to `max_tokens`; a cut one has no [SEP]."""
        written = [ids[: self.max_tokens] for ids in self.encode(summaries)]
        longest = max(map(len, written))
        inputs = torch.full((len(written), longest), self.tokenizer.pad_token_id)
        labels = torch.full_like(inputs, IGNORE)
        for row, ids in enumerate(written):
            labels[row, : len(ids)] = torch.tensor(ids)
            inputs[row, : len(ids)] = torch.tensor([self.tokenizer.cls_token_id, *ids[:-1]])
        return Targets(inputs, labels)

    def count(self, summaries: Sequence[str]) -> int:
        """Target tokens of all summaries."""
        return sum(min(len(ids), self.max_tokens) for ids in self.encode(summaries))
