"""The summarizer: one row a document whatever it holds, in order, alone as in any company."""

import copy
import dataclasses
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import weakref
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers import tiny
from helpers.waiting import LIMIT_SECONDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bertsum
from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.errors import ConfigError, DeviceError, InputError, ModelError
from bertsum.inference import summarizer as predictor
from bertsum.inference.arguments import choose_device
from bertsum.inference.device_batches import Running, is_crowded
from bertsum.inference.summarizer import Summarizer
from bertsum.model.selection import join_sentences
from bertsum.schema import PREDICTION_SCHEMA, Document, Status
from bertsum.text.sentences import (
    LONGEST_PART,
    UNSPACED_LANGUAGES,
    detect_language,
    split_sentences,
)

TOLERANCE = 1e-5  # of a probability in float32, between batches

TEXTS = [
    tiny.text(5),
    tiny.text(1),
    tiny.text(30, 8, first=3),
    tiny.text(2, first=20),
    tiny.text(3, 50),
]
HARD = [
    (None, Status.EMPTY),
    ("", Status.EMPTY),
    (" \n\t\u00a0\u2029 ", Status.EMPTY),
    ("\0", Status.NOT_TEXT),
    ("\0\x01\x02" * 50, Status.NOT_TEXT),
    ("PK\x03\x04\x14\0\0\0abc\0\0", Status.NOT_TEXT),
    ("The cat \ud800 sleeps.", Status.NOT_TEXT),
    ("12345 6.7 -8%", Status.NOT_TEXT),
    ("😀 🎉🎉", Status.UNKNOWN_LANGUAGE),
    ("9/10", Status.OK),
    (":(", Status.OK),
    ("... !!! ---", Status.NOT_TEXT),
    ("\u200b\ufeff", Status.NOT_TEXT),
    ("这只猫坐在垫子上。河水很大。", Status.UNKNOWN_LANGUAGE),
    ("The cat sleeps.", Status.OK),
    ("cat", Status.OK),
    ("A cat\0 sleeps in the house of the city.", Status.OK),
    ("The cat sleeps 😀. Prices rise 3.5 percent!", Status.OK),
]


def make(checkpoint, **config) -> Summarizer:
    return Summarizer(
        checkpoint, SummarizerConfig.model_validate({"dtype": "float32"} | config), device="cpu"
    )


@pytest.fixture(scope="module")
def summarizer(checkpoint):
    return make(checkpoint)


@pytest.fixture
def short_pools(monkeypatch):
    monkeypatch.setattr(predictor, "_POOL_DOCUMENTS", 3)


def table(texts, **columns) -> pa.Table:
    return pa.table({"id": list(range(len(texts))), "document": texts} | columns)


def check_alike(predictions, expected):
    """Equal, but for probabilities, which may differ by the tolerance."""
    assert len(predictions) == len(expected)
    for a, b in zip(predictions, expected, strict=True):
        plain = {"summary_scores": None, "sentiment_scores": None}
        assert dataclasses.replace(a, **plain) == dataclasses.replace(b, **plain)
        assert (a.summary_scores or []) == pytest.approx(b.summary_scores or [], abs=TOLERANCE)
        assert (a.sentiment_scores or {}) == pytest.approx(b.sentiment_scores or {}, abs=TOLERANCE)


# Calls


def test_a_text_a_list_and_a_table(summarizer):
    expected = summarizer(TEXTS)
    check_alike([summarizer(TEXTS[2])], [expected[2]])
    check_alike(summarizer(tuple(TEXTS)), expected)
    result = summarizer(table(TEXTS))
    assert result.schema.names == ["id", *PREDICTION_SCHEMA.names]
    assert result["id"].to_pylist() == list(range(5))
    assert result["summary"].to_pylist() == [prediction.summary for prediction in expected]
    assert result["status"].to_pylist() == ["ok"] * 5
    for field in PREDICTION_SCHEMA:
        assert result.schema.field(field.name) == field


def test_a_prediction_is_complete(summarizer):
    prediction = summarizer(TEXTS[2])
    assert prediction.status == Status.OK
    assert prediction.error is None
    assert len(prediction.summary_sentences) == len(prediction.summary_scores) == 3
    assert prediction.summary_sentences == sorted(prediction.summary_sentences)
    assert all(0 < score < 1 for score in prediction.summary_scores)
    assert list(prediction.sentiment_scores) == ["negative", "neutral", "positive"]
    assert sum(prediction.sentiment_scores.values()) == pytest.approx(1)
    assert prediction.sentiment == max(
        prediction.sentiment_scores, key=prediction.sentiment_scores.get
    )
    assert prediction.num_sentences == 30
    assert prediction.num_tokens == 30 * 9
    assert not prediction.truncated


def test_probabilities_are_those_of_the_temperature(summarizer, checkpoint, tmp_path):
    """softmax(z / 2) is the square root of softmax(z), divided by the sum of such roots."""
    directory = tmp_path / "model"
    shutil.copytree(checkpoint, directory)
    values = json.loads((directory / "config.json").read_text())
    values["temperatures"] = {"sentiment": 2.0}
    (directory / "config.json").write_text(json.dumps(values))
    scaled, plain = make(directory)(TEXTS[2]), summarizer(TEXTS[2])
    roots = np.sqrt(list(plain.sentiment_scores.values()))
    assert list(scaled.sentiment_scores.values()) == pytest.approx(roots / roots.sum(), abs=1e-6)
    assert scaled.sentiment == plain.sentiment
    assert scaled.summary_scores == plain.summary_scores
    make(directory).save_pretrained(tmp_path / "saved")
    assert make(tmp_path / "saved")(TEXTS[2]) == scaled


def test_probabilities_depend_on_the_length_of_a_text(checkpoint, tmp_path):
    """T is 1 of a text without tokens and 1/2 of one without end.

    128 tokens lie halfway: there 1 / T is 1.5, and softmax(1.5 * z) is the power 1.5 of softmax(z),
    divided by the sum of such powers. The 42 tokens of two sentences: 128 / 170 * 1 + 42 / 170 * 2.
    Each of the two has the temperature of 21 tokens.
    """
    directory = tmp_path / "model"
    shutil.copytree(checkpoint, directory)
    values = json.loads((directory / "config.json").read_text())
    values["temperatures"] = {"sentiment": {"short": 1.0, "long": 0.5}}
    (directory / "config.json").write_text(json.dumps(values))
    plain, scaled = (make(path, outputs=("sentences",)) for path in (checkpoint, directory))

    def check(before: dict[str, float], after: dict[str, float], num_tokens: int) -> None:
        power = (128 + 2 * num_tokens) / (128 + num_tokens)
        powers = np.array(list(before.values())) ** power
        assert list(after.values()) == pytest.approx(powers / powers.sum(), abs=1e-6)

    for text, num_tokens in ((tiny.text(16, 5), 128), (tiny.text(2, 18), 42)):
        before, after = plain(text), scaled(text)
        check(before.sentiment_scores, after.sentiment_scores, num_tokens)
        assert after.sentiment == before.sentiment
        for old, new in zip(before.sentences, after.sentences, strict=True):
            check(
                old["sentiment_scores"],
                new["sentiment_scores"],
                num_tokens // len(before.sentences),
            )


def test_the_best_sentences_are_chosen(summarizer):
    summarizer = make_like(summarizer, selection=SelectionConfig(size=30, trigram_blocking=False))
    everything = summarizer(TEXTS[2])
    assert everything.summary_sentences == list(range(30))
    best = sorted(
        np.argsort([-score for score in everything.summary_scores], kind="stable")[:4].tolist()
    )
    four = make_like(summarizer, selection=SelectionConfig(size=4, trigram_blocking=False))(
        TEXTS[2]
    )
    assert four.summary_sentences == best


def make_like(summarizer, **changes) -> Summarizer:
    """The same model with another configuration."""
    other = object.__new__(Summarizer)
    other.__dict__.update(summarizer.__dict__)
    other.config = SummarizerConfig.model_validate(summarizer.config.model_dump() | changes)
    other.router = copy.copy(summarizer.router)
    other.router.readers = {}
    for name, reader in summarizer.readers.items():
        other.router.readers[name] = copy.copy(reader)
        other.router.readers[name].use(other.config)
    return other


def test_prepare_forward_finish_are_the_call(summarizer):
    texts = [*TEXTS, *(text for text, _ in HARD)]
    prepared = summarizer.prepare([Document(text) for text in texts])
    check_alike(summarizer.finish(prepared, summarizer.forward(prepared)), summarizer(texts))
    nothing = summarizer.prepare([])
    assert summarizer.finish(nothing, summarizer.forward(nothing)) == []


def test_nothing_in_nothing_out(summarizer):
    assert summarizer([]) == []
    for column in (
        pa.array([], pa.string()),
        pa.array([], pa.null()),
        pa.chunked_array([], pa.string()),
    ):
        result = summarizer(pa.table({"id": pa.array([], pa.int64()), "document": column}))
        assert result.num_rows == 0
        assert result.schema.names == ["id", *PREDICTION_SCHEMA.names]


@pytest.mark.parametrize(
    "value",
    [
        {"document": ["a cat"]},
        5,
        None,
        b"bytes",
        bytearray(b"bytes"),
        {"a cat"},
        (text for text in ["a cat"]),
        float("nan"),
        pa.record_batch({"document": ["a cat"]}),
        np.array("a cat"),
        np.array([["a cat"]]),
        pd.DataFrame({"document": ["a cat"]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_something_else_is_refused_with_its_type(summarizer, value):
    with pytest.raises(InputError, match=f"pyarrow.Table is expected, not {type(value).__name__}"):
        summarizer(value)


@pytest.mark.parametrize(
    "value", [5, True, b"bytes", ["a cat"], Document("a cat"), np.array(["a cat"])]
)
def test_a_list_of_something_else_is_refused_with_the_place(summarizer, value):
    with pytest.raises(
        InputError, match=rf"document 1 is a {type(value).__name__}, .*a str or None is expected"
    ):
        summarizer(["a cat", value])


@pytest.mark.parametrize("value", [Document("a cat"), ["a cat", Document("a cat")]])
def test_who_gives_a_document_is_told_what_takes_it(summarizer, value):
    with pytest.raises(InputError, match=r"Summarizer\.predict takes a list of Documents"):
        summarizer(value)


@pytest.mark.parametrize(
    "values", [np.array([1, 2]), np.array([b"a"]), range(2), memoryview(b"ab"), torch.zeros(2)]
)
def test_a_sequence_of_something_else_is_refused(summarizer, values):
    with pytest.raises(InputError, match="expected"):
        summarizer(values)


@pytest.mark.parametrize(
    "array", [pa.array([1, 2]), pa.chunked_array([[b"a"]])], ids=["Int64Array", "ChunkedArray"]
)
def test_an_arrow_array_of_something_else_is_refused_with_its_type(summarizer, array):
    with pytest.raises(
        InputError, match=f"{type(array).__name__} holds {array.type}; strings are expected"
    ):
        summarizer(array)


WITH_MISSING = ["The cat sleeps.", None, "A dog runs."]


@pytest.mark.parametrize(
    "documents",
    [
        WITH_MISSING,
        deque(WITH_MISSING),
        [WITH_MISSING[0], float("nan"), WITH_MISSING[2]],
        [WITH_MISSING[0], np.nan, np.str_(WITH_MISSING[2])],
        [WITH_MISSING[0], np.float32("nan"), WITH_MISSING[2]],
        [WITH_MISSING[0], np.datetime64("NaT"), WITH_MISSING[2]],
        [WITH_MISSING[0], pd.NA, WITH_MISSING[2]],
        [WITH_MISSING[0], pd.NaT, WITH_MISSING[2]],
        np.array(WITH_MISSING, object),
        np.array([WITH_MISSING[0], "", WITH_MISSING[2]]),  # of the type U
        np.array(
            [WITH_MISSING[0], np.nan, WITH_MISSING[2]], np.dtypes.StringDType(na_object=np.nan)
        ),
        pd.Series(WITH_MISSING),
        pd.Series(WITH_MISSING, index=[7, 7, 0], dtype=object),
        pd.Series([WITH_MISSING[0], np.nan, WITH_MISSING[2]], index=["x", "y", "z"]),
        pd.Series(WITH_MISSING, dtype="string"),
        pd.Series(WITH_MISSING, dtype="category"),
        pd.Series(WITH_MISSING, dtype=pd.ArrowDtype(pa.string())),
        pd.Series(WITH_MISSING).array,
        pd.Index(WITH_MISSING),
        pa.array(WITH_MISSING),
        pa.array(WITH_MISSING, pa.large_string()),
        pa.array(WITH_MISSING).dictionary_encode(),
        pa.chunked_array([WITH_MISSING[:1], WITH_MISSING[1:]], pa.string()),
    ],
    ids=lambda documents: type(documents).__name__,
)
def test_any_sequence_of_strings_is_a_list(summarizer, documents):
    predictions = summarizer(documents)
    assert [prediction.summary for prediction in predictions] == WITH_MISSING
    assert [prediction.status for prediction in predictions] == ["ok", "empty", "ok"]


@pytest.mark.parametrize(
    "nothing", [(), np.array([], object), pd.Series([], dtype=object), pa.array([], pa.string())]
)
def test_an_empty_sequence_gives_an_empty_list(summarizer, nothing):
    assert summarizer(nothing) == []


def test_pandas_is_not_imported_for_a_list():
    code = (
        "import sys, numpy; from bertsum.inference.arrow import read_sequence\n"
        "read_sequence(['a cat', None, float('nan')]); read_sequence(numpy.array(['a cat']))\n"
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_documents_and_tables_are_asked_for_by_name(summarizer):
    with pytest.raises(InputError, match=r"document 0 is a str; a bertsum\.Document"):
        summarizer.predict(["a cat"])
    with pytest.raises(InputError, match="RecordBatch"):
        list(summarizer.stream([pa.record_batch({"document": ["a cat"]})]))


# How it is made, and how it travels


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"device": "banana"}, ModelError, "device 'banana' cannot be used .*there is: cpu"),
        ({"device": "cuda:99"}, ModelError, "device 'cuda:99' cannot be used"),
        ({"device": "meta"}, ModelError, "device 'meta' cannot be used"),
        ({"device": ""}, ModelError, "device '' cannot be used"),
        ({"device": 1.5}, ModelError, r"device 1\.5 cannot be used"),
        (
            {"config": {"language": "zh"}},
            ConfigError,
            "config must be a bertsum.config.SummarizerConfig .*not a dict",
        ),
        ({"config": {}}, ConfigError, "not a dict"),
        ({"config": "job.yaml"}, ConfigError, "not a str"),
        ({"model": 5}, ModelError, "model must be .*not a int"),
        ({"max_batch_tokens": 0}, ConfigError, "max_batch_tokens must be .*not 0"),
        ({"max_batch_tokens": "8"}, ConfigError, "max_batch_tokens must be .*not '8'"),
        ({"max_batch_tokens": True}, ConfigError, "max_batch_tokens"),
        ({"max_batch_tokens": None}, ConfigError, "max_batch_tokens"),
        ({"max_batch_tokens": 1e4}, ConfigError, "max_batch_tokens"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(checkpoint, arguments, error, message):
    with pytest.raises(error, match=message):
        Summarizer(**{"model": checkpoint, "device": "cpu"} | arguments)


@pytest.mark.parametrize(
    ("available", "expected"),
    [("cuda mps xpu", "cuda"), ("xpu mps", "xpu"), ("mps", "mps"), ("", "cpu")],
)
def test_the_default_is_a_gpu_of_any_kind(monkeypatch, available, expected):
    for kind in ("cuda", "mps", "xpu"):
        is_there = kind in available.split()
        monkeypatch.setattr(f"torch.{kind}.is_available", lambda is_there=is_there: is_there)
    assert choose_device(None) == torch.device(expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_a_gpu_that_is_not_there_is_named(checkpoint):
    with pytest.raises(ModelError, match=r"device 'cuda' cannot be used .*; there is: cpu"):
        Summarizer(checkpoint, device="cuda")


def test_kinds_of_models_and_devices(checkpoint, summarizer):
    for model, device in ((checkpoint, torch.device("cpu")), (str(checkpoint), "cpu:0")):
        check_alike(
            Summarizer(model, SummarizerConfig(dtype="float32"), device=device)(TEXTS),
            summarizer(TEXTS),
        )


@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_a_copy_gives_the_same_predictions(checkpoint, monkeypatch, travel):
    monkeypatch.chdir(checkpoint.parent)
    summarizer = make(Path("model"), language="en")
    summarizer.max_batch_tokens = 100
    expected = summarizer(TEXTS)
    monkeypatch.chdir("/")
    copied = travel(summarizer)
    check_alike(copied(TEXTS), expected)
    assert (copied.config, copied.device, copied.max_batch_tokens) == (
        summarizer.config,
        summarizer.device,
        100,
    )
    assert len(pickle.dumps(copied)) < 10_000
    assert summarizer(TEXTS) == expected  # the first one is as it was


def test_the_shipped_model_travels_as_bfloat16(shipped):
    bfloat16 = Summarizer(config=SummarizerConfig(dtype="bfloat16"), device="cpu")
    text = "The hotel was clean and the staff were kind."
    assert copy.deepcopy(bfloat16)(text) == bfloat16(text)
    assert pickle.loads(pickle.dumps(shipped))(text) == shipped(text)


@pytest.mark.parametrize("method", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_another_process_gives_the_same_predictions(summarizer, method):
    expected = summarizer(TEXTS)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        check_alike(pool.submit(summarizer, TEXTS).result(timeout=200), expected)


FORK = """
import multiprocessing, sys, torch
from bertsum import Summarizer

torch.set_num_threads(2)
summarizer, text = Summarizer(device="cpu"), "The hotel was clean and the staff were kind. " * 200
summarizer(text)
child = multiprocessing.get_context("fork").Process(target=summarizer, args=(text,))
child.start()
child.join(100)
if child.is_alive():
    child.kill()
sys.exit(child.exitcode != 0)
"""


def test_a_child_of_a_process_whose_threads_have_worked_does_not_hang():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=250)


def test_threads_may_share_one(summarizer, short_pools):
    lists = [[TEXTS[(start + number) % 5] for number in range(7)] for start in range(8)]
    expected = [summarizer(texts) for texts in lists]
    with ThreadPoolExecutor(4) as pool:
        for predictions, wanted in zip(pool.map(summarizer, lists), expected, strict=True):
            check_alike(predictions, wanted)


# Hard documents


@pytest.mark.parametrize(("text", "status"), HARD)
def test_status_of_a_hard_document(summarizer, text, status):
    prediction = summarizer([text])[0]
    assert prediction.status == status
    assert (prediction.error is not None) == (status in (Status.NOT_TEXT, Status.ERROR))
    assert (prediction.sentiment is not None) == (status == Status.OK)
    assert (prediction.summary is not None) == (status in (Status.OK, Status.UNKNOWN_LANGUAGE))
    if status in (Status.EMPTY, Status.NOT_TEXT):
        assert (prediction.num_sentences, prediction.num_tokens) == (0, 0)


def test_hard_documents_do_not_disturb_others(summarizer, short_pools):
    texts = []
    for number, (text, _) in enumerate(HARD):
        texts += [text, TEXTS[number % 5]]
    predictions = summarizer(texts)
    assert [prediction.status for prediction in predictions[::2]] == [status for _, status in HARD]
    check_alike(predictions[1::2], [summarizer(TEXTS[number % 5]) for number in range(len(HARD))])


def test_an_unknown_language_is_summarized_by_position(summarizer):
    prediction = summarizer("这只猫坐在垫子上。河水很大。今天天气很好。他喜欢这本书。")
    assert prediction.status == Status.UNKNOWN_LANGUAGE
    assert prediction.summary == "这只猫坐在垫子上。河水很大。今天天气很好。"
    assert prediction.summary_sentences == [0, 1, 2]
    assert prediction.summary_scores is None
    assert prediction.sentiment_scores is None
    assert prediction.num_sentences == 4


@pytest.fixture(scope="module")
def shipped():
    return Summarizer(device="cpu")


@pytest.fixture(scope="module")
def shipped_english():
    return Summarizer("bertsum-default/english", device="cpu")


FOREIGN = pytest.mark.parametrize(
    "text",
    [
        "中国人民大学。",
        "我是中国人。",
        "上海是中国大城市。",
        "大学生",
        "中国人大。大学。 一二三。",
        "東京大学",
        "日本の大学",
        "я",
        "Он и она",
        "αβγ",
    ],
)


@FOREIGN
def test_no_guess_is_made_on_a_script_of_which_a_model_knows_some_letters(shipped_english, text):
    prediction = shipped_english(text)
    assert prediction.status == Status.UNKNOWN_LANGUAGE
    assert prediction.sentiment is None


@FOREIGN
def test_the_shipped_family_reads_all_scripts(shipped, text):
    prediction = shipped(text)
    assert prediction.status == Status.OK
    assert prediction.language in ("zh", "ja", "ru", "uk", "bg", "el")


def test_english_with_foreign_names_is_read(shipped_english):
    text = "The author 莫言 was born in the county of Gaomi and won the prize for literature in the autumn of 2012."
    assert shipped_english(text).status == Status.OK


def test_batches_change_bfloat16_only_in_its_last_digits(shipped):
    bfloat16 = Summarizer(config=SummarizerConfig(dtype="bfloat16"), device="cpu")
    texts = [
        "The hotel was clean and the staff were kind. " * count + "We left on Monday."
        for count in range(1, 30)
    ]
    for together, text in zip(bfloat16(texts), texts, strict=True):
        alone = bfloat16(text)
        assert alone.sentiment_scores == pytest.approx(together.sentiment_scores, abs=0.01)


MARKER = tiny.wordpiece().convert_tokens_to_ids("zebra")
WITH_MARKER = "The cat sleeps. A zebra falls."


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("how", ["raise", "nan"])
def test_a_document_that_the_model_fails_on_is_one_error_row(summarizer, monkeypatch, place, how):
    texts = [TEXTS[number % 5] for number in range(8)]
    expected = summarizer(texts)
    texts[place] = WITH_MARKER
    forward = summarizer.model.forward

    def failing(batch, **options):
        if not (batch.input_ids == MARKER).any():
            return forward(batch, **options)
        if how == "raise":
            raise RuntimeError("kernel\nfailed")
        logits = forward(batch, **options)
        first = dict(
            zip(batch.documents, np.cumsum([0, *batch.num_sentences]).tolist(), strict=False)
        )
        logits.sentence_logits[first[place]] = float("nan")
        return logits

    monkeypatch.setattr(summarizer.model, "forward", failing)
    predictions = summarizer(texts)
    assert predictions[place].status == Status.ERROR
    assert (
        "kernel failed" in predictions[place].error
        if how == "raise"
        else "not numbers" in predictions[place].error
    )
    assert (predictions[place].num_sentences, predictions[place].summary) == (2, None)
    others = [index for index in range(8) if index != place]
    check_alike([predictions[index] for index in others], [expected[index] for index in others])


def test_a_document_that_cannot_be_prepared_is_one_error_row(summarizer, monkeypatch):
    expected = summarizer(TEXTS)
    encode = summarizer.encoder.encode

    def failing(texts, *others):
        if WITH_MARKER in texts:
            raise ValueError("hostile text")
        return encode(texts, *others)

    monkeypatch.setattr(summarizer.encoder, "encode", failing)
    predictions = summarizer([*TEXTS, WITH_MARKER])
    check_alike(predictions[:5], expected)
    assert predictions[5].status == Status.ERROR
    assert predictions[5].error == "preparing failed: ValueError: hostile text"


def test_a_device_with_room_for_one_document_is_enough(summarizer, monkeypatch):
    """And what was on it for a batch that found no room is gone before the halves are tried."""
    expected = summarizer(TEXTS)
    forward = summarizer.model.forward
    earlier = []

    def small(batch, **options):
        assert not [batch for batch in earlier if batch() is not None]
        earlier.append(weakref.ref(batch.input_ids))
        if len(batch.documents) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward(batch, **options)

    monkeypatch.setattr(summarizer.model, "forward", small)
    check_alike(summarizer(TEXTS), expected)


def short_of_memory(summarizer, monkeypatch, num_failures: int) -> None:
    """Fail so many times at the third text alone, and always at it with others."""
    forward, failures = summarizer.model.forward, []
    num_tokens = len(summarizer.encoder.encode([TEXTS[2]], [None], 64)[0].input_ids)

    def short(batch, **options):
        is_third = len(batch.input_ids) == num_tokens
        if len(batch.documents) > 1 or (is_third and len(failures) < num_failures):
            failures.extend([1] * is_third)
            raise torch.OutOfMemoryError("out of memory")
        return forward(batch, **options)

    monkeypatch.setattr(summarizer.model, "forward", short)


def test_a_document_alone_without_memory_is_tried_once_more(summarizer, monkeypatch):
    expected = summarizer(TEXTS)
    short_of_memory(summarizer, monkeypatch, 1)
    check_alike(summarizer(TEXTS), expected)


def test_a_document_that_does_not_fit_is_an_error_row(summarizer, monkeypatch):
    expected = summarizer(TEXTS)
    short_of_memory(summarizer, monkeypatch, 2)
    predictions = summarizer(TEXTS)
    assert predictions[2].error == "the model failed: OutOfMemoryError: out of memory"
    check_alike(predictions[:2] + predictions[3:], expected[:2] + expected[3:])


def test_memory_that_others_hold_is_not_the_documents_fault(summarizer, monkeypatch):
    expected = summarizer(TEXTS)
    monkeypatch.setattr("bertsum.inference.reader.is_crowded", lambda device: True)
    monkeypatch.setattr("bertsum.inference.reader._MEMORY_PAUSE_SECONDS", 0.01)
    short_of_memory(summarizer, monkeypatch, 2)
    with pytest.raises(DeviceError, match="other processes have taken memory of cpu"):
        summarizer(TEXTS)
    check_alike(summarizer(TEXTS), expected)  # they have let go of it


@pytest.mark.parametrize(
    ("share", "reserved", "free", "is_taken"),
    [
        (1.0, 10, 69, False),  # 1 GiB is CUDA's
        (1.0, 10, 60, True),
        (0.25, 19, 20, False),  # of 20 GiB, of which 1 is left to it
        (0.25, 5, 40, False),  # others may have the other 60
        (0.25, 5, 2, True),  # but not what is left of these 20
    ],
)
def test_whether_others_hold_memory(monkeypatch, share, reserved, free, is_taken):
    """A GPU of 80 GiB; numbers in GiB."""
    cuda, gib = torch.cuda, 2**30
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (free * gib, 80 * gib))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: reserved * gib)
    monkeypatch.setattr(cuda, "get_per_process_memory_fraction", lambda device: share)
    assert is_crowded(torch.device("cuda:1")) == is_taken
    assert not is_crowded(torch.device("cpu"))


@pytest.mark.parametrize("max_batch_tokens", [100, 16384])
def test_numbers_beyond_float16_are_computed_again_in_float32(
    tmp_path, monkeypatch, caplog, max_batch_tokens
):
    """As `auto` is float16 on a V100 or T4."""
    model = tiny.model()
    with torch.no_grad():
        model.encoder.encoder.layer[1].intermediate.dense.weight *= 3e4
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "", version="0.0.0")
    expected = make(tmp_path)(TEXTS)
    monkeypatch.setattr(predictor, "choose_dtype", lambda name, device: torch.float16)
    half = Summarizer(tmp_path, device="cpu", max_batch_tokens=max_batch_tokens)
    for found, wanted in zip(half(TEXTS), expected, strict=True):
        assert (found.status, found.summary) == (wanted.status, wanted.summary)
        assert found.sentiment_scores == pytest.approx(wanted.sentiment_scores, abs=0.02)
    assert [record.message for record in caplog.records if "float16" in record.message] == [
        "a batch leaves the range of float16 and is computed again in float32, as each one that "
        "does; dtype=float32 saves the first try"
    ]


def test_numbers_in_the_range_of_float16_are_computed_once(checkpoint, monkeypatch, caplog):
    expected = make(checkpoint)(TEXTS)
    monkeypatch.setattr(predictor, "choose_dtype", lambda name, device: torch.float16)
    half = Summarizer(checkpoint, device="cpu")
    assert half.model.encoder.embeddings.LayerNorm.weight.dtype == torch.float16
    for found, wanted in zip(half(TEXTS), expected, strict=True):
        assert found.sentiment_scores == pytest.approx(wanted.sentiment_scores, abs=0.02)
    assert not caplog.records


def test_a_device_that_is_lost_is_not_the_documents_fault(summarizer, monkeypatch):
    """As after an illegal access on a GPU: every later call fails, too, until the process ends."""
    monkeypatch.setattr(
        summarizer.model,
        "forward",
        lambda batch, **options: (_ for _ in ()).throw(torch.AcceleratorError("bad")),
    )
    with pytest.raises(DeviceError, match="bad"):
        summarizer(TEXTS)


def test_rows_that_are_given_up_are_error_rows(summarizer):
    result = summarizer.give_up(table(TEXTS), "it kills")
    assert result["id"].to_pylist() == list(range(5))
    assert result["status"].to_pylist() == ["error"] * 5
    assert result["error"].to_pylist() == ["it kills"] * 5
    assert result.schema.names == summarizer(table(TEXTS)).schema.names


def test_an_interrupt_is_not_an_error_row(summarizer, monkeypatch):
    monkeypatch.setattr(
        summarizer.model,
        "forward",
        lambda batch, **options: (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        summarizer(TEXTS)


# Company


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 400, 16384])
def test_batches_do_not_change_results(checkpoint, summarizer, max_batch_tokens):
    texts = [*TEXTS, *(text for text, _ in HARD), *reversed(TEXTS)]
    alone = [summarizer([text])[0] for text in texts]
    other = Summarizer(
        checkpoint,
        SummarizerConfig(dtype="float32"),
        device="cpu",
        max_batch_tokens=max_batch_tokens,
    )
    check_alike(other(texts), alone)
    check_alike(other(texts[::-1]), alone[::-1])


def test_pools_are_bounded_in_documents_and_characters(monkeypatch):
    monkeypatch.setattr(predictor, "_POOL_DOCUMENTS", 3)
    monkeypatch.setattr(predictor, "_POOL_CHARACTERS", 10)
    documents = [Document("x" * n) for n in (1, 2, 3, 4, 6, 30, 1, 9)] + [Document(None)] * 5
    pools = predictor._pools(documents)
    assert [len(pool) for pool in pools] == [3, 2, 1, 3, 3, 1]
    assert [document for pool in pools for document in pool] == documents
    assert predictor._pools([]) == []


def test_scores_are_read_when_the_device_is_done_and_a_device_that_is_lost_then_says_so():
    class Event:
        def synchronize(self):
            scores[:] = torch.tensor([0.5, 0.25, 0.125])

    class Lost:
        def synchronize(self):
            raise torch.AcceleratorError("an illegal address")

    scores = torch.zeros(3)
    found = Running(
        indices=[7, 4], num_sentences=[1, 2], sentence_scores=scores, done=Event()
    ).results()
    assert {index: scores.sentence_scores.tolist() for index, scores in found.items()} == {
        7: [0.5],
        4: [0.25, 0.125],
    }
    with pytest.raises(DeviceError, match="an illegal address"):
        Running(indices=[7], num_sentences=[3], sentence_scores=scores, done=Lost()).results()


def test_a_pool_that_is_started_before_the_last_one_is_collected_changes_nothing(
    summarizer, monkeypatch
):
    monkeypatch.setattr(predictor, "_POOL_DOCUMENTS", 2)
    expected = summarizer(TEXTS)
    counts = []
    monkeypatch.setattr(summarizer, "_pools_ahead", 1)
    tables = [pa.table({"document": TEXTS[:3]}), pa.table({"document": TEXTS[3:]})]
    found = pa.concat_tables(
        summarizer.stream(tables, lambda documents, tokens: counts.append(documents))
    )
    assert found["summary"].to_pylist() == [prediction.summary for prediction in expected]
    assert found["status"].to_pylist() == [prediction.status for prediction in expected]
    assert sum(counts) == len(TEXTS)


@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
def test_auto_is_bfloat16_where_onednn_may_compute_it_natively(isa):
    """oneDNN reads its variable once, so that this needs a process of its own."""
    code = """
import torch
from bertsum.inference.arguments import choose_dtype
is_built_in = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
print(is_built_in, choose_dtype("auto", torch.device("cpu")))
"""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=LIMIT_SECONDS,
    )
    is_native = isa == "DEFAULT" and done.stdout.startswith("True ")
    assert done.stdout.split()[1:] == ["torch.bfloat16" if is_native else "torch.float32"], (
        done.stderr
    )


def test_bfloat16_is_near(checkpoint, summarizer):
    half = make(checkpoint, dtype="bfloat16")
    assert half.model.encoder.embeddings.LayerNorm.weight.dtype == torch.bfloat16
    assert half.model.summarization.scorer.weight.dtype == torch.float32
    for a, b in zip(half(TEXTS), summarizer(TEXTS), strict=True):
        assert a.num_tokens == b.num_tokens
        assert a.sentiment_scores == pytest.approx(b.sentiment_scores, abs=0.02)


UNICODE = st.text(
    st.one_of(st.sampled_from("the cat. A!?\n猫。д\0\ud800 "), st.characters()), max_size=80
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.none() | UNICODE, max_size=6),
    st.sampled_from(["sentences", "characters", "tokens", "share"]),
    st.integers(1, 40),
)
def test_any_list_of_strings_gives_its_rows(summarizer, texts, unit, size):
    budget = min(size, 10) / 10 if unit == "share" else size
    summarizer = make_like(summarizer, selection=SelectionConfig(unit=unit, size=budget))
    predictions = summarizer(texts)
    assert len(predictions) == len(texts)
    for text, prediction in zip(texts, predictions, strict=True):
        assert prediction.status != Status.ERROR
        if prediction.status not in (Status.OK, Status.UNKNOWN_LANGUAGE):
            continue
        language = detect_language(text)
        spans = split_sentences(text, language)
        chosen = prediction.summary_sentences
        assert prediction.num_sentences == len(spans)
        assert chosen == sorted(set(chosen))
        assert prediction.summary == join_sentences(text, spans, chosen, language)
        assert all(text[slice(*spans[index])] in prediction.summary for index in chosen)
        allowed = {
            "sentences": size,
            "characters": None,
            "tokens": None,
            "share": max(1, budget * len(spans) + 1e-9),
        }
        if allowed[unit] is not None:
            assert 0 < len(chosen) <= allowed[unit]
        if unit == "characters":
            assert len(prediction.summary) <= size
        if unit == "tokens":
            tokens = summarizer.encoder.encode([text], [None], 64)[0].sentence_tokens
            assert sum(int(tokens[index]) for index in chosen) <= size
        joiner = "" if language in UNSPACED_LANGUAGES else " "
        assert prediction.summary.count(joiner) >= len(chosen) - 1


@pytest.mark.parametrize(
    ("unit_of_text", "budget"),
    [
        ("so we went on and on and saw the sea then ", 300),
        ("word", 300),
        ("我们今天去了公园看到很多花", 100),
    ],
)
def test_a_transcript_without_punctuation_gets_a_summary_in_characters(
    summarizer, unit_of_text, budget
):
    """Its parts have at most 300 characters, 100 in Chinese: the longest fits into the budget."""
    text = unit_of_text * (6000 // len(unit_of_text))
    selection = SelectionConfig(unit="characters", size=budget, trigram_blocking=False)
    (prediction,) = make_like(summarizer, selection=selection)([text])
    assert prediction.status in (Status.OK, Status.UNKNOWN_LANGUAGE)
    assert len(prediction.summary_sentences) > 0
    assert 0 < len(prediction.summary) <= budget
    assert prediction.summary in text


# Tables


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
     pa.dictionary(pa.int8(), pa.large_string())],
    ids=str,
)  # fmt: skip
def test_kinds_of_string_columns(summarizer, kind):
    texts = [TEXTS[0], None, "", TEXTS[1], TEXTS[0]]
    column = pa.array(texts, pa.string()).cast(kind)
    expected = summarizer(texts)
    result = summarizer(pa.table({"document": column}))
    assert result["summary"].to_pylist() == [prediction.summary for prediction in expected]
    assert result["status"].to_pylist() == ["ok", "empty", "empty", "ok", "ok"]
    sliced = summarizer(
        pa.table({"document": pa.chunked_array([column[:2], column[2:3], column[3:]])}).slice(1, 3)
    )
    assert sliced["summary"].to_pylist() == [prediction.summary for prediction in expected[1:4]]


def test_a_column_of_nulls(summarizer):
    assert summarizer(table(pa.nulls(3)))["status"].to_pylist() == ["empty"] * 3


@pytest.mark.parametrize(
    "kinds",
    [
        (pa.binary(), pa.string()),
        (pa.large_binary(), pa.large_string()),
        (pa.binary_view(), pa.string_view()),
    ],
    ids=str,
)
def test_bytes_that_are_not_utf8_are_rows(summarizer, kinds):
    values = [
        b"The cat sleeps.",
        b"caf\xe9 au lait",
        None,
        b"\xed\xa0\x80 surrogate",
        "Zürich.".encode(),
    ]
    column = pa.array(values, kinds[0]).view(kinds[1])
    result = summarizer(pa.table({"document": column}))
    assert result["status"].to_pylist() == ["ok", "not_text", "empty", "not_text", "ok"]
    assert result["error"].to_pylist()[1] == "not UTF-8: invalid continuation byte at byte 3"
    encoded = column.dictionary_encode() if kinds[1] == pa.string() else column
    assert summarizer(pa.table({"document": encoded}))["status"].equals(result["status"])


@pytest.mark.parametrize(
    "column", [pa.array([1, 2]), pa.array([1.5, None]), pa.array([b"a", b"b"]), pa.array([["a"], ["b"]]),
               pa.array([1, 1]).dictionary_encode()],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_a_column_that_is_not_text_is_refused_with_its_type(summarizer, column):
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    with pytest.raises(InputError) as caught:
        summarizer(pa.table({"document": column}))
    assert str(kind) in str(caught.value)


def test_a_missing_column_lists_those_that_are_there(summarizer):
    with pytest.raises(
        InputError, match="no column 'document'; the table has id: int64, text: string"
    ):
        summarizer(pa.table({"id": [1], "text": ["a cat"]}))
    with pytest.raises(InputError, match="no column 'lang'"):
        make_like(summarizer, language_column="lang")(table(["a cat"]))


def test_columns_of_one_name_are_refused(summarizer):
    with pytest.raises(InputError, match="several columns of the name 'x'"):
        summarizer(pa.Table.from_arrays([pa.array(["a"])] * 3, ["document", "x", "x"]))


def test_other_columns_pass_through(summarizer):
    columns = {
        "title": ["a", None],
        "nested": [[{"x": 1}], None],
        "cat": pa.array(["u", "v"]).dictionary_encode(),
    }
    given_table = table(TEXTS[:2], **columns)
    result = summarizer(given_table)
    assert result.select(["id", *columns]).equals(given_table.select(["id", *columns]))
    assert "document" not in result.column_names
    kept = make_like(summarizer, keep_columns=("title",))(given_table)
    assert kept.column_names == ["title", *PREDICTION_SCHEMA.names]
    with_text = make_like(summarizer, keep_columns=("document", "id"))(given_table)
    assert with_text.column_names == ["document", "id", *PREDICTION_SCHEMA.names]
    assert (
        make_like(summarizer, keep_columns=())(given_table).column_names == PREDICTION_SCHEMA.names
    )


@pytest.mark.parametrize(
    ("config", "columns", "message"),
    [
        ({}, {"summary": ["x"]}, r"\['summary'\]"),
        ({"keep_columns": ("id", "status")}, {"status": ["x"]}, r"\['status'\]"),
        ({"keep_columns": ("nowhere",)}, {}, r"\['nowhere'\]"),
    ],
)
def test_clashes_and_missing_kept_columns_are_found_before_any_work(
    summarizer, monkeypatch, config, columns, message
):
    monkeypatch.setattr(summarizer.model, "forward", lambda batch: pytest.fail("worked"))
    monkeypatch.setattr(summarizer.encoder, "encode", lambda *_: pytest.fail("worked"))
    with pytest.raises(InputError, match=message):
        make_like(summarizer, **config)(table(["a cat"], **columns))


def test_rows_of_one_id_and_one_text_are_rows(summarizer):
    table = pa.table({"id": [7, 7, 7], "document": [TEXTS[0], TEXTS[0], TEXTS[1]]})
    result = summarizer(table)
    assert result["id"].to_pylist() == [7, 7, 7]
    assert result["summary"].to_pylist() == [
        summarizer(text).summary for text in (TEXTS[0], TEXTS[0], TEXTS[1])
    ]


def test_a_clash_may_be_left_out(summarizer):
    result = make_like(summarizer, keep_columns=("id",))(table(["a cat"], summary=["old"]))
    assert result["summary"].to_pylist() == ["a cat"]


def test_languages_come_from_a_column_or_the_configuration(summarizer):
    texts = ["One. Two."] * 5
    by_column = make_like(summarizer, language_column="lang")
    languages = ["zh", None, "", "zh-CN", "no such language"]
    for column in (
        languages,
        pa.array(languages).dictionary_encode(),
        pa.array(languages, pa.large_string()),
    ):
        result = by_column(table(texts, lang=column))
        assert result["summary"].to_pylist() == [
            "One.Two.",
            "One. Two.",
            "One. Two.",
            "One.Two.",
            "One. Two.",
        ]
    assert make_like(summarizer, language="ja")(texts[:1])[0].summary == "One.Two."
    result = make_like(summarizer, language_column="lang", language="ja")(
        table(texts[:2], lang=[None, "en"])
    )
    assert result["summary"].to_pylist() == ["One.Two.", "One. Two."]


def test_a_language_that_is_not_utf8_counts_as_none_given(summarizer):
    column = pa.array([b"z\xff", b"zh"]).view(pa.string())
    result = make_like(summarizer, language_column="lang")(table(["One. Two."] * 2, lang=column))
    assert result["summary"].to_pylist() == ["One. Two.", "One.Two."]


def test_a_language_column_that_is_not_text_is_refused(summarizer):
    with pytest.raises(InputError, match="list"):
        make_like(summarizer, language_column="lang")(table(["a cat"], lang=[["en"]]))


def test_stream_keeps_order_over_tables_and_pools(summarizer, short_pools):
    texts = [TEXTS[number % 5] for number in range(11)]
    tables = [table(texts).slice(*part) for part in [(0, 7), (3, 0), (7, 1), (8, 3)]]
    progress = []
    results = list(summarizer.stream(iter(tables), lambda *counts: progress.append(counts)))
    assert [result.num_rows for result in results] == [3, 3, 1, 0, 1, 3]
    together = pa.concat_tables(results)
    assert together["id"].to_pylist() == list(range(11))
    assert together["summary"].to_pylist() == [
        prediction.summary for prediction in summarizer(texts)
    ]
    assert sum(documents for documents, _ in progress) == 11
    read = [row["num_tokens"] for row in together.to_pylist() if row["status"] == "ok"]
    assert sum(tokens for _, tokens in progress) == sum(read) > 0


def test_tokens_that_are_not_read_do_not_count(summarizer):
    progress = []
    short = make_like(summarizer, max_windows=1)
    (result,) = short.stream([table([tiny.text(40)])], lambda *counts: progress.append(counts))
    assert result["truncated"].to_pylist() == [True]
    (documents,) = short.prepare([Document(tiny.text(40))]).encoded
    assert sum(tokens for _, tokens in progress) == len(documents.input_ids) - 2 * len(
        documents.cls_positions
    )
    assert 0 < sum(tokens for _, tokens in progress) < result["num_tokens"][0].as_py()


def test_stream_gives_what_came_before_an_error(summarizer):
    stream = summarizer.stream(iter([table(TEXTS[:2]), pa.table({"x": [1]})]))
    assert next(stream).num_rows == 2
    with pytest.raises(InputError):
        next(stream)


def test_stream_may_be_left(summarizer, short_pools):
    stream = summarizer.stream(table(TEXTS) for _ in range(100))
    next(stream)
    stream.close()


def test_a_stream_has_its_first_documents_prepared_before_any_is_taken(checkpoint):
    """And two of them, of which the second begins while the first is computed, give what each gives alone."""
    summarizer = make(checkpoint)
    first, second = [table(TEXTS * 2)] * 3, [table(TEXTS[::-1])] * 2
    taken, read = summarizer.stream(iter(first)), iter(second)
    ahead = summarizer.stream(read)
    assert len(list(read)) == 1
    assert summarizer.stage_seconds.keys() == {"prepare"}
    parts = [next(taken), next(ahead), *taken, *ahead]
    assert [part["summary"] for part in parts] == [
        summarizer(whole)["summary"] for whole in (first[0], second[0], first[1], first[2])
    ]


def test_a_thread_finishes_what_a_device_has_computed(checkpoint, monkeypatch):
    """As on a GPU, which has the next pool meanwhile. Its error is the stream's."""
    summarizer = make(checkpoint)
    tables = [table(TEXTS * 2), table(TEXTS[::-1]), table(TEXTS)]
    expected = list(summarizer.stream(tables))
    finish, threads = summarizer.finish, set()

    def watched(prepared, scores):
        threads.add(threading.get_ident())
        return finish(prepared, scores)

    monkeypatch.setattr(summarizer, "finish", watched)
    assert list(summarizer.stream(tables)) == expected
    assert threads == {threading.get_ident()}
    threads.clear()
    monkeypatch.setattr(summarizer, "_pools_ahead", 1)
    assert list(summarizer.stream(tables)) == expected
    assert len(threads) == 1
    assert threading.get_ident() not in threads

    def failing(prepared, scores):
        raise RuntimeError("no finish")

    monkeypatch.setattr(summarizer, "finish", failing)
    with pytest.raises(RuntimeError, match="no finish"):
        list(summarizer.stream(tables))


def test_stages_are_timed(checkpoint):
    summarizer = make(checkpoint)
    summarizer(TEXTS)
    assert set(summarizer.stage_seconds) == {"prepare", "forward", "finish"}
    assert all(seconds > 0 for seconds in summarizer.stage_seconds.values())


# Models


def test_save_and_load(summarizer, tmp_path):
    summarizer.save_pretrained(tmp_path / "saved", card="# Mine\n")
    assert (tmp_path / "saved" / "model_card.md").read_text() == "# Mine\n"
    loaded = Summarizer.from_pretrained(str(tmp_path / "saved"), SummarizerConfig(dtype="float32"))
    check_alike(loaded(TEXTS), summarizer(TEXTS))
    with pytest.raises(ModelError, match="nowhere"):
        Summarizer.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("labels", [(), ("no", "yes"), tuple("abcde")])
def test_any_set_of_labels(labels, tmp_path):
    save_checkpoint(
        tmp_path,
        tiny.model(sentiment_labels=labels),
        tiny.wordpiece(),
        "",
        version=bertsum.__version__,
    )
    summarizer = make(tmp_path)
    prediction = summarizer(TEXTS[0])
    assert prediction.status == Status.OK
    assert tuple(prediction.sentiment_scores or ()) == labels
    assert prediction.sentiment in (labels or (None,))
    result = summarizer(table(TEXTS[:1]))
    assert (result["sentiment_scores"].to_pylist()[0] is None) == (not labels)


def test_a_document_beyond_max_windows_is_truncated(checkpoint):
    prediction = make(checkpoint, max_windows=1)(TEXTS[2])
    assert prediction.truncated
    assert (prediction.num_sentences, prediction.num_tokens) == (30, 270)
    assert max(prediction.summary_sentences) < 6
    assert not make(checkpoint, max_windows=8)(TEXTS[2]).truncated


# Sizes


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["The cat sleeps in the house. ", "cat\n", "(", "猫", "x"])
def test_ten_megabytes(summarizer, unit):
    text = "The cat sleeps. " + unit * (10_000_000 // len(unit.encode()))
    prediction = summarizer(text)
    assert prediction.status == (Status.UNKNOWN_LANGUAGE if unit in "猫x" else Status.OK)
    assert prediction.truncated
    assert prediction.summary in text or len(prediction.summary_sentences) > 1


def test_fifty_thousand_sentences_of_one_word(summarizer):
    prediction = summarizer("\n\n".join(tiny.WORDS[number % 38] + "." for number in range(50_000)))
    assert prediction.status == Status.OK
    assert (prediction.num_sentences, prediction.num_tokens) == (50_000, 100_000)
    assert prediction.truncated
    assert len(prediction.summary_sentences) == 3


def test_no_punctuation_at_all(summarizer):
    text = tiny.text(1, 5000).rstrip(".")
    prediction = summarizer(text)
    assert prediction.status == Status.OK
    assert prediction.num_sentences > 1
    assert all(stop - start <= LONGEST_PART for start, stop in split_sentences(text, "en"))
    assert 0 < len(prediction.summary) <= 3 * (LONGEST_PART + 1)
    assert (
        summarizer(text.replace(" ", "")).status == Status.UNKNOWN_LANGUAGE
    )  # one word of 20,000 letters: [UNK]
