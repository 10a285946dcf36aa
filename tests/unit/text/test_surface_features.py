"""Surface features against their definition written out in plain Python, document by document."""

import math
from collections import Counter

import numpy as np
import pytest

from bertsum.text.surface_features import _FEATURES, surface_features

VOCABULARY_SIZE = 50


def raw(features):
    """The values before they were centred."""
    _, centre, spread = zip(*_FEATURES, strict=True)
    return features * np.array(spread) + np.array(centre)


def expected(sentences):
    """The features of one document, whose sentences are lists of ids."""
    occurrences = Counter(token for sentence in sentences for token in sentence)
    holders = Counter(token for sentence in sentences for token in set(sentence))
    rows = []
    for place, sentence in enumerate(sentences):
        rarity = {token: math.sqrt(token / VOCABULARY_SIZE) for token in sentence}
        topicality = sum(weight * math.log(occurrences[token]) for token, weight in rarity.items())
        spread = sum(math.log(holders[token]) for token in rarity)
        repeated = sum(weight for token, weight in rarity.items() if holders[token] > 1)
        others = set().union(*(lead for i, lead in enumerate(sentences[:3]) if i != place))
        shared = sum(weight for token, weight in rarity.items() if token in others)
        whole = sum(rarity.values()) or 1
        rows.append(
            [
                math.log(1 + place),
                place / len(sentences),
                math.log(len(sentences)),
                *(float(place == lead) for lead in range(3)),
                math.log(1 + len(sentence)),
                math.log(1 + topicality),
                topicality / max(1, len(sentence)),
                math.log(1 + spread),
                math.log(1 + repeated),
                repeated / whole,
                math.log(1 + shared),
                shared / whole,
            ]
        )
    return rows


def features_of(*documents):
    sentences = [sentence for document in documents for sentence in document]
    return surface_features(
        np.array([token for sentence in sentences for token in sentence], np.int32),
        np.array([len(sentence) for sentence in sentences], np.int32),
        np.array([len(document) for document in documents], np.int64),
        VOCABULARY_SIZE,
    )


def test_they_are_what_their_names_say():
    documents = [
        [[5, 7, 7, 9], [7, 40], [], [5, 41, 42]],
        [[7, 8]],
        [],
        [[49, 49], [49]],
        [[]],
    ]
    features = features_of(*documents)
    assert features.dtype == np.float32
    np.testing.assert_allclose(
        raw(features), [row for d in documents for row in expected(d)], atol=1e-5
    )


def test_a_document_has_the_same_alone_and_beside_others():
    generator = np.random.default_rng(0)
    documents = [
        [
            generator.integers(1, VOCABULARY_SIZE, generator.integers(0, 12)).tolist()
            for _ in range(count)
        ]
        for count in (3, 1, 20)
    ]
    alone = np.concatenate([features_of(document) for document in documents])
    np.testing.assert_array_equal(features_of(*documents), alone)


def test_no_documents_have_no_features():
    assert features_of().shape == (0, len(_FEATURES))


@pytest.mark.parametrize("tokens", [[], [3]])
def test_one_sentence_repeats_nothing(tokens):
    assert raw(features_of([tokens]))[0, 7:].tolist() == pytest.approx([0] * 7, abs=1e-6)
