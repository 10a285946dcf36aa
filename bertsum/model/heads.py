"""The heads: vectors of sentences in, scores of sentences or of documents out.

All take the sentences of several documents one behind the other, without padding.

Shapes: B documents, S sentences of all of them, H hidden size, C classes, F surface features; n
documents of L sentences each; A attention heads of D features each.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bertsum.errors import ModelError
from bertsum.model.attention.packed import packed_attention, positions, runs
from bertsum.model.sums import add_rows
from bertsum.model.transfer import to_device
from bertsum.model_config import ModelConfig
from bertsum.text.ragged import bounds, offsets, run_numbers
from bertsum.text.surface_features import NUM_SURFACE_FEATURES


class SummarizationLayers(nn.Module):
    """Sentence vectors -> one logit a sentence.

    By a linear layer, alone or after an LSTM or Transformer.
    """

    def __init__(self, hidden_size: int, config: ModelConfig):
        super().__init__()
        self.position_scale = config.position_scale
        self.surface: nn.Linear | None = None
        if config.surface_features:
            self.surface = nn.Linear(NUM_SURFACE_FEATURES, hidden_size)
        self.layers = nn.ModuleList()
        self.lstm: nn.LSTM | None = None
        if config.summarization_layers == "transformer":
            for _ in range(config.num_summarization_layers):
                self.layers.append(SentenceLayer(hidden_size, config))
        if config.summarization_layers == "lstm":
            self.lstm = _bidirectional_lstm(hidden_size, config.num_summarization_layers)
        self.norm: nn.Module = nn.Identity()
        if config.summarization_layers != "linear":
            self.norm = nn.LayerNorm(hidden_size)
        self.scorer = nn.Linear(hidden_size, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, vectors: Tensor, surface: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] vectors and [S, F] surface features, sorted by document -> [S] logits."""
        if self.surface is not None:
            vectors = vectors + self.surface(surface)
        if self.layers:
            index = positions(num_sentences, vectors.device)
            vectors = vectors + self.position_scale * sinusoidal_positions(index, vectors.shape[1])
            vectors = self.dropout(vectors)
            for layer in self.layers:
                vectors = layer(vectors, num_sentences)
        if self.lstm is not None:
            vectors = self.dropout(run_lstm(self.lstm, vectors, num_sentences)[0])
        logits: Tensor = self.scorer(self.norm(vectors))
        return logits.squeeze(1)


class SentenceLayer(nn.Module):
    """Transformer layer over the sentences of a document (Vaswani et al. 2017).

    The norms come first in each half, so that no warm-up is needed (Xiong et al. 2020).
    """

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
        query_key_value = self.query_key_value(self.attention_norm(vectors)).chunk(3, dim=1)
        attended = packed_attention(
            query_key_value,
            num_sentences,
            self.num_heads,
            dropout=self.dropout_rate if self.training else 0.0,
        )
        vectors = vectors + self.dropout(self.attention_output(attended))
        inner = self.feed_forward(self.feed_forward_norm(vectors))
        updated: Tensor = vectors + self.dropout(inner)
        return updated


class DocumentHead(nn.Module):
    """Sentence vectors -> document vector -> class logits.

    The document vector is MultiHeadAttention(learned query, sentence vectors), their mean, or the
    last states of an LSTM.
    """

    def __init__(self, hidden_size: int, config: ModelConfig, num_labels: int):
        super().__init__()
        self.attention: nn.MultiheadAttention | None = None
        self.lstm: nn.LSTM | None = None
        if config.sentiment_pooling == "attention":
            query = torch.empty(1, 1, hidden_size).normal_(
                std=hidden_size**-0.5
            )  # of length about 1
            self.query = nn.Parameter(query)
            self.attention = nn.MultiheadAttention(hidden_size, config.num_heads, batch_first=True)
        if config.sentiment_pooling == "lstm":
            self.lstm = _bidirectional_lstm(hidden_size, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, vectors: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] sentence vectors, document by document -> [B, C] logits."""
        if self.lstm is not None:
            document_vectors = run_lstm(self.lstm, vectors, num_sentences)[1]
        elif vectors.device.type != "cpu":
            document_vectors = self._pool_at_once(vectors, num_sentences)
        else:
            pooled = []
            for first, count, length in runs(num_sentences):
                block = vectors[first : first + count * length].view(count, length, -1)
                pooled.append(self._pool(block))
            document_vectors = torch.cat(pooled)
        logits: Tensor = self.classifier(self.dropout(document_vectors))
        return logits

    def _pool(self, vectors: Tensor) -> Tensor:
        """[n, L, H] sentence vectors of n documents of equal length -> [n, H]."""
        if self.attention is None:
            return vectors.mean(1)
        query = self.query.expand(len(vectors), -1, -1)
        attended: Tensor = self.attention(query, vectors, vectors, need_weights=False)[
            0
        ]  # [n, 1, H]
        return attended.squeeze(1)

    def _pool_at_once(self, vectors: Tensor, num_sentences: list[int]) -> Tensor:
        """[S, H] sentence vectors -> [B, H], as `_pool`, by as few kernels as one document takes.

        On a GPU the kernels of a block for each number of sentences are most of the heads' time. On
        a CPU the blocks are quicker.
        """
        linear = nn.functional.linear
        sums = vectors.new_zeros(len(num_sentences), vectors.shape[1])
        documents = to_device(torch.from_numpy(run_numbers(num_sentences)), vectors.device)  # [S]
        attention = self.attention
        if attention is None:
            add_rows(sums, documents, vectors)
            counts = torch.tensor(num_sentences, dtype=torch.float32)
            return sums / to_device(counts, vectors.device).unsqueeze(1)
        hidden_size, num_heads = vectors.shape[1], attention.num_heads
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        query = linear(self.query.view(1, -1), weight[:hidden_size], bias[:hidden_size])
        keys_values = linear(vectors, weight[hidden_size:], bias[hidden_size:])
        key, value = keys_values.view(len(vectors), 2, num_heads, -1).unbind(1)  # [S, A, D]
        scores = (query.view(1, num_heads, -1) * key).sum(2) * key.shape[2] ** -0.5  # [S, A]
        # softmax over the sentences of a document, less its maximum, so that nothing overflows;
        # whatever is taken off changes no weight, so it needs no gradient
        largest = scores.new_full((len(num_sentences), num_heads), -math.inf)
        by_head = documents.unsqueeze(1).expand_as(scores)
        largest = largest.scatter_reduce(0, by_head, scores.detach(), "amax")  # [B, A]
        weights = (scores - largest[documents]).exp()
        totals = torch.zeros_like(largest)
        add_rows(totals, documents, weights)
        add_rows(sums, documents, (weights.unsqueeze(2) * value).flatten(1))
        means = sums.view(len(sums), num_heads, -1) / totals.unsqueeze(2)  # [B, A, D]
        attended: Tensor = attention.out_proj(means.flatten(1))
        return attended


def sinusoidal_positions(indices: Tensor, hidden_size: int) -> Tensor:
    """[S] indices of sentences -> [S, H] (Vaswani et al. 2017, section 3.5).

    Feature 2i is sin(index / 10000^(2i / H)), and feature 2i + 1 the cosine.
    """
    even = torch.arange(0, hidden_size, 2, device=indices.device)
    frequency = torch.exp(even * (-math.log(10000.0) / hidden_size))  # [H / 2], rounded up
    angles = indices.unsqueeze(1) * frequency
    pairs = torch.stack([angles.sin(), angles.cos()], dim=2)
    return pairs.flatten(1)[:, :hidden_size]  # where H is odd, the last cosine is left out


def run_lstm(lstm: nn.LSTM, vectors: Tensor, num_sentences: list[int]) -> tuple[Tensor, Tensor]:
    """[S, H] outputs, and [B, H] last states of both directions of the last layer."""
    # As `pack_sequence` does, but with indices made on the host, which waits for no device: first
    # the first sentences of all documents, the longest document first, then the second ones, and
    # so on.
    counts = np.array(num_sentences)
    longest_first = np.argsort(-counts, kind="stable")
    steps = offsets(counts[longest_first])  # [S] index of each sentence in its document
    rows = np.repeat(bounds(counts)[longest_first], counts[longest_first]) + steps
    rows = rows[np.argsort(steps, kind="stable")]  # [S] of `vectors`, in the order of the LSTM

    def on_device(values: npt.NDArray[np.int64]) -> Tensor:
        return to_device(torch.from_numpy(values), vectors.device)

    packed = PackedSequence(
        vectors[on_device(rows)],
        torch.from_numpy(np.bincount(steps)),  # the documents that have an n-th sentence
        on_device(longest_first),
        on_device(np.argsort(longest_first)),
    )
    output: PackedSequence
    output, (state, _) = lstm(packed)
    last = torch.cat([state[-2], state[-1]], dim=1)
    return output.data[on_device(np.argsort(rows))], last


def _bidirectional_lstm(hidden_size: int, num_layers: int) -> nn.LSTM:
    if hidden_size % 2:
        raise ModelError(
            f"an LSTM head runs both ways, so the hidden size must be even, not {hidden_size}"
        )
    return nn.LSTM(hidden_size, hidden_size // 2, num_layers, batch_first=True, bidirectional=True)
