"""Tables of texts -> tables of written texts, without Ray."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from helpers import tiny

from bertsum.generation.columns import row_schema
from bertsum.generation.config import GenerateConfig
from bertsum.generation.decoding import Generated
from bertsum.generation.generator import Generator
from bertsum.generation.seq2seq import load_seq2seq
from bertsum.generation.sources import SENTENCE_SCORES
from bertsum.inference.summarizer import Summarizer

DECODING = {"max_tokens": 12}
TEXTS = [tiny.text(1 + i % 6, length=5, first=i) for i in range(20)]


@pytest.fixture
def generator_of(model_of: Callable[[str], Path], checkpoint: Path):
    """A function that makes a Generator in float64."""

    def make(kind: str = "bart", max_batch_tokens: int = 500, **values: object) -> Generator:
        values = {"decoding": DECODING, "max_batch_tokens": max_batch_tokens} | values
        config = GenerateConfig.model_validate(values)
        seq2seq = load_seq2seq(model_of(kind), config, torch.device("cpu"))
        seq2seq.model.double()

        def load() -> Summarizer:
            return Summarizer(str(checkpoint), SENTENCE_SCORES, device="cpu")

        return Generator(seq2seq, config, load)

    return make


def run(generator: Generator, *tables: pa.Table) -> pa.Table:
    return pa.concat_tables(generator.stream(tables))


def documents(**columns: object) -> pa.Table:
    return pa.table({"id": range(len(TEXTS)), "document": TEXTS} | columns)


def test_one_row_a_row(generator_of) -> None:
    texts: list[str | None] = [*TEXTS]
    texts[3], texts[5], texts[7] = None, " \n", "\x00\x01" * 40 + "a"
    table = pa.table({"id": range(20), "document": texts, "lang": ["en"] * 20})
    generator = generator_of()
    done: list[tuple[int, int]] = []
    lives: list[int] = []
    generator.on_batch(lambda: lives.append(1))
    result = pa.concat_tables(generator.stream([table], lambda *counts: done.append(counts)))
    assert result.schema == row_schema(table.schema, GenerateConfig())
    assert result.column_names[:3] == ["id", "lang", "abstract"]
    rows = result.to_pylist()
    assert [row["id"] for row in rows] == list(range(20))
    for row in rows:
        expected = {3: "empty", 5: "empty", 7: "not_text"}.get(row["id"], "ok")
        assert row["abstract_status"] == expected
        assert (row["abstract"] is None) == (expected != "ok")
        assert row["abstract_num_tokens"] == row["abstract_document_tokens"] or expected != "ok"
    assert "control characters" in rows[7]["abstract_error"]
    tokens = sum(row["abstract_num_tokens"] for row in rows)
    assert (sum(count for count, _ in done), sum(count for _, count in done)) == (20, tokens)
    assert len(done) > 3
    assert len(lives) > 12
    assert generator.stage_seconds["forward"] > 0


def test_batches_and_tables_change_no_row(generator_of) -> None:
    """In float64; see `test_the_same_rows_give_the_same_bits` for other formats."""
    whole = run(generator_of(), documents())
    for budget in (1, 100, 10**6):
        assert run(generator_of(max_batch_tokens=budget), documents()) == whole
    parts = [documents().slice(start, 3) for start in range(0, 20, 3)]
    assert run(generator_of(), *parts) == whole


def test_the_same_rows_give_the_same_bits(generator_of) -> None:
    generators = [generator_of(), generator_of()]
    for generator in generators:
        generator._decoder._model.to(torch.bfloat16)
    first, second = (run(generator, documents()) for generator in generators)
    assert first == second
    assert run(generators[0], documents()) == first


def test_a_text_that_the_tokenizer_does_not_know(generator_of) -> None:
    texts = ["猫坐在垫子上。", "The cat 猫 runs in the city.", "猫 狗 在 上 cat"]
    rows = run(generator_of(), pa.table({"document": texts})).to_pylist()
    assert [row["abstract_status"] for row in rows] == [
        "unknown_language", "ok", "unknown_language"]  # fmt: skip
    assert "does not know most" in rows[0]["abstract_error"]


@pytest.mark.parametrize("task", [{}, {"translate_to": "de"}])
def test_a_prefix_does_not_hide_that_the_text_is_unknown(task: dict, generator_of) -> None:
    texts = ["猫坐在垫子上。" * 20, "قطة على الحصيرة", "The cat 猫 runs in the city."]
    rows = run(generator_of("t5", **task), pa.table({"document": texts})).to_pylist()
    column = "summary_de_status" if task else "abstract_status"
    assert [row[column] for row in rows] == ["unknown_language", "unknown_language", "ok"]


def test_counts_that_no_text_can_have_are_not_believed(generator_of) -> None:
    counts = pa.array([2**33 + 5, -7, 2**31 - 1], pa.int64())
    table = pa.table({"document": [tiny.text(1)] * 3, "n": counts})
    rows = run(generator_of(document_tokens_column="n"), table).to_pylist()
    own = rows[0]["abstract_num_tokens"]
    assert [row["abstract_document_tokens"] for row in rows] == [own, own, 2**31 - 1]


def test_scoring_long_texts_gives_signs_of_life(generator_of) -> None:
    generator = generator_of()
    calls: list[int] = []
    generator.on_batch(lambda: calls.append(1))
    # nothing is written, so that all signs come from the scores
    generator._decoder.write = lambda inputs: [Generated([], is_ended=True)] * len(inputs)
    run(generator, pa.table({"document": [tiny.text(30)]}))
    assert calls


def test_kept_columns(generator_of) -> None:
    table = documents(n=range(20), abstracts=["x"] * 20)
    assert run(generator_of(keep_text=True), table).column_names[:5] == [
        "id", "document", "n", "abstracts", "abstract"]  # fmt: skip
    only = generator_of(keep_columns=("n",), keep_text=True)
    assert run(only, table).column_names[:3] == ["document", "n", "abstract"]
    none = generator_of(keep_columns=())
    assert run(none, table).column_names[0] == "abstract"


def test_a_long_text_says_what_was_read(generator_of) -> None:
    long_text = tiny.text(30)
    table = pa.table({"document": [long_text, tiny.text(1), long_text],
                      "summary": [tiny.text(2), tiny.text(2), None], "n": [900, 9, None]})  # fmt: skip
    rows = run(generator_of(), table).to_pylist()
    assert [row["abstract_source"] for row in rows] == [
        "best_sentences", "document", "best_sentences"]  # fmt: skip
    assert rows[0]["abstract_document_tokens"] > 64 >= rows[0]["abstract_num_tokens"]
    known = generator_of(summary_column="summary", document_tokens_column="n")
    rows = run(known, table).to_pylist()
    assert [row["abstract_source"] for row in rows] == ["summary", "document", "best_sentences"]
    assert [row["abstract_document_tokens"] for row in rows[:2]] == [900, 9]
    assert rows[2]["abstract_document_tokens"] > 64  # counted here


def test_translations_have_columns_of_their_language(generator_of) -> None:
    table = documents(lang=["en", "de", "tlh", None] * 5)
    result = run(generator_of("nllb", translate_to="de", language_column="lang"), table)
    assert result.column_names[:4] == ["id", "lang", "summary_de", "summary_de_source"]
    statuses = result["summary_de_status"].to_pylist()
    assert statuses == ["ok", "ok", "unknown_language", "ok"] * 5
    assert result["summary_de_error"][2].as_py() == "the model does not read 'tlh'"
    assert result["summary_de_word_share"].null_count == 20


def test_another_language_is_read_with_its_token(generator_of) -> None:
    generator = generator_of("nllb", translate_to="de", language_column="lang")
    read: list[list[int]] = []
    write = generator._decoder.write

    def record(inputs):
        read.extend(inputs)
        return write(inputs)

    generator._decoder.write = record
    table = pa.table({"document": [TEXTS[0], TEXTS[0]], "lang": ["eng", "zh"]})
    run(generator, table)
    ids = generator._tokenizer.convert_tokens_to_ids(["eng_Latn", "zho_Hans"])
    assert sorted(values[0] for values in read) == sorted(ids)
    assert read[0][1:] == read[1][1:]


def test_a_text_at_which_the_model_fails_is_one_row(generator_of) -> None:
    generator = generator_of(max_batch_tokens=10**6)
    write = generator._decoder.write
    marker = generator._tokenizer.convert_tokens_to_ids("▁marker")

    def fail(inputs):
        if any(marker in ids for ids in inputs):
            raise RuntimeError("a kernel\nfailed")
        return write(inputs)

    generator._decoder.write = fail
    texts = [*TEXTS[:9], "the cat marker runs.", *TEXTS[10:]]
    has_marker = ["marker" in text for text in texts]
    assert 0 < sum(has_marker) < 10
    rows = run(generator, pa.table({"document": texts})).to_pylist()
    for row, fails in zip(rows, has_marker, strict=True):
        assert row["abstract_status"] == ("error" if fails else "ok")
        if fails:
            assert row["abstract_error"] == "the model failed: RuntimeError: a kernel failed"


def test_a_text_that_cannot_be_read_is_one_row(generator_of) -> None:
    generator = generator_of()
    encode = generator._sources._encode

    def fail(content, text):
        if "cat" in content:
            raise ValueError("a tokenizer failed")
        return encode(content, text)

    generator._sources._encode = fail
    rows = run(generator, documents()).to_pylist()
    statuses = [row["abstract_status"] for row in rows]
    assert statuses == ["error" if "cat" in text else "ok" for text in TEXTS]
    assert 0 < statuses.count("error") < 20


def test_rows_that_are_given_up_and_no_rows(generator_of) -> None:
    generator = generator_of()
    given_up = generator.give_up(documents().slice(0, 2), "died")
    assert given_up["abstract_status"].to_pylist() == ["error"] * 2
    assert given_up["abstract_error"].to_pylist() == ["died"] * 2
    assert given_up.schema == run(generator, documents().slice(0, 0)).schema
