"""Extractive summaries without a trained model, to measure one against."""

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

from bertsum.errors import ConfigError
from bertsum.labels.oracle import greedy_oracle
from bertsum.text.words import words

Baseline = Literal["random", "textrank", "lexrank", "oracle"]

# TextRank and LexRank compare all pairs of sentences, in Python: this many take about 0.2 s.
MAX_GRAPH_SENTENCES = 100


def choose(
    baseline: Baseline, sentences: Sequence[str], summary: str, language: str, size: int, seed: str
) -> list[int]:
    """Indices of at most `size` sentences, ascending. `seed` decides what is random; only the oracle sees `summary`.

    TextRank and LexRank look at the first MAX_GRAPH_SENTENCES sentences. Raises ConfigError where sumy is missing.
    """
    if baseline == "oracle":
        return greedy_oracle(sentences, summary, language, size)
    if baseline == "random":
        return sorted(random.Random(seed).sample(range(len(sentences)), min(size, len(sentences))))
    return _by_graph(baseline, sentences[:MAX_GRAPH_SENTENCES], language, size)


def _by_graph(baseline: Baseline, sentences: Sequence[str], language: str, size: int) -> list[int]:
    """Mihalcea & Tarau 2004 (TextRank), Erkan & Radev 2004 (LexRank), as the package sumy has them."""
    try:
        from sumy.models.dom import Sentence
        from sumy.nlp.stemmers import Stemmer, null_stemmer
        from sumy.summarizers.lex_rank import LexRankSummarizer
        from sumy.summarizers.text_rank import TextRankSummarizer
        from sumy.utils import get_stop_words
    except ImportError as error:
        raise ConfigError(f"the baseline {baseline} needs sumy: pip install 'bertsum[evaluate]'") from error
    is_english = language == "en"
    kind: Any = TextRankSummarizer if baseline == "textrank" else LexRankSummarizer
    summarizer = kind(Stemmer("english") if is_english else null_stemmer)
    summarizer.stop_words = get_stop_words("english") if is_english else ()
    tokenizer = SimpleNamespace(to_words=lambda text: words(text, language))
    nodes = [Sentence(sentence, tokenizer) for sentence in sentences]
    places = {id(node): place for place, node in enumerate(nodes)}
    return sorted(places[id(node)] for node in summarizer(SimpleNamespace(sentences=nodes), size))
