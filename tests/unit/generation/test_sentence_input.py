"""Models that `bertsum train` made read sentence by sentence, as they have learned."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from helpers import tiny, tiny_writer

from bertsum.checkpoints.checkpoint import save_checkpoint
from bertsum.errors import ConfigError, ModelError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.generator import Generator
from bertsum.generation.sentence_input import InputFormat, SentenceInput
from bertsum.generation.seq2seq import load_seq2seq, load_task
from bertsum.generation.sources import SENTENCE_SCORES, SourceReader, Text
from bertsum.inference.summarizer import Summarizer
from bertsum.text.encoder import DocumentEncoder

FORM = InputFormat(segments=True, max_tokens=64)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("writer")
    tiny_writer.writer().float().model.save_pretrained(target)
    tiny.wordpiece().save_pretrained(target)
    return target


@pytest.fixture
def load_summarizer(tmp_path: Path) -> Callable[[], Summarizer]:
    save_checkpoint(tmp_path, tiny.model(), tiny.wordpiece(), "", version="0.0.0")
    return lambda: Summarizer(str(tmp_path), SENTENCE_SCORES, device="cpu")


def trained_on(text: str) -> tuple[list[int], list[int]]:
    """Ids and segments that a run learns from."""
    encoder = DocumentEncoder(tiny.wordpiece(), FORM.reader, num_segments=2, max_positions=64)
    (document,) = encoder.encode([text], ["en"], 1)
    return document.input_ids.tolist(), document.token_type_ids.tolist()


@pytest.mark.parametrize(
    "text", ["The cat sleeps.", tiny.text(5), "It says [CLS] and [SEP]. The dog runs. A [PAD]."]
)
def test_ids_and_segments_are_those_of_training(text: str) -> None:
    """Also of an author's special tokens, which are text."""
    sentences = SentenceInput(tiny.wordpiece(), FORM)
    ids = sentences.ids(text, "en")
    padded = torch.tensor([[*ids, 0, 0], [2, 5, 3, *[0] * (len(ids) - 1)]])
    segments = sentences.segments(padded)
    assert segments is not None
    assert (ids, segments[0, : len(ids)].tolist()) == trained_on(text)
    assert segments[1, :3].tolist() == [0, 0, 0]
    one = SentenceInput(tiny.wordpiece(), InputFormat(segments=False, max_tokens=64))
    assert one.segments(padded) is None


def test_a_text_that_fits_is_read_whole_and_a_longer_one_by_its_best_sentences(
    load_summarizer: Callable[[], Summarizer],
) -> None:
    tokenizer = tiny.wordpiece()
    sentences = SentenceInput(tokenizer, FORM)
    reader = SourceReader(tokenizer, "", 64, load_summarizer, sentences)
    # a sentence of 6 words has 9 tokens, so that 7 of them fit and 8 do not
    texts = [Text(text=tiny.text(n), summary=None, language="en", tokenizer_language=None)
             for n in (7, 8)]  # fmt: skip
    whole, best = reader.read(texts)
    assert (whole.source, len(whole.ids)) == ("document", 63)
    assert (best.source, len(best.ids), best.document_tokens) == ("best_sentences", 63, 72)
    parts = [tiny.sentence(*range(7 * i, 7 * i + 6)) for i in range(8)]
    without_one = [sentences.ids(" ".join(parts[:i] + parts[i + 1 :]), "en") for i in range(8)]
    assert best.ids in without_one


def test_a_sentence_that_is_too_long_is_cut(load_summarizer: Callable[[], Summarizer]) -> None:
    sentences = SentenceInput(tokenizer := tiny.wordpiece(), FORM)
    reader = SourceReader(tokenizer, "", 64, load_summarizer, sentences)
    text = Text(text="the cat " * 50, summary=None, language="en", tokenizer_language=None)
    (reading,) = reader.read([text])
    assert reading.source == "cut_sentence"
    assert reading.ids == sentences.ids("the cat " * 31, "en")


def test_rows_of_another_script_are_told(directory: Path) -> None:
    """[CLS] and [SEP] around each sentence do not hide that the rest is unknown."""
    seq2seq = load_seq2seq(directory, GenerateConfig(), torch.device("cpu"))
    generator = Generator(seq2seq, GenerateConfig(), lambda: pytest.fail("no text is long"))
    table = pa.table({"document": ["猫。狗。河。水。", tiny.text(4)]})
    rows = pa.concat_tables(generator.stream([table])).to_pylist()
    assert [row["abstract_status"] for row in rows] == ["unknown_language", "ok"]
    assert rows[1]["abstract_num_tokens"] == 4 * 9


def test_limits_and_damage_are_told_before_any_work(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_input_tokens=65 is more than the model has .*: 64"):
        load_task(directory, GenerateConfig(max_input_tokens=65))
    with pytest.raises(ConfigError, match="max_tokens=21 is more than the model can write: 20"):
        load_task(directory, GenerateConfig(decoding={"max_tokens": 21}))
    with pytest.raises(ConfigError, match="leaves no room for a text"):
        load_task(directory, GenerateConfig(prefix="the cat " * 40))
    assert load_task(directory, GenerateConfig(prefix="the cat: ")).prefix == "the cat: "
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"bertsum_input": {"segments": 3}}))
    with pytest.raises(ModelError, match=r"bertsum_input of the model's config.json is damaged"):
        load_task(tmp_path, GenerateConfig())


def test_an_encoder_decoder_of_others_reads_as_its_tokenizer_says(
    directory: Path, tmp_path: Path
) -> None:
    """Up to the positions of its encoder, and it writes up to those of its decoder."""
    for path in directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    del values["bertsum_input"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    seq2seq = load_seq2seq(tmp_path, GenerateConfig(), torch.device("cpu"))
    assert seq2seq.sentence_input is None
    assert (seq2seq.max_input_tokens, seq2seq.max_output_tokens) == (64, 20)
