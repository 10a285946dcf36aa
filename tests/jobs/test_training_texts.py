import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import train
from jobs.learning import question_pairs, short_texts

LANGUAGES = sorted(short_texts.ROWS_PER_KIND)
KINDS = {
    "comparisons", "emoji", "facts", "finance", "mixed", "negation", "opinions", "questions", "ratings", "requests",
    "service_posts", "small_talk", "symbols", "typos", "words",
}  # fmt: skip
ROWS_OF_KIND = {
    "en": dict.fromkeys(KINDS, 461)
    | {"company_results": 2500, "ratings": 1200, "service_posts": 2500, "symbols": 500},
    "zh": dict.fromkeys(KINDS, 384) | {"ratings": 700, "service_posts": 800, "symbols": 400},
}


@pytest.fixture(scope="module", params=LANGUAGES)
def texts(request):
    return short_texts.short_texts(request.param)


def test_no_text_comes_twice(texts):
    assert len({text.document for text in texts}) == len(texts)
    assert len({text.id for text in texts}) == len(texts)


def test_each_kind_has_its_number_of_rows_and_all_three_sentiments(texts):
    rows_of_kind = ROWS_OF_KIND[texts[0].language]
    assert Counter(text.kind for text in texts) == rows_of_kind
    pairs = {(text.kind, text.sentiment) for text in texts}
    assert pairs == {
        (kind, sentiment)
        for kind in rows_of_kind
        for sentiment in ("negative", "neutral", "positive")
    }


def test_no_sentiment_dominates(texts):
    counts = Counter(text.sentiment for text in texts)
    assert max(counts.values()) < 0.45 * len(texts)


def test_no_slot_is_left_and_no_text_is_empty(texts):
    for text in texts:
        assert text.document.strip() == text.document != ""
        assert not set("{}|") & set(text.document), text.document


def test_the_same_seed_gives_the_same_rows(texts):
    language = texts[0].language
    assert short_texts.short_texts(language) == texts
    assert short_texts.short_texts(language, seed=1) != texts


@pytest.mark.parametrize("language", LANGUAGES)
def test_tables_name_each_slot_and_repeat_nothing(language):
    slots = short_texts.read_slots(language)
    used = set()
    for kind in short_texts.kinds(language):
        frames = short_texts.read_frames(short_texts.PHRASES / language / f"{kind}.yaml")
        texts = [frame.text for frame in frames]
        assert len(set(texts)) == len(texts), kind
        used |= set(short_texts.SLOT.findall(" ".join(texts)))
    assert used == slots.keys()
    for name, fillers in slots.items():
        assert len(set(fillers)) == len(fillers), name


def test_a_text_has_one_sentiment_in_all_kinds(texts):
    """Also where only case and the full stop differ."""
    sentiments = {}
    for text in texts:
        bare = text.document.lower().rstrip(".!。！")
        assert sentiments.setdefault(bare, text.sentiment) == text.sentiment, text.document


@pytest.mark.parametrize(
    ("document", "sentiment"),
    [
        ("0/10", "negative"),
        ("4/10", "negative"),
        ("5/10", "neutral"),
        ("6/10", "neutral"),
        ("7/10", "positive"),
        ("10/10", "positive"),
        ("2/5", "negative"),
        ("3/5", "neutral"),
        ("4/5", "positive"),
        ("★★☆☆☆", "negative"),
        ("★★★☆☆", "neutral"),
        ("★★★★☆", "positive"),
    ],
)
def test_a_bare_rating_has_the_sentiment_of_its_value_in_both_languages(texts, document, sentiment):
    assert [text.sentiment for text in texts if text.document == document] == [sentiment]


def test_a_frame_that_is_only_a_slot_gives_every_filler():
    frames = [short_texts.Frame("{a}", "positive"), short_texts.Frame("{a} for me", "positive")]
    texts = [frame.text for frame in short_texts.spell_out(frames, {"a": ["one star", "1/5"]})]
    assert texts == ["One star", "1/5", "{a} for me"]


def test_equal_slots_get_unequal_fillers():
    frame = short_texts.Frame("{a} is not {a} but {b}", "neutral")
    rng = short_texts.random.Random(0)
    texts = {frame.fill({"a": ["x", "y"], "b": ["z"]}, rng) for _ in range(20)}
    assert texts == {"X is not y but z", "Y is not x but z"}


@pytest.mark.parametrize(
    "text", ["no answer from @NordRail", "late again #fail", "see my DM @AirVela"]
)
def test_a_name_or_topic_at_the_end_gets_no_full_stop(text):
    rng = short_texts.random.Random(0)
    typed = {short_texts.retype(text, emphatic=True, language="en", rng=rng) for _ in range(50)}
    assert typed == {text, text.lower()}


def test_a_slip_changes_the_inside_of_one_long_word():
    rng = short_texts.random.Random(0)
    typed = {short_texts.slip("a word", rng) for _ in range(20)}
    assert typed == {"a word"}
    typed = {short_texts.slip("to write", rng) for _ in range(50)}
    assert {"to wirte", "to wrte", "to wriite"} & typed
    assert all(text.startswith("to w") and text.endswith("e") for text in typed)


def test_command_writes_a_file_for_each_language(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["short_texts", str(tmp_path / "new")])
    short_texts.main()
    for language in LANGUAGES:
        rows = pq.read_table(tmp_path / "new" / f"short_texts_{language}.parquet").to_pylist()
        assert list(rows[0]) == ["id", "document", "sentiment", "kind", "language"]
        assert {row["language"] for row in rows} == {language}
        assert len(rows) == sum(ROWS_OF_KIND[language].values())


@pytest.fixture(scope="module", params=question_pairs.LANGUAGES, ids="-".join)
def pairs(request):
    return question_pairs.question_pairs(request.param)


def test_no_question_comes_twice(pairs):
    questions = [pair[side] for pair in pairs for side in ("query", "answer")]
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_wording_has_one_meaning(language):
    for kind, questions in question_pairs.read_questions(language).items():
        wordings = [wording for meaning in questions["meanings"] for wording in meaning]
        assert len(set(wordings)) == len(wordings), kind
        assert all("{x}" in wording for wording in wordings), kind
        assert min(map(len, questions["meanings"])) > 1, kind


def test_languages_have_the_same_things_and_meanings():
    chinese, english = map(question_pairs.read_questions, ("zh", "en"))
    assert list(chinese) == list(english)
    for kind, questions in chinese.items():
        for part in ("things", "meanings"):
            assert len(questions[part]) == len(english[kind][part]), (kind, part)


def test_each_thing_has_a_pair_for_each_meaning_of_its_kind():
    pairs = question_pairs.question_pairs(("zh", "zh"))
    for questions in question_pairs.read_questions("zh").values():
        for thing in questions["things"]:
            of_thing = [
                pair for pair in pairs if thing in pair["query"] and thing in pair["answer"]
            ]
            assert len(of_thing) >= len(questions["meanings"]), thing


def test_a_question_and_its_translation_are_of_one_thing():
    pairs = iter(question_pairs.question_pairs(("zh", "en")))
    for chinese, english in zip(
        question_pairs.read_questions("zh").values(),
        question_pairs.read_questions("en").values(),
        strict=True,
    ):
        for _ in chinese["meanings"]:
            for thing, name in zip(chinese["things"], english["things"], strict=True):
                pair = next(pairs)
                assert thing in pair["query"]
                assert name in pair["answer"]


def test_the_command_writes_the_pairs_that_the_recipe_reads(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["question_pairs", str(tmp_path / "question_pairs")])
    question_pairs.main()
    recipe = (Path(train.__file__).parent / "configs" / "multilingual_5.yaml").read_text()
    read = re.findall(r"question_pairs/\w+\.parquet", recipe)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert written == set(read)
    table = pq.read_table(tmp_path / "question_pairs" / "zh_en.parquet")
    assert table.to_pylist() == question_pairs.question_pairs(("zh", "en"))
