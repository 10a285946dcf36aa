"""ROUGE F-measures, by the reference implementation in Python (`rouge-score`, package extra `train`).

`rouge_lsum` takes one sentence a line, and is what BERTSUM papers call ROUGE-L.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bertsum.oracle import words


@dataclass(frozen=True, slots=True)
class Rouge:
    """F-measures in percent: 100 is a perfect match."""

    rouge_1: float
    rouge_2: float
    rouge_lsum: float


class _WordTokenizer:
    """What `rouge-score` needs for other languages than English: its own tokenizer keeps only a-z and 0-9."""

    def __init__(self, language: str):
        self.language = language

    def tokenize(self, text: str) -> list[str]:
        return words(text, self.language)


def rouge(summaries: Sequence[str], references: Sequence[str], language: str = "en") -> list[Rouge]:
    """One score a pair, of words (of characters in Chinese, Japanese, Thai); both sides have one sentence a line.

    English goes through the Porter stemmer, as in the literature.
    """
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = None if language == "en" else _WordTokenizer(language)
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
