"""How well a decoder writes: the loss of the references' tokens, and ROUGE of what it writes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows

from bertsum.evaluation import metrics
from bertsum.evaluation.report import Report, rouge_report
from bertsum.evaluation.rouge import Rouge, mean_rouge, rouge
from bertsum.evaluation.worst_examples import ORACLE, WorstExample, worst_first
from bertsum.generation.config import DecodingConfig, GenerateConfig
from bertsum.generation.decoding import Decoder
from bertsum.generation.endings import whole_sentences
from bertsum.generation.seq2seq import Seq2Seq
from bertsum.model.batches import group_documents
from bertsum.text.encoder import EncodedDocument
from bertsum.text.sentences import split_sentences
from bertsum.training.data import labelled_batch
from bertsum.training.examples import Example
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.summaries.loss import answer
from bertsum.training.summaries.targets import TargetTokenizer
from bertsum.training.summaries.writer import Writer
from bertsum.training.validation import Measures

MODEL, EXTRACTIVE = "model", "extractive"
_BATCH_TOKENS = 8192  # read at once: no gradients are kept, so any device has room for these
_WRITING_TOKENS = 16384  # read and written at once, once for each beam


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSummary:
    """A summary that was written, and the ROUGE of it and of what stands beside it."""

    text: str
    reference: str
    summary: str
    rouge: Rouge
    lead: Rouge
    oracle: Rouge
    extractive: Rouge | None = None  # of the checkpoint that the run began with


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one worker measured of a source."""

    num_rows: int
    loss: float  # sum over target tokens, without label smoothing
    num_tokens: int
    num_right: int  # of these tokens, given all before them
    written: list[WrittenSummary]


@torch.no_grad()
def token_measures(
    writer: Writer, targets: TargetTokenizer, examples: Sequence[Example], dtype: str
) -> tuple[float, int, int]:
    """The summed loss of all target tokens, their number, and how many are the likeliest ones."""
    writer.eval()
    device = writer.model.device
    loss, num_tokens, num_right = 0.0, 0, 0
    documents = [example.document for example in examples]
    for indices in group_documents(documents, _BATCH_TOKENS):
        batch = labelled_batch([examples[index] for index in indices]).to(device)
        logits, labels = answer(writer, targets, batch, dtype)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        num_tokens += len(labels)
        num_right += int((logits.argmax(1) == labels).sum())
    return loss, num_tokens, num_right


def write(
    seq2seq: Seq2Seq, documents: Sequence[EncodedDocument], num_beams: int | None
) -> list[str]:
    """What the model writes of each document, a sentence a line, as `bertsum generate` does.

    `num_beams`: None for as many as the model's files say.
    """
    seq2seq.model.train(False)
    config = GenerateConfig(decoding=DecodingConfig(num_beams=num_beams))
    decoder = Decoder(seq2seq, config)
    texts = [""] * len(documents)
    lengths = [len(document.input_ids) for document in documents]
    for indices in decoder.group(lengths, _WRITING_TOKENS):
        inputs = [documents[index].input_ids.tolist() for index in indices]
        for index, generated in zip(indices, decoder.write(inputs), strict=True):
            language = documents[index].language
            decoded = str(seq2seq.tokenizer.decode(generated.ids, skip_special_tokens=True)).strip()
            text, _ = whole_sentences(decoded, language, is_ended=generated.is_ended)
            spans = split_sentences(text, language)
            texts[index] = "\n".join(text[start:stop] for start, stop in spans)
    return texts


def measure_written(
    examples: Sequence[Example],
    summaries: Sequence[str],
    source: SourceConfig,
    extractive: Sequence[Rouge] | None,
) -> list[WrittenSummary]:
    """Measure what was written of each example beside the lead and the oracle."""
    size = source.num_summary_sentences
    measured = []
    for index, (example, summary) in enumerate(zip(examples, summaries, strict=True)):
        reference = example.summary or ""
        documents = [example.document]
        measured.append(
            WrittenSummary(
                text=example.document.text,
                reference=reference,
                summary=summary,
                rouge=rouge([summary], [reference], example.document.language)[0],
                lead=metrics.lead_rouge(documents, [reference], size)[0],
                oracle=metrics.oracle_rouge(documents, [reference], size)[0],
                extractive=None if extractive is None else extractive[index],
            )
        )
    return measured


def measures_of(parts: Sequence[Part]) -> Measures:
    """Measures of what all workers' parts of a source hold, as `validation.json` has them."""
    written = [row for part in parts for row in part.written]
    result: Measures = {"rows": sum(part.num_rows for part in parts)}
    num_tokens = sum(part.num_tokens for part in parts)
    if num_tokens:
        loss = sum(part.loss for part in parts) / num_tokens
        # of a model that has learned nothing the loss may be more than a float can take e to
        result |= {"abstract_loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        result["token_accuracy"] = sum(part.num_right for part in parts) / num_tokens
    if written:
        ours, lead = [row.rouge for row in written], [row.lead for row in written]
        gain, interval = metrics.mean_difference(ours, lead)
        result |= {
            "written": len(written),
            "rouge": asdict(mean_rouge(ours)),
            "lead": asdict(mean_rouge(lead)),
            "oracle": asdict(mean_rouge([row.oracle for row in written])),
            "rouge_1_over_lead": gain,
            "rouge_1_over_lead_95": interval,
        }
        extractive = [row.extractive for row in written if row.extractive is not None]
        if extractive:
            result[EXTRACTIVE] = asdict(mean_rouge(extractive))
    return result


def source_report(parts: Sequence[Part], source: SourceConfig) -> Report:
    """Report on a source with intervals, in the form of `evaluation_report`."""
    report: Report = {"rows": sum(part.num_rows for part in parts), "rouge": None}
    report |= {name: {} for name in ("sentiment", "topic", "words", "targets")}
    scores = []
    lead = f"LEAD-{source.num_summary_sentences}"
    systems = [MODEL, lead, ORACLE]
    for part in parts:
        for row in part.written:
            values = [astuple(row.rouge), astuple(row.lead), astuple(row.oracle)]
            if row.extractive is not None:
                values.insert(1, astuple(row.extractive))
            scores.append(values)
    if scores:
        if len(scores[0]) > len(systems):
            systems.insert(1, EXTRACTIVE)
        report["rouge"] = rouge_report(np.array(scores), systems, lead)
    return report


def worst_rows(
    parts: Mapping[str, Sequence[Part]], sources: Iterable[SourceConfig], most: int
) -> list[WorstExample]:
    """The summaries of each source that are furthest below the oracle's."""
    examples: list[WorstExample] = []
    if not most:
        return examples
    for source in sources:
        for part in parts.get(source.name, ()):
            for row in part.written:
                examples.append(_worst_example(row, source))
    return worst_first((example for example in examples if example.distance > 0), most)


def _worst_example(row: WrittenSummary, source: SourceConfig) -> WorstExample:
    return WorstExample(
        source=source.name,
        model=MODEL,
        head="summary",
        distance=row.oracle.rouge_1 - row.rouge.rouge_1,
        text=row.text,
        reference=row.reference,
        summary=row.summary,
        rouge_1={
            MODEL: row.rouge.rouge_1,
            f"LEAD-{source.num_summary_sentences}": row.lead.rouge_1,
            ORACLE: row.oracle.rouge_1,
        },
    )
