"""What a sentence's vector does not say: its position, its length, and how much it has in common
with the rest of the document.

The mean of token vectors forgets how many there were, and no encoder counts the words of other
windows; yet both tell much of what summaries take over. Position, length and word frequency are the
oldest features of extraction (Luhn 1958; Edmundson 1969). They cost one sort of the tokens.

Shapes: B documents, S sentences, T tokens, D distinct tokens of each sentence, G of each document,
F features.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertsum.text.ragged import bounds, is_run_start, offsets, pack_pairs, sort_runs

LEAD_SENTENCES = 3  # with which news says what matters
SMALLEST_RARITY = 1e-3  # a sum of rarities that something is divided by is never below it

# Centre and spread of each feature on English news, so that they reach the model near 0 with a size
# near 1.
_FEATURES = (
    ("log(1 + index of the sentence)", 2.4, 1.0),
    ("index / sentences", 0.5, 0.3),
    ("log(sentences)", 3.3, 0.6),
    ("is sentence 0", 0.04, 0.2),
    ("is sentence 1", 0.04, 0.2),
    ("is sentence 2", 0.04, 0.2),
    ("log(1 + tokens)", 3.2, 0.5),
    ("log(1 + topicality)", 2.1, 0.5),
    ("topicality / tokens", 0.3, 0.1),
    ("log(1 + spread)", 3.2, 0.5),
    ("log(1 + repeated)", 1.6, 0.45),
    ("repeated / rarity", 0.6, 0.17),
    ("log(1 + shared with the lead)", 1.05, 0.4),
    ("shared with the lead / rarity", 0.3, 0.14),
)
_CENTRE = np.array([centre for _, centre, _ in _FEATURES])
_SPREAD = np.array([spread for _, _, spread in _FEATURES])
NUM_SURFACE_FEATURES = len(_FEATURES)
FloatArray = npt.NDArray[np.float64]


def surface_features(
    ids: npt.NDArray[np.int32],
    sentence_tokens: npt.NDArray[np.int32],
    num_sentences: npt.NDArray[np.int64],
    vocabulary_size: int,
) -> npt.NDArray[np.float32]:
    """Compute [S, NUM_SURFACE_FEATURES] features.

    `ids`: [T] of all sentences, one after the other, without special tokens.
    `sentence_tokens`: [S] number of tokens of each sentence.
    `num_sentences`: [B] number of sentences of each document.
    """
    index = offsets(num_sentences)  # [S] in its document
    sums = _sum_over_tokens(ids, sentence_tokens, num_sentences, vocabulary_size)
    count = np.repeat(num_sentences, num_sentences).astype(np.float64)
    # Logarithms, as 40 tokens say hardly more than 30, but much more than 5.
    columns = (
        np.log1p(index),
        index / count,
        np.log(count),
        index == 0,
        index == 1,
        index == 2,
        np.log1p(sentence_tokens),
        np.log1p(sums.topicality),
        sums.topicality / np.maximum(sentence_tokens, 1),
        np.log1p(sums.spread),
        np.log1p(sums.repeated),
        sums.repeated / sums.rarity,
        np.log1p(sums.shared),
        sums.shared / sums.rarity,
    )
    centred = (np.stack(columns, axis=1) - _CENTRE) / _SPREAD
    features: npt.NDArray[np.float32] = centred.astype(np.float32)
    return features


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sums:
    """[S] sums over the distinct tokens of each sentence.

    `rarity`: sqrt(id / vocabulary size), since vocabularies are sorted by frequency.
    `topicality`: rarity * log(occurrences of the token in the document).
    `spread`: log(sentences of the document that have the token).
    `repeated`: rarity of tokens that another sentence has.
    `shared`: rarity of tokens that another of the first three sentences, the lead, has.
    """

    rarity: FloatArray
    topicality: FloatArray
    spread: FloatArray
    repeated: FloatArray
    shared: FloatArray


def _sum_over_tokens(
    ids: npt.NDArray[np.int32],
    sentence_tokens: npt.NDArray[np.int32],
    num_sentences: npt.NDArray[np.int64],
    vocabulary_size: int,
) -> _Sums:
    """Compute the sums from what `surface_features` takes."""
    sentence_bounds = bounds(num_sentences)  # [B + 1]
    token_bounds = bounds(sentence_tokens)[sentence_bounds]  # [B + 1]
    # One number for each (token, sentence) makes a sort of a document's numbers find what is equal.
    index = offsets(num_sentences)  # [S]
    sentence_bits = int(num_sentences.max(initial=0)).bit_length()
    token_bits = vocabulary_size.bit_length()
    of_tokens = np.repeat(index, sentence_tokens)  # [T]
    keys = pack_pairs(ids, of_tokens, high_bits=token_bits, low_bits=sentence_bits)
    sort_runs(keys, token_bounds)
    starts = np.flatnonzero(is_run_start(keys, token_bounds))  # [D] pairs (sentence, token)
    keys = keys[starts]
    pair_bounds = np.searchsorted(starts, token_bounds)  # [B + 1]
    first_sentence = np.repeat(sentence_bounds[:-1], np.diff(pair_bounds))  # [D] of its document
    sentence = first_sentence + (keys & (1 << sentence_bits) - 1)
    # A group is the pairs of one token in one document, which stand together.
    token = keys >> sentence_bits
    is_first = is_run_start(token, pair_bounds)
    group = np.cumsum(is_first) - 1  # [D]
    first_pairs = np.flatnonzero(is_first)  # [G]
    num_holders = np.diff(first_pairs, append=len(keys))  # [G] sentences that have the token
    occurrences = np.diff(starts[first_pairs], append=len(ids))  # [G] in the document
    weight = np.sqrt(np.arange(vocabulary_size) / vocabulary_size)[token[first_pairs]]  # [G]
    logarithms = np.log(np.arange(1, occurrences.max(initial=1) + 1))  # of 1, 2, ...
    in_lead = (index < LEAD_SENTENCES)[sentence]  # [D]
    num_leads = np.bincount(group[in_lead], minlength=len(weight))  # [G]
    is_shared = num_leads[group] > in_lead  # [D] by another sentence of the lead
    weights = weight[group]  # [D]

    def sums(values: FloatArray) -> FloatArray:
        """[D] -> [S]"""
        return np.bincount(sentence, values, minlength=len(sentence_tokens)).astype(np.float64)

    return _Sums(
        rarity=np.maximum(sums(weights), SMALLEST_RARITY),
        topicality=sums((weight * logarithms[occurrences - 1])[group]),
        spread=sums(logarithms[num_holders - 1][group]),
        repeated=sums((weight * (num_holders > 1))[group]),
        shared=sums(weights * is_shared),
    )
