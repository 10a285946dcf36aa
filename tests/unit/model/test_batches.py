"""Batches: a permutation of the documents under a token budget, packed without loss."""

from dataclasses import replace

import pytest
import torch
from helpers import tiny
from hypothesis import given
from hypothesis import strategies as st

from bertsum.model.batches import group_documents, make_batch, split_tokens

LENGTHS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 40)), max_size=8)


def documents_of(lengths):
    return tiny.encode(
        *(tiny.text(count, length, first=3 * count) for count, length in lengths),
        max_window_tokens=24,
    )


@given(LENGTHS, st.integers(1, 200))
def test_groups_hold_each_document_once_under_the_budget(lengths, budget):
    documents = documents_of(lengths)
    groups = group_documents(documents, budget)
    tokens = [len(document.input_ids) for document in documents]
    assert sorted(place for group in groups for place in group) == [
        p for p, count in enumerate(tokens) if count
    ]
    assert all(
        len(group) == 1 or sum(tokens[place] for place in group) <= budget for group in groups
    )
    sizes = [tokens[place] for group in groups for place in group]
    assert sizes == sorted(sizes, reverse=True)


def test_a_batch_is_as_full_as_the_next_document_allows():
    documents = tiny.encode(*(tiny.text(1, 4) for _ in range(10)))  # seven tokens each
    assert [len(group) for group in group_documents(documents, 28)] == [4, 4, 2]
    assert [len(group) for group in group_documents(documents, 27)] == [3, 3, 3, 1]
    assert group_documents(documents, 10**6) == [list(range(10))]
    assert group_documents([], 10) == []


@given(LENGTHS.filter(lambda lengths: any(count for count, _ in lengths)), st.randoms())
def test_packing_round_trips(lengths, random):
    documents = documents_of(lengths)
    places = [place for place, document in enumerate(documents) if document.num_read_sentences]
    random.shuffle(places)
    batch = make_batch(documents, places)

    assert sorted(batch.documents) == sorted(places)
    assert batch.num_sentences == [documents[place].num_read_sentences for place in batch.documents]
    assert batch.num_sentences == sorted(batch.num_sentences)
    assert batch.window_lengths == sorted(batch.window_lengths)
    assert (
        len(batch.input_ids)
        == sum(batch.window_lengths)
        == sum(len(documents[p].input_ids) for p in places)
    )
    assert {t.dtype for t in (batch.input_ids, batch.token_type_ids, batch.token_sentences)} == {
        torch.int64
    }

    windows = _windows(
        batch.window_lengths, batch.input_ids, batch.token_type_ids, batch.token_sentences
    )
    expected = []
    first = 0
    for place in batch.documents:
        document = documents[place]
        sentences = torch.from_numpy(document.token_sentences) + first
        expected += _windows(
            document.window_lengths,
            torch.from_numpy(document.input_ids),
            torch.from_numpy(document.token_type_ids),
            sentences,
        )
        first += document.num_read_sentences
    assert sorted(windows) == sorted(
        expected
    )  # whole windows, each token with its own segment and sentence

    is_cls = batch.input_ids == 2
    assert batch.cls_positions.tolist() == torch.nonzero(is_cls).flatten().tolist()


@given(LENGTHS.filter(lambda lengths: any(count for count, _ in lengths)), st.data())
def test_queries_ride_along(lengths, data):
    """Behind the sentences of all documents, each as one; documents stay as they are."""
    queries = tiny.encode(tiny.text(1, 3), tiny.text(2, 50))  # the second is of several windows
    documents = []
    for document in documents_of(lengths):
        query = data.draw(st.sampled_from([None, *queries]))
        documents.append(replace(document, query=query))
    places = [place for place, document in enumerate(documents) if document.num_read_sentences]
    batch = make_batch(documents, places)
    chosen = [documents[place] for place in batch.documents]
    plain = make_batch([replace(document, query=None) for document in documents], places)

    assert batch.num_sentences == plain.num_sentences
    assert batch.documents == plain.documents
    assert sum(batch.window_lengths) == sum(document.num_batch_tokens for document in chosen)
    asking = [i for i, document in enumerate(chosen) if document.query is not None]
    assert batch.num_queries == len(asking)
    if asking:
        assert batch.query_documents.tolist() == asking
    num_sentences = sum(batch.num_sentences)
    for number, i in enumerate(asking):
        ids = batch.input_ids[batch.token_sentences == num_sentences + number]
        # windows are sorted by length, so that those of a query may have changed places
        assert sorted(ids.tolist()) == sorted(chosen[i].query.input_ids.tolist())
    is_document = batch.token_sentences < num_sentences
    assert batch.input_ids[is_document].tolist() == plain.input_ids.tolist()
    assert batch.token_sentences[is_document].tolist() == plain.token_sentences.tolist()
    for document, ids in zip(chosen, split_tokens(batch.input_ids.numpy(), chosen), strict=True):
        assert ids.tolist() == document.input_ids.tolist()


def test_windows_of_equal_length_keep_their_order():
    (document,) = tiny.encode(tiny.text(6, 5), max_window_tokens=24)
    batch = make_batch([document], [0])
    assert batch.window_lengths == [24, 24]
    assert batch.input_ids.tolist() == document.input_ids.tolist()


def test_repeated_and_chosen_places():
    documents = tiny.encode(tiny.text(3), tiny.text(1), tiny.text(2))
    batch = make_batch(documents, [2, 1, 2])
    assert batch.documents == [1, 2, 2]
    assert batch.num_sentences == [1, 2, 2]


def test_moving_a_batch_moves_every_tensor():
    batch = make_batch(tiny.encode(tiny.text(2)), [0]).to(torch.device("meta"))
    tensors = [batch.input_ids, batch.token_type_ids, batch.token_sentences, batch.cls_positions]
    assert all(tensor.is_meta for tensor in tensors)
    assert batch.documents == [0]


def _windows(lengths, *tensors):
    return [
        tuple(tuple(part.tolist()) for part in parts)
        for parts in zip(*(torch.split(tensor, list(lengths)) for tensor in tensors), strict=True)
    ]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_sentences_stand_document_by_document(order):
    documents = tiny.encode(tiny.text(4), tiny.text(1), tiny.text(2))
    batch = make_batch(documents, order)
    assert batch.documents == [1, 2, 0]
    assert batch.token_sentences.unique().tolist() == list(range(7))
