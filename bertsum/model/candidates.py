"""Sets of sentences that may be a document's summary, and what the ranker reads of each.

All documents of a pool are counted at once: no step of Python stands for a candidate, and few for
a document.

Shapes: D documents, S sentences, Q of them ranked, N candidates of a document, T tokens, V distinct
tokens of each document, F features. R rows: of a document, each sentence that some of its sets lack
is a row, and all sentences that all sets have are one row together, since of a long document these
may be thousands.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import Self

import numpy as np
import numpy.typing as npt

from bertsum.model.text_marks import count_marks
from bertsum.text.encoder import EncodedDocument
from bertsum.text.ragged import (
    bounds,
    is_run_start,
    offsets,
    pack_pairs,
    ranges,
    run_numbers,
    sort_runs,
    split_runs,
)
from bertsum.text.surface_features import LEAD_SENTENCES, SMALLEST_RARITY

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Of the ranked sentences, the last few inside the summary and the first few outside may be swapped.
# 5 and 3 make 226 candidates of a summary of 5 sentences or more, and 381 with a sentence fewer.
_MOST_SWAPPED = 5  # sentences on each side
_MOST_SWAPS = 3  # at once
_MOST_REPEATED = 1 / 3  # share of the trigrams of a sentence that better ones may have
_SPARE = 4  # sentences that are looked at beside those that are wanted
_KEY_BITS = 63  # of an integer that is not negative
_SMALLEST_SCORE = 1e-4  # of a logit that is finite

# Centre and spread of each feature on English news, so that they reach the network near 0 with a
# size near 1. Rarity and topicality: see `_Weights`.
_FEATURES = (
    ("mean logit of the scores", -0.4, 1.0),
    ("mean score", 0.4, 0.2),
    ("log(tokens)", 5.0, 0.5),
    ("mean of log(1 + index of a sentence)", 1.8, 0.5),
    ("log(1 + first index)", 0.5, 0.6),
    ("share of the first three sentences", 0.3, 0.2),
    ("rarity / sum over the sentences alone", 0.75, 0.1),
    ("log(1 + rarity)", 3.6, 0.4),
    ("topicality / the document's", 0.75, 0.2),
    ("topicality / tokens", 0.15, 0.07),
    ("shared with the lead / the lead's rarity", 0.65, 0.25),
    ("log(sentences of the document)", 3.0, 0.5),
    ("log(sentences of the summary)", 1.7, 0.4),
    ("log(tokens of the document)", 6.3, 0.5),
)
# Of the text itself; see `count_marks`.
_TEXT_FEATURES = (
    ("numbers / tokens", 0.015, 0.02),
    ("capitalized words / tokens", 0.1, 0.05),
    ("share of sentences that quote", 0.25, 0.3),
    ("share of sentences that lean on the one before", 0.15, 0.2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Sets of a document's sentences, the best-scored ones first.

    `sure`: [K] sentences that are in all sets.
    `others`: [M] sentences that are in some sets, best score first.
    `swapped`: [N, M] 1 where set n has the sentence others[m], else 0.
    `features`: [N, F] what the ranker reads of each.
    """

    sure: LongArray
    others: LongArray
    swapped: FloatArray
    features: FloatArray

    def sentences(self, candidate: int) -> list[int]:
        """Indices of a candidate's sentences, ascending."""
        chosen = self.others[self.swapped[candidate] > 0]
        return sorted([*self.sure.tolist(), *chosen.tolist()])

    def means(self, values: DoubleArray) -> DoubleArray:
        """[N] the mean over the sentences of each set. `values`: [S] of the sentences."""
        sums = values[self.sure].sum() + self.swapped @ values[self.others]
        means: DoubleArray = sums / (len(self.sure) + self.swapped.sum(axis=1))
        return means


@cache
def feature_scales(reads_text: bool) -> FloatArray:
    """[F, 2] centre and spread of each feature."""
    features = _FEATURES + _TEXT_FEATURES if reads_text else _FEATURES
    return np.array([(centre, spread) for _, centre, spread in features], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoolText:
    """Tokens of D documents that were read, one document after the other, without special ones.

    Sentences are counted from the first document's to the last one's.
    """

    ids: LongArray  # [T]
    num_tokens: LongArray  # [S] tokens of each sentence
    sentence_bounds: LongArray  # [D + 1] of each document's sentences
    token_bounds: LongArray  # [S + 1] of each sentence's tokens
    document_of_sentence: LongArray  # [S]

    @classmethod
    def of(cls, documents: Sequence[EncodedDocument]) -> Self:
        """Join the documents."""
        num_sentences = [document.num_read_sentences for document in documents]
        sentence_bounds = bounds(num_sentences)
        num_tokens = np.concatenate(
            [document.sentence_tokens[: document.num_read_sentences] for document in documents]
        ).astype(np.int64)
        # The last sentence of a document may lie partly beyond its windows.
        num_unread = np.diff(bounds(num_tokens)[sentence_bounds])
        num_unread -= [document.num_read_tokens for document in documents]
        num_tokens[sentence_bounds[1:] - 1] -= num_unread

        lengths = [len(document.input_ids) for document in documents]
        num_pieces = [len(document.cls_positions) for document in documents]
        cls_positions = np.concatenate([document.cls_positions for document in documents])
        cls_positions = cls_positions + np.repeat(bounds(lengths)[:-1], num_pieces)
        ids = np.concatenate([document.input_ids for document in documents])
        is_text = np.ones(len(ids), np.bool_)
        is_text[cls_positions] = False
        is_text[cls_positions - 1] = False  # [SEP]: of the piece before, and at -1 of the last one
        return cls(
            ids=ids[is_text].astype(int),
            num_tokens=num_tokens,
            sentence_bounds=sentence_bounds,
            token_bounds=bounds(num_tokens),
            document_of_sentence=run_numbers(num_sentences),
        )


def make_candidates(
    documents: Sequence[EncodedDocument],
    scores: Sequence[FloatArray],
    sizes: Sequence[int],
    vocabulary_size: int,
    *,
    fewer_sentences: int = 0,
    reads_text: bool = False,
    ranked_by: Sequence[FloatArray] | None = None,
) -> list[Candidates]:
    """Make the sets of sentences to compare, of each document; one where there is no choice.

    `scores`: [S] probabilities of the sentences that were read of each document, at least one.
    `sizes`: sentences of a set of each document, at least one.
    `fewer_sentences`: also sets with up to so many fewer, but at least one.
    `reads_text`: with the features of the text itself.
    `ranked_by`: scores like `scores` that say in their place which sentences are best.
    """
    if not documents:
        return []
    text = _PoolText.of(documents)
    ranked = _rank(text, np.concatenate(ranked_by or scores), np.array(sizes))
    rows = _Rows.of(ranked, sizes)
    sums = _sentence_sums(documents, text, rows, np.concatenate(scores), reads_text=reads_text)
    weights = _Weights.of(text, rows, vocabulary_size)
    # Documents with the same sets are taken together.
    alike: dict[tuple[int, int, int, bool], list[int]] = defaultdict(list)
    for index, num_sure in enumerate(rows.num_sure.tolist()):
        num_in = min(sizes[index], len(ranked[index])) - num_sure
        num_out = len(ranked[index]) - num_sure - num_in
        num_fewer = min(fewer_sentences, num_in + num_sure - 1)
        alike[num_in, num_out, num_fewer, num_sure > 0].append(index)
    candidates: dict[int, Candidates] = {}
    for (num_in, num_out, num_fewer, has_sure), indices in alike.items():
        swapped = _swaps(num_in, num_out, num_fewer)
        members = np.pad(swapped, ((0, 0), (0, int(has_sure))), constant_values=1)
        columns = _features(text, sums, weights, members, np.array(indices))
        scales = feature_scales(reads_text)
        features = (columns - scales[:, :1, None]) / scales[:, 1:, None]  # [F, D, N]
        features = np.ascontiguousarray(np.moveaxis(features, 0, -1))  # [D, N, F]
        for index, document_features in zip(indices, features, strict=True):
            num_sure = int(rows.num_sure[index])
            candidates[index] = Candidates(
                sure=ranked[index][:num_sure],
                others=ranked[index][num_sure:],
                swapped=swapped,
                features=document_features,
            )
    return [candidates[index] for index in range(len(documents))]


@cache
def _swaps(num_in: int, num_out: int, fewer: int) -> FloatArray:
    """[N, num_in + num_out] sets that the first `num_in` become when up to _MOST_SWAPS of them go.

    As many others come as go, or up to `fewer` less. Of 2 in and 1 out: [1, 1, 0], [0, 1, 1],
    [1, 0, 1]; with `fewer` 1 also [0, 1, 0], [1, 0, 0], [0, 0, 1].
    """
    rows = []
    for missing in range(fewer + 1):
        for num_added in range(min(_MOST_SWAPS - missing, num_in - missing, num_out) + 1):
            leaving = combinations(range(num_in), num_added + missing)
            coming = combinations(range(num_in, num_in + num_out), num_added)
            for removed, added in product(leaving, coming):
                row = np.repeat(np.array([1, 0], np.float32), [num_in, num_out])
                row[list(removed)] = 0
                row[list(added)] = 1
                rows.append(row)
    return np.stack(rows)


def _rank(text: _PoolText, scores: FloatArray, sizes: LongArray) -> list[LongArray]:
    """[D] the best sentences of each document, without those that repeat what better ones say.

    Repeating is to have more than _MOST_REPEATED of its trigrams from better sentences.
    """
    num_sentences = np.diff(text.sentence_bounds)
    starts = text.sentence_bounds[:-1]
    best_first = np.lexsort((-scores, text.document_of_sentence))
    most = sizes + _MOST_SWAPPED
    # Few documents have so many repeats among their best that more must be looked at.
    num_best = np.minimum(most + _SPARE, num_sentences)
    best = best_first[ranges(starts, starts + num_best)]  # [Q]
    kept = _keep_new(text, best, num_best, most)
    counts = np.add.reduceat(kept, bounds(num_best)[:-1])
    ranked = split_runs(best[kept] - np.repeat(starts, counts), counts)
    wanted = np.minimum(most, num_sentences)
    for index in np.flatnonzero(counts < wanted).tolist():
        order = best_first[starts[index] : starts[index] + num_sentences[index]]
        ranked[index] = _keep_new_of_one(text, order, int(most[index])) - starts[index]
    return ranked


def _keep_new(
    text: _PoolText, best: LongArray, num_best: LongArray, most: LongArray
) -> npt.NDArray[np.bool_]:
    """[Q] which of the best sentences are kept, at most `most` [D] of each document.

    None of them where there is too much text for numbers of 63 bits.
    All documents are looked at in step: their best sentences, then their second best, ...
    """
    # Trigrams by sentence, as one number each: bits of the sentence's index in `best`, which also
    # tells the document, behind bits of three ids, which are counted anew so that they are few.
    starts, stops = text.token_bounds[best], text.token_bounds[best + 1]
    ids = text.ids[ranges(starts, stops)]
    counts = np.bincount(ids)
    new_ids: LongArray = np.cumsum(counts > 0)
    ids = new_ids[ids]
    id_bits, index_bits = int(ids.max(initial=0)).bit_length(), len(best).bit_length()
    kept = np.zeros(len(best), np.bool_)
    if 3 * id_bits + index_bits > _KEY_BITS:
        return kept
    sentence = run_numbers(stops - starts)
    trigrams = ((ids[:-2] << id_bits | ids[1:-1]) << id_bits | ids[2:]) << index_bits
    is_inside = sentence[:-2] == sentence[2:]
    trigrams = (trigrams | sentence[2:])[is_inside]
    first_sentences = bounds(num_best)
    sort_runs(trigrams, np.searchsorted(sentence[2:][is_inside], first_sentences))
    trigrams = trigrams[is_run_start(trigrams)]
    sentence = trigrams & (1 << index_bits) - 1
    trigrams >>= index_bits
    document = run_numbers(num_best)[sentence]
    is_new = is_run_start(trigrams) | is_run_start(document)
    trigram = np.cumsum(is_new) - 1  # equal only for equal trigrams of one document

    rank = offsets(num_best)
    ranks = np.arange(num_best.max(initial=0))
    small = np.min_scalar_type(len(ranks))  # few bytes are sorted without comparisons
    by_rank = np.argsort(rank[sentence].astype(small), kind="stable")
    entries_of_rank = split_runs(by_rank, np.bincount(rank[sentence], minlength=len(ranks)))
    seen = np.zeros(len(trigrams), np.bool_)
    num_kept = np.zeros(len(num_best), np.int64)
    for r, entries in zip(ranks, entries_of_rank, strict=True):
        holder, held = document[entries], trigram[entries]
        counts = np.bincount(holder, minlength=len(num_best))
        repeated = np.bincount(holder[seen[held]], minlength=len(num_best))
        keeps = repeated <= _MOST_REPEATED * counts
        keeps &= (num_kept < most) & (r < num_best)
        seen[held[keeps[holder]]] = True
        num_kept += keeps
        kept[first_sentences[:-1][keeps] + r] = True
    return kept


def _keep_new_of_one(text: _PoolText, order: LongArray, most: int) -> LongArray:
    """At most `most` of a document's sentences, which `order` has from the best on."""
    kept: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for index in order.tolist():
        ids = text.ids[text.token_bounds[index] : text.token_bounds[index + 1]].tolist()
        trigrams = set(zip(ids, ids[1:], ids[2:], strict=False))
        if len(trigrams & seen) <= _MOST_REPEATED * len(trigrams):
            kept.append(index)
            seen |= trigrams
        if len(kept) == most:
            break
    return np.array(kept, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The row of each ranked sentence.

    A document with the ranked sentences 7, 2, 9 of which 7 is sure: rows 2, 0, 1.
    """

    sentences: LongArray  # [Q] in their documents
    document: LongArray  # [Q]
    row: LongArray  # [Q]
    num_sure: LongArray  # [D] sentences that all sets have
    most: int  # R, rows of a document

    @classmethod
    def of(cls, ranked: Sequence[LongArray], sizes: Sequence[int]) -> Self:
        """Give rows to the ranked sentences of each document, of which sets have `sizes`."""
        counts = np.fromiter(map(len, ranked), np.int64, len(ranked))
        num_sure = np.maximum(0, np.minimum(sizes, counts) - _MOST_SWAPPED)
        document = run_numbers(counts)
        row = offsets(counts) - num_sure[document]
        row[row < 0] = (counts - num_sure)[document[row < 0]]  # the sure ones: behind the others
        sentences = np.concatenate(ranked)
        return cls(
            sentences=sentences,
            document=document,
            row=row,
            num_sure=num_sure,
            most=int(row.max()) + 1,
        )


def _sentence_sums(
    documents: Sequence[EncodedDocument],
    text: _PoolText,
    rows: _Rows,
    scores: FloatArray,
    *,
    reads_text: bool,
) -> DoubleArray:
    """[7 or 11, D, R] what adds up over the sentences of a row; the first is the exception.

    The smallest log(1 + index); 1; logit; score; tokens; log(1 + index); whether in the lead; and
    what `count_marks` counts.
    """
    sentence = rows.sentences + text.sentence_bounds[rows.document]  # [Q]
    score = np.clip(scores[sentence], _SMALLEST_SCORE, 1 - _SMALLEST_SCORE)
    log_index = np.log1p(rows.sentences)
    tokens = np.concatenate(
        [document.sentence_tokens[: document.num_read_sentences] for document in documents]
    )[sentence]
    values = [
        np.ones(len(sentence)),
        np.log(score / (1 - score)),
        score,
        tokens,
        log_index,
        rows.sentences < LEAD_SENTENCES,
    ]
    if reads_text:
        sentences = []
        for document, index in zip(rows.document.tolist(), rows.sentences.tolist(), strict=True):
            start, stop = documents[document].spans[index]
            sentences.append(documents[document].text[start:stop])
        values += list(count_marks(sentences).T)
    cell = rows.document * rows.most + rows.row
    num_cells = len(documents) * rows.most
    first = np.full(num_cells, np.inf)
    np.minimum.at(first, cell, log_index)
    sums = [first]
    for value in values:
        sums.append(np.bincount(cell, value, num_cells))
    return np.stack(sums).reshape(len(sums), len(documents), rows.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """What distinct tokens weigh.

    Rarity of a token: sqrt(id / vocabulary size), as in `text.surface_features`. Topicality:
    rarity * log(occurrences in the document). The third weight is the rarity of tokens that the
    lead has.

    A token counts once, however many sentences of a set have it. So weights are summed by the rows
    that have a token, each row a bit: with sentences "a b", "b c" and "a c" in the rows 0, 1, 2,
    a has the mask 101, b 011 and c 110. A set has a token if it has any row of its mask.
    """

    by_mask: DoubleArray  # [3, D, 2^R]
    alone: DoubleArray  # [D, R] the rarities of a row's sentences alone, added
    of_document: DoubleArray  # [3, D] of all tokens

    @classmethod
    def of(cls, text: _PoolText, rows: _Rows, vocabulary_size: int) -> Self:
        """Weigh the tokens of each document."""
        num_documents = len(rows.num_sure)
        num_sentences = text.sentence_bounds[-1]
        index = np.arange(num_sentences) - text.sentence_bounds[text.document_of_sentence]
        row = np.full(num_sentences, -1)  # [S] -1: in no set
        row[rows.sentences + text.sentence_bounds[rows.document]] = rows.row
        # The bits of a sentence: that of its row, if any, and behind all rows that of the lead.
        lead_bit = 1 << rows.most
        bits = np.zeros(num_sentences, np.int64)
        bits[row >= 0] = 1 << row[row >= 0]
        bits[index < LEAD_SENTENCES] |= lead_bit

        # One number for each (token, bits) makes a sort of a document's numbers find equal tokens.
        token_bits, num_bits = int(text.ids.max(initial=0)).bit_length(), rows.most + 1
        of_tokens = np.repeat(bits, text.num_tokens)  # [T]
        keys = pack_pairs(text.ids, of_tokens, high_bits=token_bits, low_bits=num_bits)
        document_bounds = text.token_bounds[text.sentence_bounds]
        sort_runs(keys, document_bounds)
        ids = keys >> num_bits
        starts = np.flatnonzero(is_run_start(ids, document_bounds))  # [V]
        occurrences = np.diff(starts, append=len(keys))
        masks = np.bitwise_or.reduceat(keys, starts) & (1 << num_bits) - 1
        document = run_numbers(np.diff(np.searchsorted(starts, document_bounds)))
        rarity = np.sqrt(ids[starts] / vocabulary_size)
        logarithms = np.log(np.arange(1, occurrences.max(initial=1) + 1))
        weights = [rarity, rarity * logarithms[occurrences - 1], rarity * (masks >= lead_bit)]
        cell = document << rows.most | masks & lead_bit - 1
        sums = [np.bincount(cell, weight, num_documents * lead_bit) for weight in weights]
        by_mask: DoubleArray = np.array(sums, np.float64).reshape(3, num_documents, lead_bit)
        alone = by_mask[0] @ _bits(rows.most)

        # The row of the sure sentences says what they have together; wanted is the sum over each
        # of them. One number for each pair (sentence, token) leaves each pair once.
        num_others = np.bincount(rows.document) - rows.num_sure  # [D], the row of the sure ones
        has_sure = np.flatnonzero(rows.num_sure)
        is_sure = np.repeat(
            row == np.where(rows.num_sure, num_others, -2)[text.document_of_sentence],
            text.num_tokens,
        )
        sentence = run_numbers(text.num_tokens)[is_sure]
        pairs = np.unique(sentence << token_bits | text.ids[is_sure])
        pair_rarity = np.sqrt((pairs & (1 << token_bits) - 1) / vocabulary_size)
        pair_document = text.document_of_sentence[pairs >> token_bits]
        sure_rarity = np.bincount(pair_document, pair_rarity, num_documents)
        alone[has_sure, num_others[has_sure]] = sure_rarity[has_sure]
        return cls(
            by_mask=by_mask,
            alone=alone,
            of_document=np.maximum(by_mask.sum(axis=2), SMALLEST_RARITY),
        )


@cache
def _bits(num_rows: int) -> DoubleArray:
    """[2^R, R] the bits of each mask of rows: of 2 rows [[0, 0], [1, 0], [0, 1], [1, 1]]."""
    masks = np.arange(1 << num_rows)
    return (masks[:, None] >> np.arange(num_rows) & 1).astype(np.float64)


def _features(
    text: _PoolText,
    sums: DoubleArray,
    weights: _Weights,
    members: FloatArray,
    indices: LongArray,
) -> FloatArray:
    """[F, D, N] what _FEATURES and, if it was counted, _TEXT_FEATURES name.

    `members`: [N, R] the rows of each set.
    `indices`: [D] which documents of the pool have these sets.
    """
    num_rows = members.shape[1]
    members = members.astype(np.float64)
    sums = sums[:, indices, :num_rows]
    sentences, logits, scores, tokens, log_indices, leads, *marks = sums[1:] @ members.T  # [D, N]
    tokens = np.maximum(tokens, 1)
    # [N, 2^R] whether a set has any row of a mask
    meets = (members @ _bits(num_rows).T > 0).astype(np.float64)
    covered = weights.by_mask[:, indices, : 1 << num_rows] @ meets.T  # [3, D, N]
    rarity, topicality, lead_rarity = covered
    alone = weights.alone[indices, :num_rows] @ members.T
    _, document_topicality, document_lead = weights.of_document[:, indices, None]
    first_sentence, next_sentence = text.sentence_bounds[indices], text.sentence_bounds[indices + 1]
    num_tokens = text.token_bounds[next_sentence] - text.token_bounds[first_sentence]
    first = np.full_like(tokens, np.inf)  # the first sentence of a set is that of any of its rows
    for row in range(num_rows):
        np.minimum(first, np.where(members[:, row] > 0, sums[0, :, row, None], np.inf), out=first)
    columns = [
        logits / sentences,
        scores / sentences,
        np.log(tokens),
        log_indices / sentences,
        first,
        leads / sentences,
        rarity / np.maximum(alone, SMALLEST_RARITY),
        np.log1p(rarity),
        topicality / document_topicality,
        topicality / tokens,
        lead_rarity / document_lead,
        np.log(next_sentence - first_sentence)[:, None],
        np.log(sentences),
        np.log(np.maximum(1, num_tokens))[:, None],
    ]
    if marks:
        numbers, capitalized, quoting, leaning = marks
        columns += [
            numbers / tokens,
            capitalized / tokens,
            quoting / sentences,
            leaning / sentences,
        ]
    features = np.empty((len(columns), *sentences.shape), np.float32)
    for index, column in enumerate(columns):
        features[index] = column
    return features
