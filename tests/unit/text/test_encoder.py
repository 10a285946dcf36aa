"""Windows of tokens: the tokenizer's own ids, cut at sentence ends, nothing lost."""

from itertools import chain, pairwise

import numpy as np
import pytest
from helpers import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from bertsum.errors import ModelError
from bertsum.text.encoder import EncodedDocument

ALL_TOKENIZERS = pytest.mark.parametrize("name", tiny.TOKENIZERS)
TEXT = "The cat sleeps. A dog runs in the red house!\n\nIs the market good? Bank price rises 3.5 percent in zürich."


def pieces(document: EncodedDocument) -> list[tuple[int, list[int]]]:
    """(sentence, ids with special tokens) of each piece, in order."""
    bounds = [*document.cls_positions.tolist(), len(document.input_ids)]
    return [
        (int(document.token_sentences[a]), document.input_ids[a:b].tolist())
        for a, b in pairwise(bounds)
    ]


def check_invariants(document: EncodedDocument, max_window_tokens: int, max_windows: int) -> None:
    """What holds of every document, truncated or not."""
    total = len(document.input_ids)
    assert (
        len(document.token_type_ids)
        == len(document.token_sentences)
        == document.window_lengths.sum()
        == total
    )
    assert (document.window_lengths <= max_window_tokens).all() and (
        document.window_lengths >= 2
    ).all()
    assert len(document.window_lengths) <= max_windows
    window_starts = np.cumsum(document.window_lengths) - document.window_lengths
    assert np.isin(
        window_starts, document.cls_positions
    ).all()  # a window begins with a sentence or a piece
    assert np.isin(np.diff(document.token_sentences), (0, 1)).all()
    assert set(document.token_sentences.tolist()) == set(range(document.num_read_sentences))
    assert document.num_tokens == document.sentence_tokens.sum()
    assert len(document.sentence_tokens) == len(document.spans) >= document.num_read_sentences
    assert document.truncated == (
        total - 2 * len(document.cls_positions) < document.num_tokens
    ) or (document.num_read_sentences < len(document.spans))
    lengths = document.sentence_tokens + 2
    for window, start in zip(document.window_lengths.tolist(), window_starts.tolist(), strict=True):
        sentences = np.unique(document.token_sentences[start : start + window])
        partial = [
            s
            for s in sentences
            if (document.token_sentences[start : start + window] == s).sum() < lengths[s]
        ]
        assert all(
            lengths[s] > max_window_tokens for s in partial
        )  # only too long sentences are cut


@ALL_TOKENIZERS
def test_ids_are_those_of_the_tokenizer(name):
    tokenizer = tiny.TOKENIZERS[name]()
    expected_of = tiny.TOKENIZERS[name]()  # its own copy, without what DocumentEncoder sets
    (document,) = tiny.encode(TEXT, tokenizer=tokenizer)
    assert len(document.spans) == 4
    expected = []
    for index, (start, stop) in enumerate(document.spans):
        ids = expected_of(TEXT[start:stop], add_special_tokens=False)["input_ids"]
        assert len(ids) == document.sentence_tokens[index] > 0
        expected.append((index, [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]))
    assert pieces(document) == expected
    assert not document.truncated
    check_invariants(document, 64, 64)


@pytest.mark.parametrize(
    "name", ["wordpiece", "byte_level_bpe"]
)  # Unigram has them among its pieces
def test_a_special_token_in_a_text_is_text(name):
    tokenizer = tiny.TOKENIZERS[name]()
    names = "".join(tokenizer.all_special_tokens)
    (document,) = tiny.encode(f"The cat {names} sleeps.", tokenizer=tokenizer)
    inner = np.delete(document.input_ids, [0, len(document.input_ids) - 1])
    assert not np.isin(
        inner, [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    ).any()


def test_encoding_leaves_truncation_and_padding_of_a_tokenizer_behind():
    tokenizer = tiny.wordpiece()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    (document,) = tiny.encode("The cat sleeps in the red house of the city.", tokenizer=tokenizer)
    assert document.num_tokens == 11


@pytest.mark.parametrize("window", [16, 17, 23, 64])
def test_windows_hold_whole_sentences_up_to_the_maximum(window):
    (document,) = tiny.encode(tiny.text(30, 5), max_window_tokens=window)
    check_invariants(document, window, 64)
    assert not document.truncated
    per_window = window // 8  # five words, a full stop, two special tokens
    assert document.window_lengths.tolist()[:-1] == [8 * per_window] * (
        len(document.window_lengths) - 1
    )


def test_a_sentence_that_fills_a_window_exactly_is_not_cut():
    for length, count in [
        (13, 1),
        (14, 2),
    ]:  # with the full stop and special tokens: 16 and 17 of 16
        (document,) = tiny.encode(tiny.text(1, length), max_window_tokens=16)
        assert len(document.cls_positions) == count
        assert document.num_read_sentences == 1


def test_a_sentence_longer_than_a_window_is_cut_into_pieces_of_one_sentence():
    long = tiny.sentence(*range(50))
    (document,) = tiny.encode(f"A cat. {long} A dog.", max_window_tokens=16)
    check_invariants(document, 16, 64)
    assert len(document.spans) == document.num_read_sentences == 3
    parts = [ids[1:-1] for sentence, ids in pieces(document) if sentence == 1]
    assert [len(part) for part in parts] == [14, 14, 14, 9]
    assert list(chain(*parts)) == tiny.wordpiece()(long, add_special_tokens=False)["input_ids"]
    assert document.sentence_tokens.tolist() == [3, 51, 3]


def test_segments_alternate_in_each_window_and_cover_special_tokens():
    (document,) = tiny.encode(tiny.text(7, 5), max_window_tokens=24)
    assert document.token_type_ids.tolist() == ([0] * 8 + [1] * 8 + [0] * 8) * 2 + [0] * 8


@pytest.mark.parametrize("options", [{"num_segments": 1}, {"num_segments": 0}, {"segments": False}])
def test_no_segments_where_the_encoder_has_one_or_they_are_off(options):
    (document,) = tiny.encode(tiny.text(7, 5), **options)
    assert not document.token_type_ids.any()


def test_positions_of_the_encoder_bound_a_window():
    assert tiny.document_encoder(max_positions=20).max_window_tokens == 20
    (document,) = tiny.encode(tiny.text(20), max_positions=20)
    check_invariants(document, 20, 64)


@pytest.mark.parametrize("max_windows", [1, 2, 5, 6])
def test_max_windows_truncates_and_says_so(max_windows):
    text = tiny.text(18, 5)  # six windows of three sentences
    (document,) = tiny.encode(text, max_window_tokens=24, max_windows=max_windows)
    check_invariants(document, 24, max_windows)
    assert document.num_read_sentences == 3 * max_windows
    assert document.truncated == (max_windows < 6)
    assert len(document.spans) == 18
    assert document.num_tokens == 18 * 6  # of the whole document


def test_truncation_inside_a_sentence_is_seen():
    (document,) = tiny.encode(tiny.text(1, 60), max_window_tokens=16, max_windows=2)
    assert document.num_read_sentences == len(document.spans) == 1
    assert document.truncated
    assert document.num_tokens == 61


ACCENT = "\u0301"  # BERT's normalizer drops it, and nothing is left of a sentence of one


def test_truncation_that_only_loses_a_sentence_without_tokens_is_seen():
    (document,) = tiny.encode("A cat.\n\n" + ACCENT, max_window_tokens=16, max_windows=1)
    assert document.sentence_tokens.tolist() == [3, 0]
    assert not document.truncated  # it fits: [CLS] [SEP]
    (document,) = tiny.encode(f"{tiny.text(1, 12)}\n\n" + ACCENT, max_window_tokens=16,
                              max_windows=1)  # fmt: skip
    assert document.sentence_tokens.tolist() == [13, 0]
    assert document.truncated


def test_a_sentence_without_tokens_keeps_its_place():
    (document,) = tiny.encode(f"A cat.\n\n{ACCENT}\n\nA dog.")
    assert [sentence for sentence, _ in pieces(document)] == [0, 1, 2]
    assert pieces(document)[1][1] == [2, 3]
    check_invariants(document, 64, 64)


def test_languages_are_given_or_found():
    encoder = tiny.document_encoder()
    documents = encoder.encode(
        ["你好。再见。", "One. Two.", "One. Two.", "你好。"], [None, "zh", "", "en"], 8
    )
    assert [document.language for document in documents] == ["zh", "zh", "en", "en"]


@pytest.mark.parametrize("code", ["zh-CN", "zh_Hans", "ZH"])
def test_a_language_tag_counts_as_its_language(code):
    assert tiny.document_encoder().encode(["你好。再见。"], [code], 8)[0].language == "zh"


def test_documents_encoded_together_are_as_alone():
    texts = ["", "A cat.", tiny.text(9), "   ", "猫。", tiny.text(3, 60)]
    for document, text in zip(tiny.encode(*texts, max_window_tokens=20), texts, strict=True):
        (alone,) = tiny.encode(text, max_window_tokens=20)
        assert pieces(document) == pieces(alone)
        assert document.spans == alone.spans
        assert document.window_lengths.tolist() == alone.window_lengths.tolist()


def test_an_empty_document_has_nothing():
    (document,) = tiny.encode("  ")
    assert (document.num_tokens, document.num_read_sentences, len(document.window_lengths)) == (
        0,
        0,
        0,
    )
    assert not document.truncated
    assert document.is_unknown_language


@settings(deadline=None)
@given(
    st.lists(st.text(st.sampled_from("the cat. A猫д!?\n\u0301\0 "), max_size=120), max_size=4),
    st.integers(16, 40),
    st.integers(1, 4),
)
def test_invariants_hold_for_any_text(texts, window, max_windows):
    for document in tiny.encode(*texts, max_window_tokens=window, max_windows=max_windows):
        check_invariants(document, window, max_windows)


@pytest.mark.parametrize("name", ["cls_token", "sep_token", "pad_token"])
def test_a_tokenizer_without_special_tokens_is_refused(name):
    tokenizer = tiny.wordpiece()
    setattr(tokenizer, name, None)
    with pytest.raises(ModelError, match=f"{name}_id"):
        tiny.document_encoder(tokenizer)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        cls_token_id, sep_token_id, pad_token_id, is_fast = 0, 1, 2, False

    with pytest.raises(ModelError, match="Slow has no fast"):
        tiny.document_encoder(Slow())


def test_ids_with_gaps_are_accepted():
    backend = Tokenizer(
        models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "cat": 90}, "[UNK]")
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **tiny._SPECIAL)
    (document,) = tiny.encode("cat", tokenizer=tokenizer)
    assert document.input_ids.tolist() == [1, 90, 2]
