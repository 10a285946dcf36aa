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

from bertsum.errors import ModelError
from bertsum.model.attention.packed import can_pack, encode_packed, runs_of_tokens
from bertsum.model.batches import Batch, TokenPools
from bertsum.model.heads import DocumentHead, SummarizationLayers
from bertsum.model.ranking import CandidateRanker
from bertsum.model.sums import (
    add_rows,
    count_rows,
    document_numbers,
    sentence_lengths,
    token_counts,
    tokens_before,
)
from bertsum.model.temperature import TemperatureByLength
from bertsum.model.transfer import to_device
from bertsum.model_config import ModelConfig, QueryWeights
from bertsum.text.ragged import offsets, run_numbers

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
            # Until it is fitted (training/heads/embedding.py) it gives the last layer as it is. Steps
            # leave it alone, but where vectors are held to those of the encoder before training.
            self.embedding.requires_grad_(False)
            self.embedding.bias.zero_()
            self.embedding.weight.zero_()[:, -hidden_size:].fill_diagonal_(1)

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
            means = _weigh_pools(tokens, batch.pools)
            # each as a document of one sentence
            pooled = self.sentiment(means, [1] * len(means))
            logits = replace(logits, pool_sentiment_logits=pooled)
        if document_vectors:
            embeddings, of_rows = self._embed(features if layers else rows, batch)
            of_sentences = of_rows[:num_sentences]
            documents = document_numbers(batch)
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

    def embed(self, batch: Batch) -> Tensor:
        """[B, H] the embedding of each document alone, of length 1."""
        layers = self.config.embedding_layers
        tokens, features = self._encode(batch, layers)
        return self._embed(features if layers else self._pool(tokens, batch), batch)[0]

    def heads(self, vectors: Tensor, batch: Batch) -> Logits:
        """The same from [S, H] sentence vectors, without encoder and head over tokens."""
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
        num_rows = count_rows(batch)
        sentences = batch.token_sentences  # [T] the sum to which a vector belongs
        if self.config.pooling == "cls":
            vectors, sentences = vectors[batch.cls_positions], sentences[batch.cls_positions]
        sums = vectors.new_zeros(num_rows, vectors.shape[1], dtype=torch.float32)
        add_rows(sums, sentences, vectors.float())
        return sums / token_counts(sentences, num_rows).unsqueeze(1)

    def embedding_features(self, batch: Batch) -> Tensor:
        """[B, E] float32: what the matrix of the embedding reads."""
        return self.mean_vectors(self._encode(batch, self.config.embedding_layers)[1], batch)

    def mean_vectors(self, vectors: Tensor, batch: Batch) -> Tensor:
        """[S, H] sentence vectors -> [B, H], or of E: each weighs as many as it has tokens.

        So it is the mean over the tokens of the document where sentences are means, and
        `embedding_lead_tokens` is None. With l of these, a sentence with t tokens before it weighs
        l / (l + t) of that. What stands behind sentences in `vectors`, of queries, is left out.
        """
        weights = sentence_lengths(batch)
        lead = self.config.embedding_lead_tokens
        if lead is not None:
            weights = weights * lead / (lead + tokens_before(weights, batch.num_sentences))
        weights = weights.unsqueeze(1)  # [S, 1]
        documents = document_numbers(batch)
        sums = vectors.new_zeros(len(batch.num_sentences), vectors.shape[1])
        totals = weights.new_zeros(len(sums), 1)
        add_rows(sums, documents, weights * vectors[: len(weights)])
        add_rows(totals, documents, weights)
        return sums / totals

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
        num_rows = count_rows(batch)
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
                add_rows(sums[layer], batch.token_sentences[run], hidden.float())
            start = run.stop
        means = sums.transpose(0, 1).flatten(1)
        if layers:
            means = means / token_counts(batch.token_sentences, num_rows).unsqueeze(1)
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


def _document_head(
    hidden_size: int, config: ModelConfig, labels: Sequence[str]
) -> DocumentHead | None:
    return DocumentHead(hidden_size, config, len(labels)) if labels else None


def _weigh_pools(tokens: Tensor, pools: TokenPools) -> Tensor:
    """[T, H] token vectors -> [M, H] float32: the weighted means that the pools ask for."""
    means = tokens.new_zeros(sum(pools.counts), tokens.shape[1], dtype=torch.float32)
    for start in range(0, len(pools.tokens), _POOLED):
        part = slice(start, start + _POOLED)
        weighted = pools.weights[part, None] * tokens[pools.tokens[part]].float()
        add_rows(means, pools.rows[part], weighted)
    return means


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
