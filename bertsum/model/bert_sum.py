"""BERTSUM: an encoder, inter-sentence summarization layers, and heads of sentiment and topic, in
one pass.

Liu & Lapata 2019, "Text Summarization with Pretrained Encoders" (sections 3.1 and 3.2), with three
additions:

- The mean of a sentence's tokens may represent the sentence in place of its [CLS].
- The sentences of all windows of a document go through the summarization layers together, so that a
  document may be longer than the encoder's positions.
- These layers are told what such vectors do not hold (text/surface_features.py).

Everything is packed: no padding between documents, and none between windows where the encoder is of
the BERT family.

Shapes: B documents, W windows, L tokens of the longest window of a group, T tokens, P pieces, S
sentences of all documents, Q queries, H hidden size, C classes, F surface features, E features of
the embedding's layers, which are H each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bertsum.errors import ModelError
from bertsum.model.attention import (
    can_pack,
    encode_packed,
    packed_attention,
    positions,
    runs,
    runs_of_tokens,
)
from bertsum.model.batches import Batch, TokenPools
from bertsum.model.ranking import CandidateRanker
from bertsum.model.temperature import TemperatureByLength
from bertsum.model.transfer import to_device
from bertsum.model_config import ModelConfig, QueryWeights
from bertsum.text.ragged import bounds, offsets, run_numbers
from bertsum.text.surface_features import NUM_SURFACE_FEATURES

# Where windows have to be padded, padding of a group of them stays below this share of the longest.
_MAX_PADDING = 0.125
# Tokens that go through the encoder at once on a CPU. More of them are fewer calls, and threads
# wait less often for each other; fewer of them stay in the caches. Medians on a busy 2-core Zen 5,
# MiniLM-L6, in tokens/s: 2,048: 11.5k, 4,096: 12.4k, 8,192: 13.0k, 16,384: less again; on an idle
# one 2,048 and 4,096 are equal.
_CPU_GROUP_TOKENS = 4096
# Encoders to whose attention Transformers passes a mask of four dimensions on.
_TAKES_ATTENTION_MASK = frozenset({"distilbert"})
# Tokens of pools that are weighed at once, 25 MB of 384 features: a token may be in thousands of
# pools, so that all of them may be far more than the batch has tokens.
_POOLED = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """Raw scores of a batch, before sigmoid and softmax.

    The probabilities of a head are softmax(logits / T), with its T among `temperatures` or 1.
    """

    sentence_logits: Tensor  # [S]
    sentiment_logits: Tensor | None  # [B, C]
    sentence_vectors: Tensor  # [S, H] float32, what the heads saw
    topic_logits: Tensor | None = None  # [B, C]
    token_sentiment_logits: Tensor | None = None  # [T, C]
    sentence_sentiment_logits: Tensor | None = None  # [S, C]
    document_vectors: Tensor | None = None  # [B, H] float32, of length 1
    pool_sentiment_logits: Tensor | None = None  # [M, C]
    sentence_similarities: Tensor | None = None  # [S] cosine of a sentence and its document
    sentence_cosines: Tensor | None = None  # [S, K] of a sentence and each of the given vectors
    query_cosines: Tensor | None = None  # [S] of a sentence and what its document is asked
    temperatures: Mapping[str, float | TemperatureByLength] = field(default_factory=dict)  # by head

    def are_finite(self) -> Tensor:
        """[] bool: whether no number is infinite or NaN."""
        values = [getattr(self, item.name) for item in fields(self)]
        flags = [value.isfinite().all() for value in values if isinstance(value, Tensor)]
        return torch.stack(flags).all()


class BertSum(nn.Module):
    """An encoder of Transformers and the heads on it."""

    def __init__(self, encoder: Any, config: ModelConfig):
        """`encoder`: a BERT-like `AutoModel`; peft may replace it by a wrapper later.

        Raises ModelError where `num_heads` or `prefix_tokens` do not fit it.
        """
        super().__init__()
        hidden_size = encoder.config.hidden_size
        if hidden_size % config.num_heads:
            raise ModelError(
                f"num_heads={config.num_heads} does not divide the encoder's hidden size "
                f"{hidden_size}"
            )
        if hasattr(encoder, "pooler"):  # DistilBERT has none
            encoder.pooler = None  # a layer over the first [CLS] that no head reads
        self.config = config
        # By head, such as `sentiment`; training fits them (see evaluation/calibration.py).
        self.temperatures: dict[str, float | TemperatureByLength] = {}
        # None: those of every checkpoint; training fits them (see training/heads/query.py).
        self.query_weights: QueryWeights | None = None
        self.encoder = encoder
        self.is_packed = can_pack(encoder)
        self.prefix: nn.Parameter | None = None
        if config.prefix_tokens:
            if not self.is_packed:
                raise ModelError(
                    "prefix_tokens needs an encoder of BERT's family, not "
                    f"{encoder.config.model_type}"
                )
            # [layers, 2, P, H] keys and values (prefix tuning, Li & Liang 2021, section 4). They
            # begin small, so that at first a token's window decides.
            shape = (encoder.config.num_hidden_layers, 2, config.prefix_tokens, hidden_size)
            self.prefix = nn.Parameter(torch.empty(shape).normal_(std=0.02))
        self.summarization = SummarizationLayers(hidden_size, config)
        self.sentiment = _document_head(hidden_size, config, config.sentiment_labels)
        self.topic = _document_head(hidden_size, config, config.topic_labels)
        self.token_sentiment: nn.Sequential | None = None
        if config.token_sentiment_labels:
            classifier = nn.Linear(hidden_size, len(config.token_sentiment_labels))
            self.token_sentiment = nn.Sequential(nn.Dropout(config.dropout), classifier)
        # The ranker reads scores on the host, not vectors: see `ranking.choose_sentences`.
        self.candidates: CandidateRanker | None = None
        if config.rank_candidates:
            self.candidates = CandidateRanker(
                encoder.config.vocab_size,
                config.dropout,
                fewer_sentences=config.fewer_sentences,
                reads_text=config.candidate_text_features,
            )
        # Last, so that the other heads begin with the same random numbers whether it is there.
        self.embedding: nn.Linear | None = None
        if config.embedding_layers:
            num_layers = encoder.config.num_hidden_layers
            if config.embedding_layers[-1] > num_layers:
                raise ModelError(
                    f"embedding_layers={list(config.embedding_layers)}, but the encoder has "
                    f"{num_layers} layers"
                )
            self.embedding = nn.Linear(len(config.embedding_layers) * hidden_size, hidden_size)
            # it is fitted in closed form (training/heads/embedding.py), not by steps
            self.embedding.requires_grad_(False)

    def forward(
        self,
        batch: Batch,
        *,
        sentence_sentiments: bool = False,
        document_vectors: bool = False,
        token_sentiments: bool = False,
        compared: Tensor | None = None,
        query_cosines: bool = False,
        common_query: Tensor | None = None,
    ) -> Logits:
        """Score all sentences and documents of a batch, and its pools of tokens.

        - `sentence_sentiments`: also the sentiment of each sentence, as of a document that has no
          other.
        - `document_vectors`: also the embedding of each document, and how near each sentence is.
        - `token_sentiments`: also the sentiment of each token, with a head for it.
        - `compared`: [K, H] vectors of length 1, to which each sentence is to be compared; it needs
          `document_vectors`.
        - `query_cosines`: how near each sentence is to the query of its document; it needs
          `document_vectors`. 0 where the document has none.
        - `common_query`: [H] of length 1, the query of documents that have none of their own.
        """
        layers = self.config.embedding_layers if document_vectors else ()
        tokens, features = self._encode(batch, layers)
        num_sentences = sum(batch.num_sentences)
        rows = self._pool(tokens, batch)  # [S + Q, H]
        vectors = rows[:num_sentences]
        logits = self.heads(vectors, batch)
        if token_sentiments and self.token_sentiment is not None:
            logits = replace(logits, token_sentiment_logits=self.token_sentiment(tokens.float()))
        if sentence_sentiments and self.sentiment is not None:
            alone = self.sentiment(vectors, [1] * len(vectors))
            logits = replace(logits, sentence_sentiment_logits=alone)
        if batch.pools is not None and self.sentiment is not None:
            pools = batch.pools
            means = vectors.new_zeros(sum(pools.counts), vectors.shape[1])  # [M, H]
            for start in range(0, len(pools.tokens), _POOLED):
                part = slice(start, start + _POOLED)
                vectors_of_part = tokens[pools.tokens[part]].float()
                _add_rows(means, pools.rows[part], pools.weights[part, None] * vectors_of_part)
            # each as a document of one sentence
            pooled = self.sentiment(means, [1] * len(means))
            logits = replace(logits, pool_sentiment_logits=pooled)
        if document_vectors:
            embeddings, of_rows = self._embed(features if layers else rows, batch)
            of_sentences = of_rows[:num_sentences]
            documents = _document_numbers(batch)
            similarities = (of_sentences * embeddings[documents]).sum(1)
            if query_cosines:
                queries = torch.zeros_like(embeddings)  # [B, H]
                if common_query is not None:
                    queries = queries + common_query
                if batch.query_documents is not None:
                    queries = queries.index_copy(0, batch.query_documents, of_rows[num_sentences:])
                cosines = (of_sentences * queries[documents]).sum(1)
                logits = replace(logits, query_cosines=cosines)
            logits = replace(
                logits,
                document_vectors=embeddings,
                sentence_similarities=similarities,
                sentence_cosines=None if compared is None else of_sentences @ compared.T,
            )
        return logits

    def heads(self, vectors: Tensor, batch: Batch) -> Logits:
        """Do the same from [S, H] sentence vectors, without encoder and head over tokens."""
        counts = batch.num_sentences
        return Logits(
            sentence_logits=self.summarization(vectors, batch.surface, counts),
            sentiment_logits=None if self.sentiment is None else self.sentiment(vectors, counts),
            sentence_vectors=vectors,
            topic_logits=None if self.topic is None else self.topic(vectors, counts),
            temperatures=self.temperatures,
        )

    def sentence_vectors(self, batch: Batch) -> Tensor:
        """[S, H] float32: mean over each sentence's tokens, or over the [CLS] of its pieces."""
        return self._pool(self.token_vectors(batch), batch)[: sum(batch.num_sentences)]

    def _pool(self, vectors: Tensor, batch: Batch) -> Tensor:
        """[T, H] token vectors -> [S + Q, H]; see `sentence_vectors`. A query is as a sentence."""
        num_rows = _num_rows(batch)
        sentences = batch.token_sentences  # [T] the sum to which a vector belongs
        if self.config.pooling == "cls":
            vectors, sentences = vectors[batch.cls_positions], sentences[batch.cls_positions]
        sums = vectors.new_zeros(num_rows, vectors.shape[1], dtype=torch.float32)
        _add_rows(sums, sentences, vectors.float())
        return sums / _token_counts(sentences, num_rows).unsqueeze(1)

    def embedding_features(self, batch: Batch) -> Tensor:
        """[B, E] float32: what the matrix of the embedding reads."""
        return self.mean_vectors(self._encode(batch, self.config.embedding_layers)[1], batch)

    def mean_vectors(self, vectors: Tensor, batch: Batch) -> Tensor:
        """[S, H] sentence vectors -> [B, H], or of E: each weighs as many as it has tokens.

        So it is the mean over the tokens of the document where sentences are means. What stands
        behind them in `vectors`, of queries, is left out.
        """
        weights = sentence_lengths(batch)
        vectors = vectors[: len(weights)]
        documents = _document_numbers(batch)
        sums = vectors.new_zeros(len(batch.num_sentences), vectors.shape[1])
        _add_rows(sums, documents, weights.unsqueeze(1) * vectors)
        totals = weights.new_zeros(len(sums)).index_add(0, documents, weights)
        return sums / totals.unsqueeze(1)

    def _embed(self, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """[S + Q, H], or of E -> [B, H] embeddings of documents, and [S + Q, H] of all rows."""
        means = self.mean_vectors(vectors, batch)
        if self.embedding is not None:
            means, vectors = self.embedding(means), self.embedding(vectors)
        return nn.functional.normalize(means, dim=1), nn.functional.normalize(vectors, dim=1)

    def token_vectors(self, batch: Batch) -> Tensor:
        """[T, H] last hidden states; windows see only themselves."""
        return self._encode(batch)[0]

    def _encode(self, batch: Batch, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """[T, H] last hidden states, and [S + Q, E] means of a sentence's tokens in `layers`."""
        vectors = []
        num_rows = _num_rows(batch)
        sizes = (len(layers), num_rows, self.encoder.config.hidden_size)
        # summed run by run, since hidden states of several layers would be most of the memory
        sums = torch.zeros(sizes, device=batch.input_ids.device)
        start = 0
        for lengths in self._runs(batch):
            run = slice(start, start + sum(lengths))
            if self.is_packed:
                ids, segments = batch.input_ids[run], batch.token_type_ids[run]
                last, kept = encode_packed(
                    self.encoder, ids, segments, lengths, prefix=self.prefix, layers=layers
                )
            else:
                last, kept = self._encode_padded(batch, run, lengths, layers)
            vectors.append(last)
            for layer, hidden in enumerate(kept):  # views of a loop over `sums` could not learn
                _add_rows(sums[layer], batch.token_sentences[run], hidden.float())
            start = run.stop
        means = sums.transpose(0, 1).flatten(1)
        if layers:
            means = means / _token_counts(batch.token_sentences, num_rows).unsqueeze(1)
        return torch.cat(vectors) if len(vectors) > 1 else vectors[0], means

    def _runs(self, batch: Batch) -> list[list[int]]:
        """Lengths of the windows that go through the encoder at once."""
        on_cpu = batch.input_ids.device.type == "cpu"
        if self.is_packed:
            if self.training or not on_cpu:
                return [batch.window_lengths]
            return runs_of_tokens(batch.window_lengths, _CPU_GROUP_TOKENS)
        # Lengths ascend. Padding and, on a CPU, the size of a group stay small.
        groups: list[list[int]] = []
        for length in batch.window_lengths:
            # The first of a group is its shortest, and the window that comes would be its longest.
            is_full = not groups or groups[-1][0] < (1 - _MAX_PADDING) * length
            if not is_full and on_cpu:
                is_full = (len(groups[-1]) + 1) * length > _CPU_GROUP_TOKENS
            if is_full:
                groups.append([])
            groups[-1].append(length)
        return groups

    def _encode_padded(
        self, batch: Batch, run: slice, lengths: list[int], layers: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        """[t, H] last hidden states of a run of t tokens, and those of `layers`.

        They come from the encoder's own forward: windows of a run are of nearly equal length, and
        padded to the longest.
        """
        config = self.encoder.config
        device, length = batch.input_ids.device, lengths[-1]
        # [t] where each token stands in the padded windows: lengths [1, 2] -> [0, 2, 3]. Made on
        # the host, which would wait for the indices that a mask on the device stands for.
        indices = run_numbers(lengths) * length + offsets(lengths)
        is_token = np.zeros((len(lengths), length), np.bool_)
        is_token.reshape(-1)[indices] = True
        padded = (to_device(torch.from_numpy(indices), device), is_token.shape)
        inputs = {"input_ids": _pad(batch.input_ids[run], *padded, config.pad_token_id or 0)}
        if getattr(config, "type_vocab_size", 0) > 1:  # DistilBERT knows no segments
            inputs["token_type_ids"] = _pad(batch.token_type_ids[run], *padded, 0)
        if device.type != "cpu" and config.model_type in _TAKES_ATTENTION_MASK:
            mask = _attention_mask(is_token, self.encoder.dtype, device)
        else:
            mask = to_device(torch.from_numpy(is_token.astype(np.int64)), device)
        output = self.encoder(attention_mask=mask, output_hidden_states=bool(layers), **inputs)
        # [W, L, H] -> the tokens that are no padding
        kept = [output.hidden_states[layer].flatten(0, 1)[padded[0]] for layer in layers]
        return output.last_hidden_state.flatten(0, 1)[padded[0]], kept


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
            _add_rows(sums, documents, vectors)
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
        _add_rows(totals, documents, weights)
        _add_rows(sums, documents, (weights.unsqueeze(2) * value).flatten(1))
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


def _add_rows(sums: Tensor, indices: Tensor, rows: Tensor) -> None:
    """Add [n, H] rows to those of `sums` that `indices` [n] names, in place."""
    if sums.is_cuda:
        # sorts the rows by index first; `index_add_` would add them as threads come, and the same
        # batch would not have the same bits twice
        sums.index_put_((indices,), rows, accumulate=True)
    else:
        sums.index_add_(0, indices, rows)


def divide_logits(
    logits: Tensor, temperature: float | TemperatureByLength, lengths: Callable[[], Tensor]
) -> Tensor:
    """[N, C] logits over their temperature. The host does not wait for a GPU.

    `lengths`: counts the tokens of the N texts, where the temperature depends on them. It may count
    on the host.
    """
    if isinstance(temperature, TemperatureByLength):
        factors = temperature.inverse(lengths()).unsqueeze(1)
        return logits * to_device(factors, logits.device)
    return logits / temperature


def sentence_lengths(batch: Batch) -> Tensor:
    """[S] float32: tokens of each sentence."""
    return _token_counts(batch.token_sentences, _num_rows(batch))[: sum(batch.num_sentences)]


def document_lengths(batch: Batch) -> Tensor:
    """[B] float32: tokens of each document."""
    lengths = sentence_lengths(batch)
    totals = lengths.new_zeros(len(batch.num_sentences))
    return totals.index_add(0, _document_numbers(batch), lengths)


def pool_lengths(pools: TokenPools) -> Tensor:
    """[M] float32: tokens of each mean."""
    return _token_counts(pools.rows, sum(pools.counts))


def _token_counts(groups: Tensor, num_groups: int) -> Tensor:
    """[G] float32: tokens of each sentence or pool, from [n] the group of each token."""
    # not `bincount`, for which the host waits for the device; whole numbers are exact in any order
    ones = torch.ones_like(groups, dtype=torch.float32)
    return ones.new_zeros(num_groups).index_add(0, groups, ones)


def _num_rows(batch: Batch) -> int:
    """S + Q: what tokens are pooled to."""
    return sum(batch.num_sentences) + batch.num_queries


def _document_numbers(batch: Batch) -> Tensor:
    """[S] int64: the document of each sentence, counted in the batch."""
    numbers = torch.from_numpy(run_numbers(batch.num_sentences))
    return to_device(numbers, batch.token_sentences.device)


def _document_head(
    hidden_size: int, config: ModelConfig, labels: Sequence[str]
) -> DocumentHead | None:
    return DocumentHead(hidden_size, config, len(labels)) if labels else None


def _bidirectional_lstm(hidden_size: int, num_layers: int) -> nn.LSTM:
    if hidden_size % 2:
        raise ModelError(
            f"an LSTM head runs both ways, so the hidden size must be even, not {hidden_size}"
        )
    return nn.LSTM(hidden_size, hidden_size // 2, num_layers, batch_first=True, bidirectional=True)


def _attention_mask(
    is_token: npt.NDArray[np.bool_], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[W, L] -> [W, 1, L, L] what is added to scores: -inf for padding, in all rows of a window.

    Transformers adds it as it is. It would ask a mask of [W, L] for padding, and wait.
    """
    added = torch.from_numpy(np.where(is_token, 0.0, -np.inf)).to(dtype)
    return to_device(added, device)[:, None, None].expand(-1, 1, is_token.shape[1], -1)


def _pad(values: Tensor, indices: Tensor, shape: tuple[int, ...], fill: int) -> Tensor:
    """[T] packed -> [W, L] padded with `fill`. `indices`: [T] of the values in the result."""
    padded = values.new_full((math.prod(shape),), fill)
    return padded.index_copy(0, indices, values).view(shape)
