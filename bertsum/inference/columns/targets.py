"""The group `targets`: the sentiment towards names that the user gives, where a text mentions them.

A sentence has a vector for each target in it: the mean of its tokens, of which those near a mention
weigh most. What the model's head for documents says of such vectors differs little, since each
token has seen the whole sentence; so the differences between targets of a sentence are enlarged.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertsum.config import SummarizerConfig
from bertsum.inference.columns.text_vectors import text_vectors
from bertsum.inference.columns.values import Columns, Wanted
from bertsum.inference.device_batches import Scores
from bertsum.model.batches import TokenPools, split_tokens
from bertsum.model.bert_sum import BertSum
from bertsum.schema import Target
from bertsum.text.encoder import DocumentEncoder, EncodedDocument
from bertsum.text.phrases.clauses import clause_numbers
from bertsum.text.phrases.mentions import find_mentions
from bertsum.text.sentences import Span

FloatArray = npt.NDArray[np.float32]

# Chosen on training rows of sentfin and newsmtsc whose entities disagree, of which no step had a
# label; jobs/docs/outputs.md has what it costs.
_DECAY_TOKENS = 16.0  # a token so far from a mention weighs 1 / e
_OTHER_CLAUSE = 0.3  # weight of tokens in clauses without a mention
_CONTRAST = 4.0
_LEAST = 1e-9  # so that no logarithm is of zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Resemblance:
    """When a sentence counts for a name that its document does not mention.

    - `names`: K of them.
    - `vectors`: [K, H] their embeddings, on the model's device.
    - `least_cosine`: of the sentence's embedding and the name's.
    """

    names: Sequence[str]
    vectors: Tensor
    least_cosine: float


def find_resemblance(
    config: SummarizerConfig, model: BertSum, encoder: DocumentEncoder
) -> Resemblance | None:
    """Encode the targets of the configuration once; None where resemblance is not asked for.

    One with a capital is the name of something: what resembles it is about something else. Raises
    ConfigError for a target without a word.
    """
    names = [name for name in config.targets if name == name.lower()]
    if config.target_resemblance is None or not names:
        return None
    vectors = text_vectors(names, model, encoder, key="summarizer.targets")
    return Resemblance(names=names, vectors=vectors, least_cosine=config.target_resemblance)


class TargetColumns:
    """Makes `targets` from the sentiments of pools of tokens."""

    def __init__(
        self,
        encoder: DocumentEncoder,
        labels: Sequence[str],
        resemblance: Resemblance | None = None,
    ) -> None:
        """`labels`: of the sentiment. `resemblance`: None for mentions alone."""
        self._encoder, self._labels, self._resemblance = encoder, labels, resemblance
        self.wanted = Wanted(pools=self.pools)
        if resemblance is not None:
            self.wanted = replace(
                self.wanted,
                sentence_sentiments=True,
                document_vectors=True,
                compared=resemblance.vectors,
            )

    def pools(self, documents: Sequence[EncodedDocument]) -> TokenPools | None:
        """Pools of a batch, one for each target of each sentence; None where nothing is mentioned.

        `documents`: the batch's, in its order.
        """
        num_tokens = sum(document.num_batch_tokens for document in documents)
        packed = split_tokens(np.arange(num_tokens), documents)
        counts: list[int] = []
        tokens: list[npt.NDArray[np.int64]] = []  # of each pool
        weights: list[FloatArray] = []
        for document, indices in zip(documents, packed, strict=True):
            counts.append(sum(map(len, document.mentions.values())))
            for sentence, by_target in document.mentions.items():
                is_read = document.is_text & (document.token_sentences == sentence)
                packed_tokens = indices[is_read]
                for row in self._weights(document, sentence, by_target, len(packed_tokens)):
                    # Most tokens weigh something for one target alone: with all of them, a long
                    # sentence with many targets would fill the memory.
                    tokens.append(packed_tokens[row > 0])
                    weights.append(row[row > 0])
        if not tokens:
            return None
        return TokenPools(
            tokens=torch.from_numpy(np.concatenate(tokens)),
            weights=torch.from_numpy(np.concatenate(weights)),
            rows=torch.from_numpy(np.repeat(np.arange(len(tokens)), list(map(len, tokens)))),
            counts=counts,
        )

    def columns(
        self, documents: Sequence[EncodedDocument], scores: Sequence[Scores]
    ) -> list[Columns]:
        """[N] the targets that each document mentions or resembles, as the user lists them."""
        rows: list[Columns] = []
        for document, score in zip(documents, scores, strict=True):
            sentiments = np.zeros((0, len(self._labels)), np.float32)
            if document.mentions:
                if score.pool_sentiments is None or not np.isfinite(score.pool_sentiments).all():
                    raise ValueError("the sentiments of targets are not numbers")
                sentiments = score.pool_sentiments
            resembling = self._resembling(score)
            rows.append({"targets": self._targets(document, sentiments, resembling)})
        return rows

    def _resembling(self, score: Scores) -> dict[str, list[FloatArray]]:
        """By name the [C] logits of each sentence that resembles it."""
        resembling: dict[str, list[FloatArray]] = {}
        cosines, sentiments = score.sentence_cosines, score.sentence_sentiments
        if self._resemblance is None or cosines is None or sentiments is None:
            return resembling
        if not (np.isfinite(cosines).all() and np.isfinite(sentiments).all()):
            raise ValueError("the sentences' vectors or sentiments are not numbers")
        for column, name in enumerate(self._resemblance.names):
            is_near = cosines[:, column] >= self._resemblance.least_cosine
            if is_near.any():
                resembling[name] = list(np.log(sentiments[is_near] + _LEAST))
        return resembling

    def _targets(
        self,
        document: EncodedDocument,
        sentiments: FloatArray,
        resembling: Mapping[str, list[FloatArray]],
    ) -> list[Target]:
        """Targets with mentions, and those without any that sentences resemble.

        `sentiments`: [m, C] of each target in each sentence, in the order of its mentions.
        """
        evidence: dict[str, list[FloatArray]] = defaultdict(list)  # [C] logits a sentence
        spans: dict[str, list[Span]] = defaultdict(list)
        first = 0
        for by_target in document.mentions.values():
            logits = np.log(sentiments[first : first + len(by_target)] + _LEAST)
            # with one target in the sentence there is no difference
            logits += _CONTRAST * (logits - logits.mean(0))
            for (target, target_spans), row in zip(by_target.items(), logits, strict=True):
                evidence[target].append(row)
                spans[target] += target_spans
            first += len(by_target)
        targets: list[Target] = []
        for target in document.targets:
            # a mention is surer than what resembles it
            logits_of = evidence[target] if target in spans else resembling.get(target)
            if not logits_of:
                continue
            mean = np.mean(logits_of, axis=0)
            exponentials = np.exp(mean - mean.max())  # so that none overflows
            probabilities = (exponentials / exponentials.sum()).tolist()
            by_label = dict(zip(self._labels, probabilities, strict=True))
            targets.append(
                {
                    "target": target,
                    "sentiment": max(by_label, key=by_label.__getitem__),
                    "sentiment_scores": by_label,
                    "mentions": [
                        {"start": start, "length": stop - start}
                        for start, stop in spans.get(target, ())
                    ],
                }
            )
        return targets

    def _weights(
        self,
        document: EncodedDocument,
        sentence: int,
        by_target: Mapping[str, Sequence[Span]],
        num_tokens: int,
    ) -> list[FloatArray]:
        """[n] weights of the sentence's tokens for each target in it, of sum 1.

        `num_tokens`: n, which may be less than the sentence has, where its end was not read.
        """
        start, stop = document.spans[sentence]
        text = document.text[start:stop]
        (token_spans,) = self._encoder.token_spans([text])
        edges = np.array(token_spans[:num_tokens], np.int64).reshape(-1, 2)
        clauses = clause_numbers(text, edges[:, 0])
        distances = []
        for spans in by_target.values():
            is_mention = np.zeros(len(edges), bool)
            for first, last in spans:
                is_mention |= (edges[:, 0] < last - start) & (edges[:, 1] > first - start)
            # tokens to the nearest of a mention; all 0 where no mention was read
            positions = np.flatnonzero(is_mention)
            steps = np.abs(np.arange(len(edges))[:, None] - positions)  # [n, m]
            nearest = steps.min(1) if len(positions) else np.zeros(len(edges))
            distances.append(nearest.astype(np.float64))
        rows: list[FloatArray] = []
        least = np.min(distances, axis=0)
        for distance in distances:
            weights = np.exp(-distance / _DECAY_TOKENS)
            weights[~np.isin(clauses, clauses[distance == 0])] *= _OTHER_CLAUSE
            weights[least < distance] = 0  # what is nearer to another target is said of that one
            rows.append((weights / weights.sum()).astype(np.float32))
        return rows


def with_targets(document: EncodedDocument, targets: tuple[str, ...]) -> EncodedDocument:
    """A copy of a document that asks for the sentiment towards these names."""
    starts = [start for start, _ in document.spans[: document.num_read_sentences]]
    found: dict[int, dict[str, list[Span]]] = defaultdict(dict)
    for target in targets:
        for span in find_mentions(document.text, target):
            sentence = bisect_right(starts, span[0]) - 1
            if sentence >= 0 and span[0] < document.spans[sentence][1]:
                found[sentence].setdefault(target, []).append(span)
    return replace(document, targets=targets, mentions=dict(sorted(found.items())))
