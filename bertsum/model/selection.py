"""Sentence scores -> the sentences of the summary, under an exact budget, in document order."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertsum.config import SelectionConfig
from bertsum.text.sentences import UNSPACED_LANGUAGES, Span
from bertsum.text.words import ngrams, words


def select_sentences(
    scores: npt.NDArray[np.float32],
    text: str,
    spans: Sequence[Span],
    *,
    sentence_tokens: Sequence[int] | npt.NDArray[np.int32],
    language: str,
    config: SelectionConfig,
) -> list[int]:
    """Take sentences from the best score down; return their indices, ascending.

    `scores`: [S] of the sentences that were read.
    `spans`, `sentence_tokens`: of all sentences, also of those beyond S.

    A sentence that does not fit into what is left of the budget, or repeats a trigram, is passed
    over. The budget is never exceeded, so one smaller than every sentence gives no sentence. Only
    the best sentence is returned where it is to be cut, see `must_cut`.
    """
    budget = sentence_budget(len(spans), config) if config.counts_sentences else int(config.size)
    if config.cut != "none" and len(scores):
        best = int(np.argmax(scores))
        if must_cut(spans[best], int(sentence_tokens[best]), config):
            return [best]
    chosen: list[int] = []
    seen: set[tuple[str, ...]] = set()
    used = 0
    for index in np.argsort(-scores, kind="stable").tolist():
        start, stop = spans[index]
        cost = 1
        if config.unit == "tokens":
            cost = int(sentence_tokens[index])
        elif config.unit == "characters":
            cost = stop - start + (len(joiner(language)) if chosen else 0)
        if used + cost > budget:
            continue  # a shorter sentence may still fit
        if config.trigram_blocking is not False:
            trigrams = ngrams(words(text[start:stop], language), 3)
            if not seen.isdisjoint(trigrams):
                continue
            seen |= trigrams
        chosen.append(index)
        used += cost
        if used >= budget or len(chosen) == config.most_sentences:
            break
    return sorted(chosen)


def must_cut(span: Span, num_tokens: int, config: SelectionConfig) -> bool:
    """Whether a sentence is cut where it is the best: it alone is longer than the budget."""
    if config.cut == "none":
        return False
    start, stop = span
    length = num_tokens if config.unit == "tokens" else stop - start
    return length > config.size


def join_sentences(text: str, spans: Sequence[Span], chosen: Sequence[int], language: str) -> str:
    """Join the original text of the chosen sentences.

    They are joined by a space, by nothing in Chinese, Japanese and Thai.
    """
    return joiner(language).join(text[slice(*spans[index])] for index in chosen)


def joiner(language: str) -> str:
    """What stands between two sentences of a summary."""
    return "" if language in UNSPACED_LANGUAGES else " "


def sentence_budget(num_sentences: int, config: SelectionConfig) -> int:
    """How many sentences of a document a budget in sentences, or a share of them, allows."""
    if config.unit == "share":
        return max(1, int(config.size * num_sentences + 1e-9))  # 0.29 * 100 is 28.999999999999996
    return int(config.size)
