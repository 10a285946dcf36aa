"""What a sentence's vector does not say: where it stands, how long it is, and how much of it the document repeats.

The mean of token vectors forgets how many there were, and no encoder counts the words of other windows; yet both tell
much of what summaries take over. Position, length and word frequency are the oldest features of extraction (Luhn 1958;
Edmundson 1969). They cost one sort of the tokens.
"""

import numpy as np
import numpy.typing as npt

# Centre and spread of each feature on English news, so that they reach the model near 0 with a size near 1.
_FEATURES = (
    ("log(1 + place of the sentence, from 0)", 2.4, 1.0),
    ("place / sentences", 0.5, 0.3),
    ("log(sentences)", 3.3, 0.6),
    ("log(1 + tokens)", 3.2, 0.5),
    ("log(1 + topicality)", 1.8, 0.6),
    ("log(1 + repeated)", 1.5, 0.5),
    ("repeated / rarity of all its tokens", 0.5, 0.2),
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

    Vocabularies are sorted by frequency, so that the root of a token's place in its own stands for how rare it is.
    Topicality: over the distinct tokens of a sentence, the sum of rarity * log(occurrences in the document). Repeated:
    the sum of the rarity of those that another sentence of the document has too.
    """
    total = len(sentence_tokens)
    document = np.repeat(np.arange(len(num_sentences)), num_sentences)  # [S]
    sentence = np.repeat(np.arange(total), sentence_tokens)  # [T]
    pairs, occurrences = np.unique(sentence * vocabulary_size + ids, return_counts=True)
    pair_sentence, token = np.divmod(pairs, vocabulary_size)  # each distinct token of each sentence
    _, group = np.unique(document[pair_sentence] * vocabulary_size + token, return_inverse=True)
    rarity = np.sqrt(token / vocabulary_size)
    is_repeated = np.bincount(group)[group] > 1
    in_document = np.bincount(group, occurrences)[group]

    def sums(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(pair_sentence, values, minlength=total).astype(np.float64)

    repeated = sums(rarity * is_repeated)
    count = np.repeat(num_sentences, num_sentences).astype(np.float64)
    place = np.arange(total) - np.repeat(np.cumsum(num_sentences) - num_sentences, num_sentences)
    columns = [
        np.log1p(place),
        place / count,
        np.log(count),
        np.log1p(sentence_tokens),
        np.log1p(sums(rarity * np.log(in_document))),
        np.log1p(repeated),
        repeated / np.maximum(sums(rarity), 1e-3),
    ]
    centre, spread = (np.array(column) for column in list(zip(*_FEATURES, strict=True))[1:])
    features: npt.NDArray[np.float32] = ((np.stack(columns, axis=1) - centre) / spread).astype(np.float32)
    return features
