"""A whole run with a decoder: configuration -> rows, model, training, measures, checkpoint.

BertSumAbs begins with a pretrained encoder, BertSumExtAbs with that of an extractive checkpoint
(`start_from`), which has learned before which sentences matter (Liu & Lapata 2019, section 3.3).
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bertsum.checkpoints.checkpoint import CARD_FILE, load_checkpoint, load_encoder
from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.errors import ConfigError
from bertsum.evaluation.worst_examples import WORST_FILE, dump_worst
from bertsum.inference.reader import document_encoder
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example
from bertsum.training.loop import open_encoder, take_steps
from bertsum.training.model_card import model_card, run_facts
from bertsum.training.new_encoder import encoder_uri
from bertsum.training.results.checkpoint import write_files
from bertsum.training.results.files import MEASURES_FILE, REPORT_FILE, dump
from bertsum.training.results.log import Report, open_log
from bertsum.training.results.written import check_losses, write_pictures
from bertsum.training.start.record import choose_format
from bertsum.training.start.sources import read_sources, repeated_texts
from bertsum.training.summaries.config import DecoderConfig
from bertsum.training.summaries.measures import measures_of, source_report, worst_rows
from bertsum.training.summaries.objective import WritingObjective
from bertsum.training.summaries.writer import Writer, make_model
from bertsum.training.validation import LabelledSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def run_with_decoder(
    config: TrainingConfig,
    decoder: DecoderConfig,
    output: Folder,
    device: torch.device,
    command: str,
    report: Report,
) -> None:
    """Train and save, as `bertsum.training.run.run` does for models that choose sentences."""
    start = time.monotonic()
    say: Report = report if rank() == 0 else lambda line: None
    writer, tokenizer = _start(config, decoder, output)
    encoder = document_encoder(writer.reader, tokenizer)
    sources = read_sources(config, writer.reader.config, encoder, say)
    num_rows = {source.config.name: sum(gather(len(source.train))) for source in sources}
    if not any(num_rows.values()):
        raise ConfigError("decoder: no training row has a reference summary to learn from")
    warnings = repeated_texts(sources)
    for warning in warnings:
        say({"message": f"warning: {warning}"})
    writer.to(device)
    config = choose_format(config, output, device, say)
    objective = WritingObjective(writer=writer, tokenizer=tokenizer, config=config, decoder=decoder)
    cuts = [_describe_cuts(source, objective) for source in sources]
    for sentence in cuts:
        say({"message": sentence})
    _take_steps(objective, sources, config, output, say)
    measured = objective.measure(sources)
    results = {name: measures_of(parts) for name, parts in measured.items()}
    check_losses(results)
    if rank() != 0:
        return
    configs = [source.config for source in sources]
    reports = {c.name: source_report(measured[c.name], c) for c in configs if c.name in measured}
    worst = worst_rows(measured, configs, config.worst_examples)
    output.write_replace(MEASURES_FILE, dump(results))
    output.write_replace(REPORT_FILE, dump(reports))
    output.write_replace(WORST_FILE, dump_worst(worst))
    facts = [*run_facts(command, time.monotonic() - start), *warnings, *cuts]
    card = model_card(config, num_rows, results, facts, write_pictures(output, reports, say))
    shown = card.partition("## Measured")[2].partition("## Pictures")[0]
    say({"markdown": f"## Measured{shown}"})
    write_files(output, lambda directory: _save(directory, writer, tokenizer, card))
    say({"message": f"saved the checkpoint in {output}, for `bertsum generate --model`"})


def _start(
    config: TrainingConfig, decoder: DecoderConfig, output: Folder
) -> "tuple[Writer, PreTrainedTokenizerBase]":
    """The model before the first step, and its tokenizer."""
    torch.manual_seed(config.seed)
    segments = config.model.segments
    if config.start_from is None:
        encoder, tokenizer = load_encoder(encoder_uri(config, output))
    else:
        extractive, tokenizer = load_checkpoint(resolve_checkpoint(config.start_from))
        if extractive.prefix is not None:
            raise ConfigError(
                f"decoder: the encoder of start_from={config.start_from} has a prefix "
                f"(model.prefix_tokens={extractive.config.prefix_tokens}), which no decoder can "
                "read through; start from a checkpoint without one"
            )
        encoder, segments = extractive.encoder, extractive.config.segments
    writer = Writer(make_model(encoder, tokenizer, decoder, segments=segments))
    open_encoder(writer.reader, config)
    return writer, tokenizer


def _take_steps(
    objective: WritingObjective,
    sources: Sequence[LabelledSource],
    config: TrainingConfig,
    output: Folder,
    say: Report,
) -> None:
    """Train the model, and log it in OUTPUT."""
    with open_log(output, config, say) as (store, log):
        take_steps(objective, sources, config, log.add, store, before_save=log.flush)


def _describe_cuts(source: LabelledSource, objective: WritingObjective) -> str:
    """A sentence on what is not read of the documents, and not learned of the references."""
    longest, most = objective.writer.form.max_tokens, objective.decoder.max_tokens
    counts = [_count_cuts(source.train, objective), _count_cuts(source.validation, objective)]
    documents, references = (sum(values) for values in zip(*counts, strict=True))
    total = sum(gather(len(source.train) + len(source.validation)))
    return (
        f"{source.config.name}: of {total} documents {sum(gather(documents))} are longer than "
        f"{longest} tokens, and the beginning is read; {sum(gather(references))} references are "
        f"longer than {most}, and are learned up to there."
    )


def _count_cuts(examples: Sequence[Example], objective: WritingObjective) -> tuple[int, int]:
    """Documents and references of this worker that are cut."""
    documents = references = 0
    for example in examples:
        documents += example.document.truncated
        (ids,) = objective.targets.encode([example.summary or ""])
        references += len(ids) > objective.decoder.max_tokens
    return documents, references


def _save(directory: Path, writer: Writer, tokenizer: "PreTrainedTokenizerBase", card: str) -> None:
    """Write what Transformers reads, `config.json` among it."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it is not typed
    writer.model.cpu().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    (directory / CARD_FILE).write_text(card, encoding="utf-8")
