"""The packed encoder with its decoder, beside Transformers' EncoderDecoderModel with the same weights."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from helpers import tiny, tiny_writer
from transformers import AutoModelForSeq2SeqLM

from bertsum.errors import ConfigError, ModelError
from bertsum.generation.config import GenerateConfig
from bertsum.generation.decoding import Decoder
from bertsum.generation.seq2seq import load_seq2seq
from bertsum.inference.reader import document_encoder
from bertsum.inference.summarizer import Summarizer
from bertsum.model.batches import Batch, make_batch
from bertsum.model.losses import IGNORE
from bertsum.text.encoder import EncodedDocument
from bertsum.training.data import LabelledBatch, labelled_batch
from bertsum.training.examples import Example
from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.summaries.loss import WritingLoss
from bertsum.training.summaries.targets import Targets, TargetTokenizer
from bertsum.training.summaries.writer import Writer, make_model, pad_documents

KINDS = ["bert", "roberta", "distilbert"]
# of other lengths each, in sentences and in tokens; the last one is longer than the model reads
TEXTS = [tiny.text(3, 4), tiny.text(1, 6, first=5), tiny.text(5, 3, first=9), tiny.text(40, 6)]
SUMMARIES = [
    "The cat sleeps.",
    "A dog runs in the big river.\nIt sees one bird.",
    "Zebra",
    "Old city, new market.",
]
MOST = 20


def read(writer: Writer, kind: str = "bert", texts: list[str] = TEXTS) -> list[EncodedDocument]:
    encoder = document_encoder(writer.reader, tiny.ENCODER_TOKENIZERS[kind]())
    return encoder.encode(texts, ["en"] * len(texts), 1)


def targets_of(summaries: list[str], kind: str = "bert") -> Targets:
    tokenizer = tiny.ENCODER_TOKENIZERS[kind]()
    return TargetTokenizer(tokenizer=tokenizer, max_tokens=MOST).targets(summaries)


def save(writer: Writer, directory: Path, kind: str = "bert") -> Path:
    writer.model.save_pretrained(directory)
    tiny.ENCODER_TOKENIZERS[kind]().save_pretrained(directory)
    return directory


def alone(document: EncodedDocument, kind: str) -> dict[str, torch.Tensor]:
    """What Transformers takes of one document, without padding."""
    inputs = {"input_ids": torch.tensor([document.input_ids.tolist()])}
    if kind == "bert":
        inputs["token_type_ids"] = torch.tensor([document.token_type_ids.tolist()])
    return inputs


def packed(writer: Writer, kind: str = "bert") -> tuple[Batch, list[EncodedDocument], Targets]:
    """A batch, its documents and its targets, in the batch's order."""
    documents = read(writer, kind)
    batch = make_batch(documents, range(len(documents)))
    order = batch.documents
    assert order != sorted(order)
    return (
        batch,
        [documents[i] for i in order],
        targets_of([SUMMARIES[i] for i in order], kind),
    )


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """Of each document alone, by the class and the files that users of Transformers have."""
    writer = tiny_writer.writer(kind)
    batch, documents, targets = packed(writer, kind)
    assert documents[-1].truncated and not documents[0].truncated
    logits = writer(batch, targets)
    model = AutoModelForSeq2SeqLM.from_pretrained(save(writer, tmp_path, kind), dtype="float64")
    first = 0
    for row, document in enumerate(documents):
        count = int((targets.labels[row] != IGNORE).sum())
        expected = model(
            **alone(document, kind), decoder_input_ids=targets.inputs[row : row + 1, :count]
        )
        found = logits[first : first + count]
        torch.testing.assert_close(found, expected.logits[0], rtol=0, atol=1e-11)
        first += count
    assert first == len(logits)
    # it depends on what was read, and on all tokens before
    spread = logits.std(0).mean()
    assert spread > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_beam_search_is_that_of_transformers(kind: str, tmp_path: Path) -> None:
    """Token by token, all documents in one padded batch against each alone."""
    directory = save(tiny_writer.writer(kind, min_tokens=3), tmp_path, kind)
    config = GenerateConfig()
    seq2seq = load_seq2seq(directory, config, torch.device("cpu"))
    seq2seq.model.double()
    documents = read(tiny_writer.writer(kind), kind)
    found = Decoder(seq2seq, config).write([d.input_ids.tolist() for d in documents])
    model = AutoModelForSeq2SeqLM.from_pretrained(directory, dtype="float64")
    assert model.generation_config.num_beams == 3
    special = {model.config.pad_token_id, model.config.bos_token_id}
    for document, generated in zip(documents, found, strict=True):
        expected = model.generate(**alone(document, kind))[0, 1:].tolist()
        end = model.config.eos_token_id
        expected = expected[: expected.index(end)] if end in expected else expected
        assert generated.ids == [token for token in expected if token not in special]
    assert len({tuple(generated.ids) for generated in found}) > 1


def test_windows_stand_one_behind_the_other() -> None:
    """Of a document of several windows all tokens are there, and of no other document."""
    writer = tiny_writer.writer()
    encoder = document_encoder(writer.reader, tiny.wordpiece())
    documents = encoder.encode(TEXTS, ["en"] * len(TEXTS), 9)
    batch = make_batch(documents, range(len(documents)))
    numbers = torch.arange(len(batch.input_ids), dtype=torch.float64)[:, None] + 1
    padded, mask = pad_documents(numbers, batch)
    assert (padded[..., 0] > 0).equal(mask)
    ids = torch.cat([torch.zeros(1, dtype=torch.long), batch.input_ids])
    for row, index in enumerate(batch.documents):
        found = ids[padded[row, mask[row], 0].long()].tolist()
        assert sorted(found) == sorted(documents[index].input_ids.tolist())
    assert len(documents[-1].window_lengths) > 1


def labelled(writer: Writer) -> LabelledBatch:
    examples = []
    for document, summary in zip(read(writer), SUMMARIES, strict=True):
        labels = torch.zeros(document.num_read_sentences).numpy()
        examples.append(
            Example(document, sentence_labels=labels, sentiment_label=IGNORE, summary=summary)
        )
    return labelled_batch(examples)


def loss_module(writer: Writer, smoothing: float) -> WritingLoss:
    targets = TargetTokenizer(tokenizer=tiny.wordpiece(), max_tokens=MOST)
    return WritingLoss(writer, targets, label_smoothing=smoothing, dtype="float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs(smoothing: float) -> None:
    """Over padded logits and labels with an index to ignore, and by the formula."""
    writer = tiny_writer.writer().float()
    batch = labelled(writer)
    module = loss_module(writer, smoothing)
    total = module(batch)[0] / module.count_labels([batch], torch.device("cpu"))[0]
    targets = targets_of([example.summary or "" for example in batch.examples])
    documents, mask = pad_documents(writer.reader.token_vectors(batch.batch), batch.batch)
    logits = writer.model.decoder(
        input_ids=targets.inputs,
        encoder_hidden_states=documents,
        encoder_attention_mask=mask.long(),
    ).logits
    expected = F.cross_entropy(
        logits.flatten(0, 1),
        targets.labels.flatten(),
        label_smoothing=smoothing,
        ignore_index=IGNORE,
    )
    torch.testing.assert_close(total, expected)
    # Szegedy et al. 2016: (1 - s) of the target's log-probability, and s of the mean of all
    scores = logits.log_softmax(-1)[targets.labels != IGNORE]
    right = scores.gather(1, targets.labels[targets.labels != IGNORE][:, None])[:, 0]
    by_hand = -((1 - smoothing) * right + smoothing * scores.mean(1)).mean()
    torch.testing.assert_close(total, by_hand)


def test_gradients_reach_encoder_and_decoder_and_no_head() -> None:
    writer = tiny_writer.writer().float()
    module = loss_module(writer, 0.1)
    module(labelled(writer)).sum().backward()
    for name, weight in writer.model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
    others = set(writer.reader.parameters()) - set(writer.model.parameters())
    assert others and all(weight.grad is None for weight in others)
    # a worker without rows has zeros, which the others can add
    assert loss_module(writer, 0.1)(None).tolist() == [0.0]


def test_word_vectors_are_the_encoders_and_the_output_matrix() -> None:
    encoder, tokenizer = tiny.encoder(), tiny.wordpiece()
    config = DecoderConfig.model_validate(tiny_writer.DECODER)
    model = make_model(encoder, tokenizer, config, segments=True)
    words = model.decoder.bert.embeddings.word_embeddings.weight
    assert words is model.decoder.cls.predictions.decoder.weight
    assert words.equal(encoder.embeddings.word_embeddings.weight)
    assert words is not encoder.embeddings.word_embeddings.weight  # they learn at other rates


def test_targets() -> None:
    """A cut reference has no end; an author's [SEP] is text."""
    tokenizer = tiny.wordpiece()
    make = TargetTokenizer(tokenizer=tokenizer, max_tokens=4)
    read(tiny_writer.writer())  # as in a run, which sets the tokenizer up
    cls, sep, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    the, cat, dog = tokenizer.convert_tokens_to_ids(["the", "cat", "dog"])
    targets = make.targets(["the cat\ndog the cat", "dog"])
    assert targets.inputs.tolist() == [[cls, the, cat, dog], [cls, dog, pad, pad]]
    assert targets.labels.tolist() == [[the, cat, dog, the], [dog, sep, IGNORE, IGNORE]]
    assert make.count(["the cat\ndog the cat", "dog"]) == 6


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "bert",
            {"num_heads": 5},
            r"decoder.num_heads=5 does not divide .* size 32; allowed are 1, 2, 4, 8, 16, 32",
        ),
        ("electra", {}, "word vectors have 16 features, and not as many .* 32"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(kind: str, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_writer.writer(kind, **changes)


def test_a_model_that_writes_chooses_no_sentences(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="which writes summaries and chooses no sentences"):
        Summarizer(save(tiny_writer.writer(), tmp_path))
