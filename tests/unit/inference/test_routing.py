"""A family of models: each document is read by the model for its language, and its row is the same as alone."""

import copy
import dataclasses
import pickle
from collections import Counter

import pyarrow as pa
import pytest
import torch
from helpers import tiny

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.errors import InputError, ModelError
from bertsum.inference import summarizer as predictor
from bertsum.inference.routing import only_member
from bertsum.inference.summarizer import Summarizer
from bertsum.runs.columns import output_schema
from bertsum.schema import PREDICTION_SCHEMA, Document, Status

ENGLISH = [
    "The price of the house in the city rises. The bank says the market is good. The dog sleeps.",
    "The cat sees the bird in the old house. The river is big and blue. It was great.",
    "The report of the bank is bad news for the market of the city.",
]
GERMAN = [
    "Die Brücke über den Fluss wird gesperrt. Die Anwohner sind verärgert. Niemand hat sie gefragt.",
    "Das Hotel war sauber und das Personal sehr freundlich. Der Kaffee war leider kalt.",
]
CHINESE = ["猫坐在垫子上。河水很大。城市很大。", "狗坐在河上。"]
MIXED = [
    ENGLISH[0],
    None,
    GERMAN[0],
    CHINESE[0],
    "",
    ENGLISH[1],
    "123 456",
    CHINESE[1],
    GERMAN[1],
    ENGLISH[2],
]
LANGUAGES = ["en", None, "de", "zh", None, "en", None, "zh", "de", "en"]


def make(directory, **config) -> Summarizer:
    values = {"dtype": "float32", "selection": SelectionConfig(size=2)} | config
    return Summarizer(directory, SummarizerConfig.model_validate(values), device="cpu")


@pytest.fixture(scope="module")
def summarizer(family):
    return make(family)


@pytest.fixture
def short_pools(monkeypatch):
    monkeypatch.setattr(predictor, "_POOL_DOCUMENTS", 3)


def table(texts, **columns) -> pa.Table:
    return pa.table({"id": list(range(len(texts))), "document": texts} | columns)


def plain(prediction):
    """Without scores, whose last digits depend on the batch."""
    return dataclasses.replace(prediction, summary_scores=None, sentiment_scores=None)


def test_each_row_is_that_of_the_member_for_its_language(family, summarizer):
    """To the last bit, since each member has the same batches as alone."""
    found = summarizer(table(MIXED))
    assert found["language"].to_pylist() == LANGUAGES
    assert found["id"].to_pylist() == list(range(len(MIXED)))
    for member, languages in (("english", {"en", None}), ("multilingual", {"de", "zh"})):
        rows = [index for index, language in enumerate(LANGUAGES) if language in languages]
        alone = make(family / member, language_column="lang")
        given = table(MIXED, lang=LANGUAGES).take(rows)
        assert found.take(rows).drop(["language"]).equals(alone(given).drop(["lang"]))
    assert found["status"].to_pylist() == [
        *("ok", "empty", "ok", "ok", "empty", "ok", "not_text", "ok", "ok", "ok")
    ]


def test_schema(summarizer, family):
    found = summarizer(table(MIXED))
    assert found.schema.names == ["id", *PREDICTION_SCHEMA.names, "language"]
    assert found.schema.equals(output_schema(table(MIXED).schema, summarizer.config))
    assert summarizer(table(MIXED).slice(0, 0)).schema.equals(found.schema)
    assert summarizer.give_up(table(MIXED), "it kills").schema.equals(found.schema)


def test_a_family_may_leave_the_language_out(family, summarizer):
    with_language = summarizer(table(MIXED))
    without = make(family, outputs=["summary", "sentiment"])(table(MIXED))
    assert without.equals(with_language.drop(["language"]))


def test_pools_streams_and_devices_change_no_row(summarizer, short_pools, monkeypatch):
    expected = [plain(prediction) for prediction in summarizer(MIXED)]
    assert [prediction.language for prediction in expected] == LANGUAGES
    monkeypatch.setattr(summarizer, "_pools_ahead", 1)
    counts = []
    given = table(MIXED)
    parts = summarizer.stream(
        [given.slice(0, 4), given.slice(4, 0), given.slice(4)],
        lambda documents, tokens: counts.append((documents, tokens)),
    )
    found = pa.concat_tables(parts)
    assert found["id"].to_pylist() == list(range(len(MIXED)))
    assert found["summary"].to_pylist() == [prediction.summary for prediction in expected]
    assert found["language"].to_pylist() == LANGUAGES
    assert sum(documents for documents, _ in counts) == len(MIXED)
    assert sum(tokens for _, tokens in counts) == sum(found["num_tokens"].to_pylist())


def test_the_steps_are_the_call(summarizer):
    prepared = summarizer.prepare([Document(text) for text in MIXED])
    assert summarizer.finish(prepared, summarizer.forward(prepared)) == summarizer(MIXED)


def test_all_heads(summarizer):
    results = summarizer.predict_all_heads([Document(text) for text in MIXED])
    for (prediction, encoded, scores), language in zip(results, LANGUAGES, strict=True):
        assert (encoded is None) == (scores is None) == (language is None)
        assert prediction.language == language
        assert encoded is None or encoded.language == language


@pytest.mark.parametrize(
    ("tag", "language", "member"),
    [
        ("en", "en", "english"),
        ("EN_us", "en", "english"),
        (" en ", "en", "english"),
        ("de", "de", "multilingual"),
        ("zh-Hant-TW", "zh", "multilingual"),
        ("eng", "en", "english"),
        ("eng-GB", "en", "english"),
        ("zho", "zh", "multilingual"),
        ("xx", "xx", "multilingual"),
        ("English", "en", "english"),
        ("no such language", "en", "english"),
        (None, "en", "english"),
        ("", "en", "english"),
        ("und", "en", "english"),
    ],
)
def test_the_column_of_languages(family, summarizer, tag, language, member):
    by_column = make(family, language_column="lang")
    found = by_column(table(ENGLISH[:1], lang=pa.array([tag], pa.string())))
    assert found["language"].to_pylist() == [language]
    alone = make(family / member)(table(ENGLISH[:1]))
    assert found["sentiment_scores"].to_pylist() == alone["sentiment_scores"].to_pylist()


def test_the_column_goes_before_the_configuration_and_that_before_the_detector(family):
    configured = make(family, language="zh", language_column="lang")
    found = configured(table([*ENGLISH[:2], None], lang=["fr", None, "en"]))
    assert found["language"].to_pylist() == ["fr", "zh", None]
    found = configured(table([*ENGLISH[:1] * 3], lang=["und", " ", "mul"]))
    assert found["language"].to_pylist() == ["zh"] * 3


def test_one_checkpoint_names_languages_where_it_is_asked(checkpoint):
    default, asked = make(checkpoint), make(checkpoint, outputs=["language"])
    assert default.config.outputs is None
    assert default(ENGLISH[0]).language is None
    found, expected = asked(table(MIXED)), default(table(MIXED))
    assert found["language"].to_pylist() == LANGUAGES
    assert found.drop(["language"]).equals(expected)
    assert expected.schema.names == ["id", *PREDICTION_SCHEMA.names]


def test_the_choice_of_columns_changes_no_other_column(checkpoint):
    """Of a text in Latin letters, too, which the detector would have split by other rules."""
    texts = ["Il sig. Rossi ha detto che la casa è vecchia. È tornato ieri.", GERMAN[0], CHINESE[0]]
    tags = [None, "und", "mul"]
    given = table(texts * 2, lang=[*[None] * 3, *tags])
    for values in ({}, {"language_column": "lang"}, {"language": "ita"}):
        without = make(checkpoint, **values)(given)
        asked = make(checkpoint, **values, outputs=["language"])(given)
        assert asked.drop(["language"]).equals(without)
    assert without["num_sentences"].to_pylist()[0] == 2
    assert asked["language"].to_pylist() == ["it"] * 6
    assert make(checkpoint, outputs=["language"])(given)["num_sentences"].to_pylist()[0] == 3


def test_a_text_without_a_letter_has_no_language(family, summarizer):
    """Whatever its row says: the member for all others reads it."""
    texts = ["9/10", ":(", "100%"]
    by_column = make(family, language_column="lang")(table(texts, lang=["en", "zh", None]))
    found = summarizer(table(texts))
    assert by_column.drop(["lang"]).equals(found)
    assert found["status"].to_pylist() == ["ok"] * 3
    assert found["summary"].to_pylist() == texts
    assert found["language"].to_pylist() == [None] * 3
    assert found.drop(["language"]).equals(make(family / "multilingual")(table(texts)))
    (prediction, encoded, _) = summarizer.predict_all_heads([Document("9/10")])[0]
    assert prediction.language is None
    assert summarizer.router.reader_of(encoded) is summarizer.readers["multilingual"]
    assert (
        summarizer.router.reader_of(summarizer.predict_all_heads([Document("cat")])[0][1])
        is (summarizer.readers["english"])
    )


def test_the_member_for_one_document(family):
    config = SummarizerConfig(language="en")
    for text, member, language in (
        ("The price rises.", "english", "en"),
        ("9/10", "multilingual", None),
    ):
        directory, chosen = only_member(family, Document(text), config)
        assert (directory, chosen.language) == (family / member, language)
        (prediction,) = make(directory, outputs=chosen.outputs, language=chosen.language)([text])
        assert (prediction.status, prediction.language) == (Status.OK, language)


def test_a_column_of_the_input_with_that_name(family, checkpoint):
    given = table(ENGLISH, language=["xa", "xb", "xc"])
    message = (
        r"\['[lL]anguage'\] .*keep_columns, leave that group out of summarizer.outputs .*"
        r"or give .*output.prefix .*output.rename"
    )
    with pytest.raises(InputError, match=message):
        make(family)(given)
    with pytest.raises(InputError, match=message):
        make(family)(table(ENGLISH, Language=["xa", "xb", "xc"]))
    assert make(checkpoint)(given)["language"].to_pylist() == ["xa", "xb", "xc"]
    kept = make(family, outputs=["summary"])(given)
    assert kept["language"].to_pylist() == ["xa", "xb", "xc"]
    left_out = make(family, keep_columns=["id"], language_column="language")(given)
    assert left_out["language"].to_pylist() == ["xa", "xb", "xc"]  # as tags of languages


def test_few_documents_of_one_language_are_one_batch(summarizer, monkeypatch):
    """However the languages alternate: of a pool, each member has one batch that is not full."""
    batches = Counter()
    for name, reader in summarizer.readers.items():
        forward = reader.model.forward

        def counted(batch, name=name, forward=forward, **options):
            batches[name] += 1
            return forward(batch, **options)

        monkeypatch.setattr(reader.model, "forward", counted)
    texts = [CHINESE[0] if number % 50 == 7 else ENGLISH[number % 3] for number in range(400)]
    predictions = summarizer(texts)
    assert Counter(prediction.language for prediction in predictions) == {"en": 392, "zh": 8}
    assert batches == {"english": 1, "multilingual": 1}


def test_a_batch_that_fails_is_one_row_and_other_members_do_not_see_it(summarizer, monkeypatch):
    expected = [plain(prediction) for prediction in summarizer(MIXED)]
    model = summarizer.readers["multilingual"].model
    forward, marker = model.forward, summarizer.readers["multilingual"].tokenizer
    dog = marker.convert_tokens_to_ids("狗")

    def failing(batch, **options):
        if (batch.input_ids == dog).any():
            raise RuntimeError("kernel failed")
        return forward(batch, **options)

    monkeypatch.setattr(model, "forward", failing)
    found = summarizer(MIXED)
    assert (found[7].status, found[7].language) == (Status.ERROR, "zh")
    assert "kernel failed" in found[7].error
    others = [index for index in range(len(MIXED)) if index != 7]
    assert [plain(found[index]) for index in others] == [expected[index] for index in others]


def test_a_document_that_the_detector_fails_at_is_one_row(summarizer, monkeypatch):
    detect = summarizer.router.detect_language

    def failing(text):
        if text == GERMAN[0]:
            raise ValueError("hostile")
        return detect(text)

    monkeypatch.setattr(summarizer.router, "detect_language", failing)
    found = summarizer(MIXED)
    assert found[2].error == "preparing failed: ValueError: hostile"
    assert [prediction.language for prediction in found] == [*LANGUAGES[:2], None, *LANGUAGES[3:]]


def test_rows_that_are_given_up(summarizer):
    found = summarizer.give_up(table(MIXED), "it kills")
    assert found["status"].to_pylist() == ["error"] * len(MIXED)
    assert found["language"].to_pylist() == [None] * len(MIXED)


def test_every_batch_of_every_member_is_a_sign_of_life(family):
    summarizer, signs = make(family), []
    summarizer.on_batch(lambda: signs.append(1))
    summarizer([ENGLISH[0], CHINESE[0]])
    assert len(signs) == 2


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_gives_the_same_predictions(summarizer, travel):
    copied = travel(summarizer)
    assert copied(MIXED) == summarizer(MIXED)
    assert copied.config == summarizer.config
    assert len(pickle.dumps(copied)) < 10_000


def test_a_family_has_no_single_model(summarizer):
    for name in ("model", "tokenizer", "encoder"):
        with pytest.raises(ModelError, match=r"readers\[NAME\].*'english', 'multilingual'"):
            getattr(summarizer, name)
    assert (summarizer.device, summarizer.dtype) == (torch.device("cpu"), torch.float32)
    assert set(summarizer.readers) == {"english", "multilingual"}


def test_save_and_load(summarizer, tmp_path):
    summarizer.save_pretrained(tmp_path / "saved")
    assert make(tmp_path / "saved")(MIXED) == summarizer(MIXED)


def test_members_for_several_languages(tmp_path):
    directory = tiny.family(
        tmp_path, members={"english": ["en", "de"], "multilingual": ["zh"]}, others="english"
    )
    found = make(directory)(MIXED)
    alone = make(directory / "english", language="de")([GERMAN[0]])
    assert found[2].sentiment == alone[0].sentiment
    assert found[3].status == Status.OK  # which the English vocabulary would not know
