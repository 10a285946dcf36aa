"""What a sentence's vector does not say: where it stands, how long it is, and how much of it the document repeats.

The mean of token vectors forgets how many there were, and no encoder counts the words of other windows; yet both tell
much of what summaries take over. Position, length and word frequency are the oldest features of extraction (Luhn 1958;
Edmundson 1969). They cost one sort of the tokens.
"""

import numpy as np
import numpy.typing as npt

from bertsum.text.ragged import offsets, run_numbers

_LEAD = 3  # sentences with which news says what matters

# Centre and spread of each feature on English news, so that they reach the model near 0 with a size near 1.
_FEATURES = (
    ("log(1 + place of the sentence, from 0)", 2.4, 1.0),
    ("place / sentences", 0.5, 0.3),
    ("log(sentences)", 3.3, 0.6),
    *((f"is sentence {place}", 0.04, 0.2) for place in range(_LEAD)),
    ("log(1 + tokens)", 3.2, 0.5),
    ("log(1 + topicality)", 2.1, 0.5),
    ("topicality / tokens", 0.3, 0.1),
    ("log(1 + spread)", 3.2, 0.5),
    ("log(1 + repeated)", 1.6, 0.45),
    ("repeated / rarity", 0.6, 0.17),
    ("log(1 + shared with the lead)", 1.05, 0.4),
    ("shared with the lead / rarity", 0.3, 0.14),
)
NUM_SURFACE_FEATURES = len(_FEATURES)


def surface_features(
    ids: npt.NDArray[np.int32],
    sentence_tokens: npt.NDArray[np.int32],
    num_sentences: npt.NDArray[np.int64],
    vocabulary_size: int,
) -> npt.NDArray[np.float32]:
    """[S, NUM_SURFACE_FEATURES] of the sentences of some documents.

    `ids`: tokens of all sentences, one after the other, without special tokens; `sentence_tokens`: [S] how many each
    has; `num_sentences`: [B] of each document.

    Vocabularies are sorted by frequency, so that the root of a token's place in its own stands for how rare it is. All
    sums go over the distinct tokens of a sentence. Rarity: of all. Topicality: rarity * log(occurrences in the
    document). Spread: log(sentences that have the token). Repeated: rarity of those that another sentence has.
    Shared with the lead: rarity of those that another one of the first three sentences has.
    """
    total = len(sentence_tokens)
    document = run_numbers(num_sentences)  # [S]
    place = offsets(num_sentences)
    sentence = run_numbers(sentence_tokens)  # [T]
    pairs, occurrences = np.unique(sentence * vocabulary_size + ids, return_counts=True)
    owner, token = np.divmod(pairs, vocabulary_size)  # each distinct token of each sentence
    _, group = np.unique(document[owner] * vocabulary_size + token, return_inverse=True)  # the same token in a document
    weight = np.sqrt(token / vocabulary_size)
    in_document = np.bincount(group, occurrences)[group]
    holders = np.bincount(group)[group]
    in_lead = place[owner] < _LEAD
    other_leads = np.bincount(group, in_lead)[group] - in_lead

    def sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(owner, values, minlength=total).astype(np.float64)

    rarity = np.maximum(sums(weight), 1e-3)
    topicality = sums(weight * np.log(in_document))
    repeated = sums(weight * (holders > 1))
    shared = sums(weight * (other_leads > 0))
    count = np.repeat(num_sentences, num_sentences).astype(np.float64)
    columns = [
        np.log1p(place),
        place / count,
        np.log(count),
        *(place == lead for lead in range(_LEAD)),
        np.log1p(sentence_tokens),
        np.log1p(topicality),
        topicality / np.maximum(sentence_tokens, 1),
        np.log1p(sums(np.log(holders))),
        np.log1p(repeated),
        repeated / rarity,
        np.log1p(shared),
        shared / rarity,
    ]
    centre, spread = (np.array(column) for column in list(zip(*_FEATURES, strict=True))[1:])
    features: npt.NDArray[np.float32] = ((np.stack(columns, axis=1) - centre) / spread).astype(np.float32)
    return features
