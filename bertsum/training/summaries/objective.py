"""What the steps of a run with a decoder learn, and how it is measured on the way and at its end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.evaluation.rouge import Rouge, rouge
from bertsum.generation.sentence_input import SentenceInput
from bertsum.generation.seq2seq import Seq2Seq
from bertsum.generation.task import Task
from bertsum.inference.summarizer import Summarizer
from bertsum.schema import Document
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import gather
from bertsum.training.examples import Example, select
from bertsum.training.optimization import SummedLosses
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.summaries.loss import WritingLoss
from bertsum.training.summaries.measures import (
    Part,
    measure_written,
    measures_of,
    token_measures,
    write,
)
from bertsum.training.summaries.targets import TargetTokenizer
from bertsum.training.summaries.writer import Writer
from bertsum.training.validation import LabelledSource, Measures, draw, read_metric

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingObjective:
    """Encoder and decoder learn to write reference summaries."""

    writer: Writer
    tokenizer: "PreTrainedTokenizerBase"
    config: TrainingConfig
    decoder: DecoderConfig

    @property
    def model(self) -> nn.Module:
        """The EncoderDecoderModel."""
        return self.writer.model

    @property
    def targets(self) -> TargetTokenizer:
        """Makes targets of references."""
        return TargetTokenizer(tokenizer=self.tokenizer, max_tokens=self.decoder.max_tokens)

    def loss_module(self) -> SummedLosses:
        """The loss of target tokens."""
        smoothing, dtype = self.decoder.label_smoothing, self.config.dtype
        return WritingLoss(self.writer, self.targets, label_smoothing=smoothing, dtype=dtype)

    def validate(self, sources: Iterable[LabelledSource]) -> dict[str, Measures]:
        """Measures by source, of summaries that are written greedily."""
        most = self.config.max_validation_rows
        results = {}
        for source in sources:
            if sum(gather(len(source.validation))):
                part = self._measure(source, most, num_beams=1)
                results[source.config.name] = measures_of(gather(part))
        return results

    def check_metric(self, sources: Iterable[LabelledSource], names: Sequence[str]) -> None:
        """Raise ConfigError where `validate` would not give these measures; one row tells."""
        few = []
        for source in sources:
            first = select(source.validation, range(min(1, len(source.validation))))
            few.append(LabelledSource(source.config, train=[], validation=first))
        read_metric(self.validate(few), names)

    def measure(self, sources: Iterable[LabelledSource]) -> dict[str, list[Part]]:
        """The parts of all workers by source, of all rows, with the beams of the search.

        Beside the summaries stand those of the checkpoint that the run began with, if there is one.
        """
        parts = {}
        for source in sources:
            if sum(gather(len(source.validation))):
                part = self._measure(source, None, num_beams=None, beside=self.config.start_from)
                parts[source.config.name] = gather(part)
        return parts

    def _measure(
        self,
        source: LabelledSource,
        max_rows: int | None,
        *,
        num_beams: int | None,
        beside: str | None = None,
    ) -> Part:
        """Measure this worker's rows. `beside`: an extractive checkpoint."""
        examples = draw(source, max_rows)
        loss, num_tokens, num_right = token_measures(
            self.writer, self.targets, examples, self.config.dtype
        )
        num_written = self.decoder.measured_summaries
        chosen = list(draw(source, min(num_written, max_rows or num_written)))
        documents = [example.document for example in chosen]
        summaries = write(self._seq2seq(), documents, num_beams)
        extractive = None
        if beside is not None:
            extractive = extractive_rouge(beside, chosen, source.config, self.writer.model.device)
        return Part(
            num_rows=len(examples),
            loss=loss,
            num_tokens=num_tokens,
            num_right=num_right,
            written=measure_written(chosen, summaries, source.config, extractive),
        )

    def _seq2seq(self) -> Seq2Seq:
        """The model as `bertsum generate` has it."""
        tokenizer: Any = self.tokenizer
        form = self.writer.form
        return Seq2Seq(
            model=self.writer.model,
            tokenizer=tokenizer,
            task=Task(),
            max_input_tokens=form.max_tokens,
            max_output_tokens=self.decoder.max_tokens,
            sentence_input=SentenceInput(tokenizer, form),
        )


def extractive_rouge(
    checkpoint: str, examples: Sequence[Example], source: SourceConfig, device: torch.device
) -> list[Rouge]:
    """ROUGE of the sentences that an extractive checkpoint chooses, of whole documents."""
    selection = SelectionConfig(size=source.num_summary_sentences)
    summarizer = Summarizer(
        str(resolve_checkpoint(checkpoint)),
        SummarizerConfig(selection=selection),
        device=str(device),
    )
    documents = [Document(e.document.text, e.document.language) for e in examples]
    scores = []
    for example, prediction in zip(examples, summarizer.predict(documents), strict=True):
        lines = []
        for span in prediction.summary_spans or ():
            sentence = example.document.text[span["start"] : span["start"] + span["length"]]
            lines.append(" ".join(sentence.split()))
        scores += rouge(["\n".join(lines)], [example.summary or ""], example.document.language)
    return scores
