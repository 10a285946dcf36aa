"""Extractive summaries without a trained model, to measure one against."""

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

from bertsum.errors import ConfigError
from bertsum.labels.oracle import greedy_oracle
from bertsum.text.phrases.query_words import bm25, query_words
from bertsum.text.words import words

BM25 = "bm25"
"""Name of the sentences that have most of a query's words, as a system."""

Baseline = Literal["random", "textrank", "lexrank", "oracle"]

# TextRank and LexRank compare all pairs of sentences, in Python: this many take about 0.2 s.
MAX_GRAPH_SENTENCES = 100


def with_query(model: str) -> str:
    """Name of a model as a system whose summaries answer the query."""
    return f"{model} (query)"


def choose(
    baseline: Baseline,
    sentences: Sequence[str],
    *,
    summary: str,
    language: str,
    size: int,
    seed: str,
) -> list[int]:
    """Choose at most `size` sentences. Returns their indices, ascending.

    - `summary`: the reference, which only the oracle sees.
    - `language`: ISO 639-1 code.
    - `seed`: decides the random choice.

    TextRank and LexRank look at the first MAX_GRAPH_SENTENCES sentences. Raises ConfigError where
    sumy is missing.
    """
    if baseline == "oracle":
        return greedy_oracle(sentences, summary, language, size)
    if baseline == "random":
        count = min(size, len(sentences))
        return sorted(random.Random(seed).sample(range(len(sentences)), count))
    return _choose_by_graph(baseline, sentences[:MAX_GRAPH_SENTENCES], language, size)


def choose_by_words(sentences: Sequence[str], query: str, *, language: str, size: int) -> list[int]:
    """The sentences that have most of a query's words, by BM25; of equal ones the first."""
    scores = bm25(sentences, query_words(query, language), language).tolist()
    order = sorted(range(len(sentences)), key=lambda index: -scores[index])
    return sorted(order[:size])


def _choose_by_graph(
    baseline: Baseline, sentences: Sequence[str], language: str, size: int
) -> list[int]:
    """Mihalcea & Tarau 2004 (TextRank), Erkan & Radev 2004 (LexRank), as sumy has them."""
    try:
        from sumy.models.dom import Sentence
        from sumy.nlp.stemmers import Stemmer, null_stemmer
        from sumy.summarizers.lex_rank import LexRankSummarizer
        from sumy.summarizers.text_rank import TextRankSummarizer
        from sumy.utils import get_stop_words
    except ImportError as error:
        raise ConfigError(
            f"the baseline {baseline} needs sumy: pip install 'bertsum[evaluate]'"
        ) from error
    # sumy's stemmers and stop words of other languages would bring more packages
    is_english = language == "en"
    summarizer_class = TextRankSummarizer if baseline == "textrank" else LexRankSummarizer
    summarizer = summarizer_class(Stemmer("english") if is_english else null_stemmer)
    summarizer.stop_words = get_stop_words("english") if is_english else ()
    # in place of sumy's tokenizer, which knows few languages
    tokenizer = SimpleNamespace(to_words=lambda text: words(text, language))
    nodes = [Sentence(sentence, tokenizer) for sentence in sentences]
    # by identity, since sumy's equality is of texts, and a document may repeat a sentence
    indices = {id(node): index for index, node in enumerate(nodes)}
    best_nodes = summarizer(SimpleNamespace(sentences=nodes), size)
    return sorted(indices[id(node)] for node in best_nodes)
