"""Whole summaries, ranked: the sentences that are best together, in place of those that score best
one by one.

The best-scored sentences of a document may be long, or say the same thing; which words a summary
holds is a matter of all its sentences. So sets that differ from the best-scored sentences in a few
are compared as wholes (the candidates of Zhong et al. 2020, "Extractive Summarization as Text
Matching"), by a small network that has learned the ROUGE of such sets. It reads the scores, and
what can be counted in the tokens: length, position, and how much of what the document repeats, and
of its lead, the set covers (Lin & Bilmes 2011, "A Class of Submodular Functions for Document
Summarization"). It may also read which sentences state facts, and which quote or lean on others. So
it costs no second pass of an encoder, and no GPU waits for it.

Shapes: S sentences, N candidates, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bertsum.config import SelectionConfig
from bertsum.model.candidates import (
    Candidates,
    DoubleArray,
    FloatArray,
    feature_scales,
    make_candidates,
)
from bertsum.model.selection import select_sentences, sentence_budget
from bertsum.text.encoder import EncodedDocument
from bertsum.text.ragged import split_runs

_HIDDEN_SIZE = 64
# ROUGE by which candidates of a document differ, about: new weights give numbers near 1.
_UNIT = 0.1
# Candidates that are compared at once: their vectors fit into a core's cache.
_COMPARED_ROWS = 2048


class CandidateRanker(nn.Module):
    """Features of candidates -> the ROUGE-1 + ROUGE-2 F that is expected of each.

    The number is right up to a constant of the document.
    """

    def __init__(
        self,
        vocabulary_size: int,
        dropout: float,
        *,
        fewer_sentences: int = 0,
        reads_text: bool = False,
    ):
        """Set up for candidates as `make_candidates` makes them with the same values."""
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.fewer_sentences = fewer_sentences
        self.reads_text = reads_text
        self.layers = nn.Sequential(
            nn.Linear(len(feature_scales(reads_text)), _HIDDEN_SIZE),
            nn.GELU("tanh"),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN_SIZE, _HIDDEN_SIZE),
            nn.GELU("tanh"),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN_SIZE, 1, bias=False),  # a constant of the document decides nothing
        )

    def forward(self, features: Tensor) -> Tensor:
        """[N, F] -> [N]."""
        expected: Tensor = self.layers(features)
        return _UNIT * expected.squeeze(1)

    @torch.inference_mode()
    def best(
        self, candidates: Sequence[Candidates], gains: Sequence[DoubleArray] | None = None
    ) -> list[int]:
        """Index of the candidate of each document that is expected to be best.

        `gains`: of each document, [S] what a sentence adds to the ROUGE of its sets; a set has the
        mean over its sentences.
        """
        if not candidates:
            return []
        features = torch.from_numpy(np.concatenate([document.features for document in candidates]))
        parts = torch.split(features.to(next(self.parameters()).device), _COMPARED_ROWS)
        expected = torch.cat([self(part) for part in parts]).cpu().numpy()
        by_document = split_runs(expected, [len(document.features) for document in candidates])
        if gains is not None:
            for sets, values, gain in zip(candidates, by_document, gains, strict=True):
                values += sets.means(gain)
        return [int(values.argmax()) for values in by_document]


@dataclass(frozen=True, slots=True)
class QueryScores:
    """How well the sentences of documents answer the query of each.

    `scores`: of each document, [S] probabilities by importance and query together.
    `gains`: of each document, [S] see `CandidateRanker.best`.
    """

    scores: Sequence[FloatArray]
    gains: Sequence[DoubleArray]


def choose_sentences(
    documents: Sequence[EncodedDocument],
    scores: Sequence[FloatArray],
    config: SelectionConfig,
    ranker: CandidateRanker | None,
    query: QueryScores | None = None,
) -> list[list[int]]:
    """Indices of the sentences of each document's summary, ascending.

    The best candidate where there is a ranker, sentences are counted, and nothing is blocked; else
    what `select_sentences` takes, and for a query where only one sentence is asked for. A summary
    that answers a query has no fewer sentences than are asked for.

    `scores`: of each document, [S] probabilities of the sentences that were read.
    """
    by_score = config.trigram_blocking or not config.counts_sentences
    ranked_by = query.scores if query else scores
    if ranker is None or by_score or (query and config.size == 1):
        chosen = []
        for document, values in zip(documents, ranked_by, strict=True):
            sentences = select_sentences(
                values,
                document.text,
                document.spans,
                sentence_tokens=document.sentence_tokens,
                language=document.language,
                config=config,
            )
            chosen.append(sentences)
        return chosen
    candidates = make_candidates(
        documents,
        scores,
        [sentence_budget(len(document.spans), config) for document in documents],
        ranker.vocabulary_size,
        fewer_sentences=0 if config.exact_size or query else ranker.fewer_sentences,
        reads_text=ranker.reads_text,
        ranked_by=ranked_by,
    )
    best = ranker.best(candidates, query.gains if query else None)
    return [sets.sentences(index) for sets, index in zip(candidates, best, strict=True)]
