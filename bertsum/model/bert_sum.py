"""BERTSUM: an encoder, inter-sentence summarization layers, and heads of sentiment and topic, in one pass.

Liu & Lapata 2019, "Text Summarization with Pretrained Encoders" (sections 3.1 and 3.2), with three additions: the mean
of a sentence's tokens may stand for the sentence in place of its [CLS]; the sentences of all windows of a document go
through the summarization layers together, so that a document may be longer than the encoder's positions; and these
layers are told what such vectors do not hold (surface.py).

Everything is packed: no padding between documents, and none between windows where the encoder is of the BERT family.

Shapes: B documents, W windows, L tokens of the longest window of a group, T tokens, P pieces, S sentences of all
documents, H hidden size, C classes, F surface features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from bertsum.config import ModelConfig
from bertsum.errors import ModelError
from bertsum.model.attention import can_pack, encode_packed, packed_attention, positions, runs, runs_of_tokens
from bertsum.model.batches import Batch
from bertsum.model.ranking import CandidateRanker
from bertsum.text.surface_features import NUM_SURFACE_FEATURES

# Where windows have to be padded, padding of a group of them stays below this share of the longest.
_MAX_PADDING = 0.125
# Tokens that go through the encoder at once on a CPU. More of them are fewer calls, and threads wait less often for
# each other; fewer of them stay in the caches. Medians on a busy 2-core Zen 5, MiniLM-L6, in tokens/s: 2,048: 11.5k,
# 4,096: 12.4k, 8,192: 13.0k, 16,384: less again; on an idle one 2,048 and 4,096 are equal.
_CPU_GROUP_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Logits:
    """Raw scores of a batch, before sigmoid and softmax."""

    sentence_logits: Tensor  # [S]
    sentiment_logits: Tensor | None  # [B, C]
    sentence_vectors: Tensor  # [S, H] float32, what the heads saw
    topic_logits: Tensor | None = None  # [B, C]
    token_sentiment_logits: Tensor | None = None  # [T, C]


class BertSum(nn.Module):
    """An encoder of Transformers and the heads on it."""

    def __init__(self, encoder: Any, config: ModelConfig):
        """`encoder`: a BERT-like `AutoModel`. Raises ModelError where `num_heads` or `prefix_tokens` do not fit it."""
        super().__init__()
        hidden_size = encoder.config.hidden_size
        if hidden_size % config.num_heads:
            raise ModelError(f"num_heads={config.num_heads} does not divide the encoder's hidden size {hidden_size}")
        if hasattr(encoder, "pooler"):
            encoder.pooler = None  # a layer over the first [CLS] that no head reads
        self.config = config
        self.encoder = encoder
        self.is_packed = can_pack(encoder)
        self.prefix = _make_prefix(encoder, config.prefix_tokens) if config.prefix_tokens else None
        self.summarization = SummarizationLayers(hidden_size, config)
        self.sentiment = _document_head(hidden_size, config, config.sentiment_labels)
        self.topic = _document_head(hidden_size, config, config.topic_labels)
        num_tags = len(config.token_sentiment_labels)
        self.token_sentiment = (
            nn.Sequential(nn.Dropout(config.dropout), nn.Linear(hidden_size, num_tags)) if num_tags else None
        )
        # it reads no vectors, and no logits before they are on the host: see `candidates.choose_sentences`
        self.candidates = CandidateRanker(encoder.config.vocab_size, config.dropout) if config.rank_candidates else None

    def forward(self, batch: Batch) -> Logits:
        """Scores of all sentences, documents and, with a head for them, tokens of a batch."""
        tokens = self.token_vectors(batch)
        logits = self.heads(self._pool(tokens, batch), batch)
        if self.token_sentiment is None:
            return logits
        return replace(logits, token_sentiment_logits=self.token_sentiment(tokens.float()))

    def heads(self, vectors: Tensor, batch: Batch) -> Logits:
        """The same from the batch's [S, H] sentence vectors, without the encoder and the head over tokens."""
        return Logits(
            sentence_logits=self.summarization(vectors, batch.surface, batch.num_sentences),
            sentiment_logits=None if self.sentiment is None else self.sentiment(vectors, batch.num_sentences),
            sentence_vectors=vectors,
            topic_logits=None if self.topic is None else self.topic(vectors, batch.num_sentences),
        )

    def sentence_vectors(self, batch: Batch) -> Tensor:
        """[S, H] in float32: the mean over each sentence's tokens, or over the [CLS] of its pieces."""
        return self._pool(self.token_vectors(batch), batch)

    def _pool(self, vectors: Tensor, batch: Batch) -> Tensor:
        num_sentences = sum(batch.num_sentences)
        places = batch.token_sentences
        if self.config.pooling == "cls":
            vectors, places = vectors[batch.cls_positions], places[batch.cls_positions]
        sums = vectors.new_zeros(num_sentences, vectors.shape[1], dtype=torch.float32)
        sums = sums.index_add(0, places, vectors.float())
        ones = torch.ones_like(places, dtype=torch.float32)
        # not `bincount`, for which the host waits for the device
        counts = ones.new_zeros(num_sentences).index_add(0, places, ones)
        return sums / counts.unsqueeze(1)

    def token_vectors(self, batch: Batch) -> Tensor:
        """[T, H] last hidden states; windows see only themselves."""
        if self.is_packed and (batch.input_ids.is_cuda or self.training):
            return encode_packed(self.encoder, batch.input_ids, batch.token_type_ids, batch.window_lengths, self.prefix)
        if self.is_packed:
            groups = runs_of_tokens(batch.window_lengths, _CPU_GROUP_TOKENS)
            sizes = [sum(lengths) for lengths in groups]
            parts = (torch.split(values, sizes) for values in (batch.input_ids, batch.token_type_ids))
            vectors = [
                encode_packed(self.encoder, ids, segments, lengths, self.prefix)
                for ids, segments, lengths in zip(*parts, groups, strict=True)
            ]
            return torch.cat(vectors)
        return self._padded_token_vectors(batch)

    def _padded_token_vectors(self, batch: Batch) -> Tensor:
        """The same by groups of windows of nearly equal length, padded to [W, L], through the encoder's own forward."""
        vectors = []
        position = 0
        for lengths in _window_groups(batch.window_lengths, batch.input_ids.is_cuda):
            stop = position + sum(lengths)
            mask = torch.arange(lengths[-1])[None, :] < torch.tensor(lengths)[:, None]  # [W, L]
            mask = mask.to(batch.input_ids.device)
            inputs = {"input_ids": _pad(batch.input_ids[position:stop], mask, self.encoder.config.pad_token_id or 0)}
            if getattr(self.encoder.config, "type_vocab_size", 0) > 1:
                inputs["token_type_ids"] = _pad(batch.token_type_ids[position:stop], mask, 0)
            hidden = self.encoder(attention_mask=mask.long(), **inputs).last_hidden_state  # [W, L, H]
            vectors.append(hidden[mask])
            position = stop
        return torch.cat(vectors)


class SummarizationLayers(nn.Module):
    """Sentence vectors -> one logit a sentence, by a linear layer, alone or after an LSTM or Transformer."""

    def __init__(self, hidden_size: int, config: ModelConfig):
        super().__init__()
        self.position_scale = config.position_scale
        self.surface = nn.Linear(NUM_SURFACE_FEATURES, hidden_size) if config.surface_features else None
        self.layers = nn.ModuleList()
        self.lstm: nn.LSTM | None = None
        if config.summarization_layers == "transformer":
            self.layers.extend(SentenceLayer(hidden_size, config) for _ in range(config.num_summarization_layers))
        if config.summarization_layers == "lstm":
            self.lstm = _bidirectional_lstm(hidden_size, config.num_summarization_layers)
        self.norm = nn.LayerNorm(hidden_size) if config.summarization_layers != "linear" else nn.Identity()
        self.scorer = nn.Linear(hidden_size, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, vectors: Tensor, surface: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] sentence vectors and [S, F] surface features, document by document -> [S] logits."""
        if self.surface is not None:
            vectors = vectors + self.surface(surface)
        if self.layers:
            places = positions(num_sentences, vectors.device)
            vectors = vectors + self.position_scale * sinusoidal_positions(places, vectors.shape[1])
            vectors = self.dropout(vectors)
            for layer in self.layers:
                vectors = layer(vectors, num_sentences)
        if self.lstm is not None:
            vectors = self.dropout(run_lstm(self.lstm, vectors, num_sentences)[0])
        return self.scorer(self.norm(vectors)).squeeze(1)  # type: ignore[no-any-return]


class SentenceLayer(nn.Module):
    """Pre-norm Transformer layer over the sentences of a document (Vaswani et al. 2017; Xiong et al. 2020)."""

    def __init__(self, hidden_size: int, config: ModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout_rate = config.dropout
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_output = nn.Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, config.feed_forward_size),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feed_forward_size, hidden_size),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, vectors: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] -> [S, H]; a sentence attends to those of its document."""
        query, key, value = self.query_key_value(self.attention_norm(vectors)).chunk(3, dim=1)
        dropout = self.dropout_rate if self.training else 0.0
        attended = packed_attention(query, key, value, num_sentences, self.num_heads, dropout)
        vectors = vectors + self.dropout(self.attention_output(attended))
        return vectors + self.dropout(self.feed_forward(self.feed_forward_norm(vectors)))  # type: ignore[no-any-return]


class DocumentHead(nn.Module):
    """Sentence vectors -> document vector -> class logits.

    The document vector is A = MultiHeadAttention(learned query, sentence vectors), or their mean, or the last
    states of an LSTM.
    """

    def __init__(self, hidden_size: int, config: ModelConfig, num_labels: int):
        super().__init__()
        self.attention: nn.MultiheadAttention | None = None
        self.lstm: nn.LSTM | None = None
        if config.sentiment_pooling == "attention":
            self.query = nn.Parameter(torch.empty(1, 1, hidden_size).normal_(std=hidden_size**-0.5))
            self.attention = nn.MultiheadAttention(hidden_size, config.num_heads, batch_first=True)
        if config.sentiment_pooling == "lstm":
            self.lstm = _bidirectional_lstm(hidden_size, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, vectors: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] sentence vectors, document by document -> [B, C] logits."""
        if self.lstm is not None:
            document_vectors = run_lstm(self.lstm, vectors, num_sentences)[1]
        else:
            document_vectors = torch.cat(
                [
                    self._pool(vectors[first : first + count * length].view(count, length, -1))
                    for first, count, length in runs(num_sentences)
                ]
            )
        return self.classifier(self.dropout(document_vectors))  # type: ignore[no-any-return]

    def _pool(self, vectors: Tensor) -> Tensor:
        """[n, L, H] sentence vectors of n documents of equal length -> [n, H]."""
        if self.attention is None:
            return vectors.mean(1)
        query = self.query.expand(len(vectors), -1, -1)
        return self.attention(query, vectors, vectors, need_weights=False)[0].squeeze(1)  # type: ignore[no-any-return]


def sinusoidal_positions(places: Tensor, hidden_size: int) -> Tensor:
    """[S] places from 0 -> [S, H]: sine in even features, cosine in odd ones (Vaswani et al. 2017, section 3.5)."""
    frequency = torch.exp(torch.arange(0, hidden_size, 2, device=places.device) * (-math.log(10000.0) / hidden_size))
    angles = places.unsqueeze(1) * frequency
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :hidden_size]


def run_lstm(lstm: nn.LSTM, vectors: Tensor, num_sentences: list[int]) -> tuple[Tensor, Tensor]:
    """[S, H] outputs, and [B, H] last states of both directions of the last layer."""
    packed = pack_sequence(list(torch.split(vectors, num_sentences)), enforce_sorted=False)
    output: PackedSequence
    output, (state, _) = lstm(packed)
    return torch.cat(unpack_sequence(output)), torch.cat([state[-2], state[-1]], dim=1)


def _make_prefix(encoder: Any, num_tokens: int) -> nn.Parameter:
    """[layers, 2, P, H], small: at first a token's own window decides (prefix tuning, Li & Liang 2021, section 4)."""
    config = encoder.config
    if not can_pack(encoder):
        raise ModelError(f"prefix_tokens needs an encoder of BERT's family, not {config.model_type}")
    shape = (config.num_hidden_layers, 2, num_tokens, config.hidden_size)
    return nn.Parameter(torch.empty(shape).normal_(std=0.02))


def _document_head(hidden_size: int, config: ModelConfig, labels: Sequence[str]) -> DocumentHead | None:
    return DocumentHead(hidden_size, config, len(labels)) if labels else None


def _bidirectional_lstm(hidden_size: int, num_layers: int) -> nn.LSTM:
    if hidden_size % 2:
        raise ModelError(f"an LSTM head runs both ways, so the hidden size must be even, not {hidden_size}")
    return nn.LSTM(hidden_size, hidden_size // 2, num_layers, batch_first=True, bidirectional=True)


def _window_groups(window_lengths: list[int], on_gpu: bool) -> list[list[int]]:
    """Ascending lengths, cut where padding or, on a CPU, the size of a group would grow too large."""
    groups: list[list[int]] = []
    for length in window_lengths:
        is_new = not groups or groups[-1][0] < (1 - _MAX_PADDING) * length
        if is_new or (not on_gpu and (len(groups[-1]) + 1) * length > _CPU_GROUP_TOKENS):
            groups.append([])
        groups[-1].append(length)
    return groups


def _pad(values: Tensor, mask: Tensor, fill: int) -> Tensor:
    """[T] packed -> [W, L] padded with `fill`."""
    return values.new_full(mask.shape, fill).masked_scatter(mask, values)
