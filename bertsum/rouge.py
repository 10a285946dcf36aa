"""ROUGE F-measures, by the reference implementation in Python (`rouge-score`, package extra `train`).

`rouge_lsum` takes one sentence a line, and is what BERTSUM papers call ROUGE-L.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsum.oracle import words
from bertsum.sentences import UNSPACED_LANGUAGES


@dataclass(frozen=True, slots=True)
class Rouge:
    """F-measures in percent: 100 is a perfect match."""

    rouge_1: float
    rouge_2: float
    rouge_lsum: float


class _CharacterTokenizer:
    """What `rouge-score` needs for languages without spaces: its own tokenizer keeps only a-z and 0-9."""

    def tokenize(self, text: str) -> list[str]:
        return words(text, "zh")


def rouge(summaries: Sequence[str], references: Sequence[str], language: str = "en") -> list[Rouge]:
    """One score a pair, with the Porter stemmer in English; both sides have one sentence a line."""
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _CharacterTokenizer() if language in UNSPACED_LANGUAGES else None
    scorer = RougeScorer(["rouge1", "rouge2", "rougeLsum"], use_stemmer=True, tokenizer=tokenizer)
    results = []
    for summary, reference in zip(summaries, references, strict=True):
        scores = scorer.score(reference, summary)
        results.append(Rouge(*(100 * scores[name].fmeasure for name in ("rouge1", "rouge2", "rougeLsum"))))
    return results


def mean_rouge(scores: Sequence[Rouge]) -> Rouge:
    """Mean over documents. Raises ValueError for none."""
    if not scores:
        raise ValueError("the mean of no ROUGE scores is undefined")
    total = len(scores)
    return Rouge(
        sum(score.rouge_1 for score in scores) / total,
        sum(score.rouge_2 for score in scores) / total,
        sum(score.rouge_lsum for score in scores) / total,
    )
