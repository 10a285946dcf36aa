"""A whole run: configuration -> rows, model, training, measures, checkpoint in OUTPUT.

Every worker calls `run`; a process without a process group is a run of one worker. OUTPUT, local or
remote, must be the same directory for all workers.
"""

import json
import math
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

import bertsum
from bertsum.checkpoints.checkpoint import (
    check_base,
    load_checkpoint,
    load_encoder,
    make_delta,
    read_base,
    save_checkpoint,
    save_delta,
)
from bertsum.checkpoints.config import CONFIG_FILE, PACKAGE_PREFIX, BaseEncoder, package_encoder
from bertsum.checkpoints.encoder_delta import Delta
from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.config import SummarizerConfig
from bertsum.config_base import with_defaults
from bertsum.errors import ConfigError, OutputError
from bertsum.evaluation.worst_examples import WORST_FILE, dump_worst
from bertsum.inference.arguments import choose_dtype
from bertsum.inference.reader import document_encoder
from bertsum.masking import describe, mask_values
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.storage.folder import Folder
from bertsum.text.encoder import DocumentEncoder
from bertsum.training import loop as training
from bertsum.training.adapters import half_products, merge_adapter
from bertsum.training.config import SourceConfig, TrainingConfig
from bertsum.training.curves import can_draw, draw_curves
from bertsum.training.data import Sampling, read_examples, read_texts
from bertsum.training.distributed import gather, rank, world_size
from bertsum.training.examples import ExampleFile, labelled, measurable
from bertsum.training.head_checks import (
    LabelCounts,
    check_heads,
    count_labels,
    learned_classes,
)
from bertsum.training.heads.embedding import fit_embedding, read_embedding_texts
from bertsum.training.heads.pair_vectors import with_held_vectors
from bertsum.training.heads.query import fit_query, read_query_pairs
from bertsum.training.model_card import model_card
from bertsum.training.new_encoder import make_encoder
from bertsum.training.optimization import DIVERGED_ADVICE, head_labels
from bertsum.training.results.files import (
    CURVES_FILE,
    LOG_FILE,
    MEASURES_FILE,
    REPORT_FILE,
    RUN_FILE,
)
from bertsum.training.results.measured import draw_pictures, find_worst, source_report
from bertsum.training.state import LogLine, StateStore, VectorStore, read_log
from bertsum.training.tracking import Tracking, finite_values, numbers
from bertsum.training.validation import (
    LabelledSource,
    Measures,
    Part,
    answer,
    calibrate,
    measures_of,
)

VECTORS_DIRECTORY = "vectors"
NEW_ENCODER, ENCODER_DIRECTORY = "new", "encoder"

_LOG_SECONDS = 10.0
_MUCH_LOST = 0.01  # of a weight's difference to the encoder: people are told
# These say how a run is carried out and not what it makes, so they may change when it resumes.
_FREE_KEYS = (
    "resources",
    "max_worker_failures",
    "checkpoint_every_minutes",
    "kept_checkpoints",
    "tracking",
    "gradient_checkpointing",
    "vectors_uri",
    "worst_examples",
)

Report = Callable[[LogLine], None]
Tokenizer = Any  # of Transformers, which carries no types


def claim_output(output: Folder, config: TrainingConfig) -> bool:
    """Claim OUTPUT for a run of `config`. Returns False when the run is finished.

    No other run may be at work there. Raises OutputError where OUTPUT holds what a run of another
    configuration made, or a checkpoint that no run made.
    """
    output.sweep_temporary()  # a killed run may have left half of a checkpoint
    is_finished = output.info(CONFIG_FILE) is not None
    record = mask_values(config.model_dump(mode="json"))
    if is_finished and output.info(RUN_FILE) is None:
        raise OutputError(
            f"{output} holds a checkpoint already, of no run that is known; give an empty directory"
        )
    if output.create_exclusive(RUN_FILE, _dump(record)):
        return True
    # OUTPUT is claimed already: by this run, when it resumes, or by another one
    recorded = _read_record(output)
    differing = []  # keys that decide what a run makes
    for key in sorted((recorded.keys() | record.keys()) - set(_FREE_KEYS)):
        is_kept = key == "dtype" and config.dtype == "auto"  # see `_choose_format`
        if recorded.get(key) != record.get(key) and not is_kept:
            differing.append(key)
    may_be_untouched = bool(differing) and not is_finished
    if may_be_untouched and StateStore(output, 2).latest() is None and not _has_encoder(output):
        # nothing was written yet: the configuration was mended before the first checkpoint
        output.write_replace(RUN_FILE, _dump(record))
    elif differing:
        raise OutputError(
            f"{output} holds a run of another configuration; these differ: {', '.join(differing)}. "
            "Give another directory, or the same configuration to go on"
        )
    return not is_finished


def _read_record(output: Folder) -> dict[str, Any]:
    """The configuration of the run in OUTPUT, with the defaults of keys that came later than it."""
    try:
        return with_defaults(TrainingConfig, json.loads(output.read_bytes(RUN_FILE)))
    except ValueError as error:
        raise OutputError(
            f"{output}/{RUN_FILE} is damaged: {error}. It says of which configuration the "
            "checkpoints are; put it back, or give another directory"
        ) from error


def _has_encoder(output: Folder) -> bool:
    return output.info(f"{ENCODER_DIRECTORY}/{CONFIG_FILE}") is not None


def prepare_encoder(config: TrainingConfig, output: Folder) -> None:
    """With `encoder: new`, make it in OUTPUT/encoder, unless it is there.

    Call it before any worker starts.
    """
    if config.encoder != NEW_ENCODER or _has_encoder(output):
        return

    def texts() -> Iterator[str]:
        for source in config.sources:
            if source.train_uri is not None:
                yield from read_texts(_source_uri(config, source.train_uri), source)

    with tempfile.TemporaryDirectory() as name:
        make_encoder(Path(name), texts(), config.new_encoder, config.seed)
        _copy(Path(name), output, f"{ENCODER_DIRECTORY}/")


def run(
    config: TrainingConfig, output: Folder, device: torch.device, command: str, report: Report
) -> None:
    """Train as the configuration says and save the checkpoint, resuming from what OUTPUT has.

    - `command`: for the model card.
    - `report`: on the first worker, gets what `training.train` logs, and `{"message": text}` or
      `{"markdown": text}` for people.

    Raises InputError, ModelError or OutputError, which name what is wrong.
    """
    start = time.monotonic()
    say: Report = report if rank() == 0 else lambda line: None
    saved = _saved_delta(config)
    model, tokenizer = _start(config, output, saved, say)
    _check_embedding(model, config)
    sources = _read_sources(config, model.config, document_encoder(model, tokenizer), say)
    num_rows: dict[str, int] = {}  # of all workers, as are the counts
    counts: LabelCounts = Counter()
    for source in sources:
        num_rows[source.config.name] = sum(gather(len(source.train)))
        for worker_counts in gather(count_labels(source.train)):
            counts += worker_counts
    warnings = check_heads(config, model.config, counts)
    for warning in warnings:
        say({"message": f"warning: {warning}"})
    model.to(device)
    config = _choose_format(config, output, device, say)
    vectors = VectorStore(Folder(config.vectors_uri or f"{output.uri}/{VECTORS_DIRECTORY}"))
    if config.trained != "all":
        training.freeze(model, config.trained)
        sources = _with_vectors(model, sources, config, vectors, say)
    sources = _with_held_vectors(model, sources, config.dtype)
    store = StateStore(output, config.kept_checkpoints)
    if config.has_steps:
        log = Log(output, store, config, say)
        is_lora = config.lora_rank is not None and config.adapter == "lora"
        can_be_half = is_lora and config.dtype == "bfloat16" and device.type == "cuda"
        try:
            with half_products(model) if can_be_half else nullcontext():
                training.train(model, sources, config, log.add, store, before_save=log.flush)
            log.close()
        finally:
            log.close_trackers()  # this process may go on to another run
    merge_adapter(model)
    fitted: list[str] = []
    if config.embedding is not None and rank() == 0:  # the worker that saves
        texts = read_embedding_texts(
            config.embedding, lambda uri: _source_uri(config, uri), config.seed
        )
        fitted.append(
            fit_embedding(
                model, tokenizer, config.encoder, config.embedding, texts, seed=config.seed
            )
        )
        say({"message": fitted[0]})
    if config.query is not None and rank() == 0:
        sets = read_query_pairs(config.query, lambda uri: _source_uri(config, uri), config.seed)
        fitted.append(fit_query(model, tokenizer, config.query, sets))
        say({"message": fitted[-1]})
    # rounded before it is measured, so that the measures are of what users load
    delta = _round(model, saved, say) if saved else None
    answered = answer(model, sources, None, config.dtype)
    # What was not trained on shows how the probabilities are elsewhere, so it must not decide them.
    trained_on = {source.name for source in config.sources if source.train_uri is not None}
    fitted_on = {name: parts for name, parts in answered.items() if name in trained_on}
    temperatures = calibrate(model, fitted_on, learned_classes(config, model.config, counts))
    for sentence in temperatures:
        say({"message": sentence})
    results = {name: measures_of(model, parts) for name, parts in answered.items()}
    _check_losses(results)
    most, dtype = config.worst_examples, config.dtype
    worst = find_worst(model, sources, answered, most=most, dtype=dtype)
    if rank() == 0:
        facts = [*_facts(command, time.monotonic() - start), *warnings, *temperatures, *fitted]
        output.write_replace(MEASURES_FILE, _dump(results))
        output.write_replace(WORST_FILE, dump_worst(worst))
        reports = _write_reports(output, model, sources, answered)
        pictures = _write_pictures(output, reports, say)
        card = model_card(config, num_rows, results, facts, pictures)
        measured = card.partition("## Measured")[2].partition("## Pictures")[0]
        say({"markdown": f"## Measured{measured}"})
        if config.trained != "all" and config.vectors_uri is None:
            vectors.clear()  # all workers have measured, so that nobody needs them
        say({"message": _save(output, model.cpu(), delta, tokenizer, card)})


def _write_reports(
    output: Folder,
    model: BertSum,
    sources: Iterable[LabelledSource],
    answered: Mapping[str, Sequence[Part]],
) -> dict[str, Measures]:
    """Write the reports on all sources, and return them by source."""
    reports = {}
    for source in sources:
        if source.config.name in answered:
            parts = answered[source.config.name]
            reports[source.config.name] = source_report(model, parts, source.config)
    output.write_replace(REPORT_FILE, _dump(reports))
    return reports


def _write_pictures(output: Folder, reports: Mapping[str, Measures], say: Report) -> list[str]:
    """Write pictures of the reports; returns the names of these and of the curves."""
    names: list[str] = []
    if not can_draw():
        return names
    if output.info(CURVES_FILE) is not None:
        names.append(CURVES_FILE)
    try:
        pictures = draw_pictures(reports)
    except Exception as error:  # of matplotlib, for a label or font: the model is worth more
        say({"message": f"warning: pictures are left out: {describe(error)}"})
        return names
    for name, data in pictures.items():
        output.write_replace(name, data)
    return [*names, *pictures]


class Log:
    """`training_log.jsonl`: what was logged, a line each.

    A store cannot append, so the file is written whole: now and then, and before each checkpoint. A
    run that resumes from a checkpoint so finds the lines of all steps before it.
    """

    def __init__(
        self, output: Folder, store: StateStore, config: TrainingConfig, report: Report
    ) -> None:
        """Take up the log of the run at its newest checkpoint. Trackers get the same lines."""

        def say(text: str) -> None:
            report({"message": text})

        state = store.latest(on_damage=say)
        # the other workers would write the same values once more
        trackers = config.tracking if rank() == 0 else ()
        record = mask_values(config.model_dump(mode="json"))
        step = state.step if state else 0
        self._tracking = Tracking(trackers, output, record, step, say=say)
        self._lines = read_log(output, LOG_FILE, state.step) if state else []
        if state:
            say(f"going on from step {state.step}")
        self._output, self._report = output, report
        self._written_at = time.monotonic()

    def add(self, line: LogLine) -> None:
        """Add a line."""
        self._lines.append(line)
        self._tracking.add(line)
        if time.monotonic() - self._written_at > _LOG_SECONDS:
            self.flush()
        self._report(line)  # last: who listens may end the run

    def flush(self) -> None:
        """Write all lines."""
        if rank() == 0:
            lines = [json.dumps(finite_values(line)) + "\n" for line in self._lines]
            self._output.write_replace(LOG_FILE, "".join(lines).encode())
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Write all lines, and the curves."""
        self.flush()
        if rank() == 0 and can_draw() and self._lines:
            self._output.write_replace(CURVES_FILE, draw_curves(self._lines))

    def close_trackers(self) -> None:
        """End the run in all trackers, however it ended."""
        self._tracking.close()


def _choose_format(
    config: TrainingConfig, output: Folder, device: torch.device, say: Report
) -> TrainingConfig:
    """Put the number format that `dtype: auto` stands for into the configuration.

    A run that OUTPUT records with a format keeps it: before `auto` there was always one.
    """
    name = config.dtype
    if name == "auto" and output.info(RUN_FILE) is not None:
        name = _read_record(output).get("dtype", name)
    if name == "auto":
        # One format for all workers, since they share each batch. Gradients would leave the range
        # of float16, which `auto` is for inference on some GPUs.
        formats = gather(choose_dtype(name, device))
        name = "bfloat16" if set(formats) == {torch.bfloat16} else "float32"
    if name != config.dtype:
        say({"message": f"dtype: {config.dtype} is {name} here"})
    return config.model_copy(update={"dtype": name})


@dataclass(frozen=True, slots=True, kw_only=True)
class _SavedDelta:
    """What the checkpoint is saved as a difference to."""

    base: BaseEncoder
    rank: int
    # the delta checkpoint whose encoder the model has, where the encoder does not learn
    unchanged: Path | None = None


def _saved_delta(config: TrainingConfig) -> _SavedDelta | None:
    """How the checkpoint is saved; None: whole."""
    base, first_rank, start = None, 0, None
    if config.start_from is not None:
        start = resolve_checkpoint(config.start_from)
        base, first_rank = read_base(start)
    elif config.encoder.startswith(PACKAGE_PREFIX):
        base = package_encoder(config.encoder)
    if config.saved_rank:
        return _SavedDelta(base=base or package_encoder(config.encoder), rank=config.saved_rank)
    if base is None or config.learned_rank is None:
        return None
    unchanged = None if config.learned_rank else start
    # a sum of matrices has at most the sum of their ranks
    rank = max(1, first_rank + config.learned_rank)
    return _SavedDelta(base=base, rank=rank, unchanged=unchanged)


def _round(model: BertSum, saved: _SavedDelta, say: Report) -> Delta:
    """Give the model the weights that a user of the saved delta will load."""
    delta = make_delta(model, saved.base, saved.rank, saved.unchanged)
    if delta.lost > _MUCH_LOST:
        lost = f"{delta.lost:.0%} of a weight's difference to the encoder in {saved.base.path}"
        say({"message": f"rank {saved.rank} loses up to {lost}"})
    model.load_state_dict(delta.merged)
    return delta


def _start(
    config: TrainingConfig, output: Folder, saved: _SavedDelta | None, say: Report
) -> tuple[BertSum, Tokenizer]:
    """The model before the first step, and its tokenizer.

    Raises ConfigError where other classes are asked for than a head of `start_from` has.
    """
    torch.manual_seed(config.seed)
    if config.start_from is None:
        is_new = config.encoder == NEW_ENCODER
        encoder_uri = f"{output.uri}/{ENCODER_DIRECTORY}" if is_new else config.encoder
        encoder, tokenizer = load_encoder(encoder_uri)
        return training.build_model(encoder, config), tokenizer
    model, tokenizer = load_checkpoint(resolve_checkpoint(config.start_from))
    defaults, available = head_labels(ModelConfig()), head_labels(model.config)
    for head, asked in head_labels(config.model).items():
        if head not in config.new_heads and asked not in (defaults[head], available[head]):
            raise ConfigError(
                f"model.{head}_labels asks for {list(asked)}, and start_from has "
                f"{list(available[head])}, which count: leave the key out, or let the head begin "
                f"anew (new_heads: [{head}])"
            )
    if saved:
        check_base(model, saved.base)
    if config.new_heads:
        model = training.renew_heads(model, config)
    if config.trained == "all":
        training.open_encoder(model, config)
    elif saved and saved.unchanged is None:
        _round(model, saved, say)  # the heads learn on the encoder that will be loaded
    return model, tokenizer


def _check_embedding(model: BertSum, config: TrainingConfig) -> None:
    """Raise ConfigError where the embedding head would be missing, or not fit its encoder."""
    if config.embedding is not None and model.embedding is None:
        raise ConfigError(
            "embedding fits a matrix on model.embedding_layers, which start_from lacks: let it "
            "begin anew (new_heads: [embedding])"
        )
    changes_encoder = config.trained == "all" and not config.learns_pairs
    if config.embedding is None and model.embedding is not None and changes_encoder:
        raise ConfigError(
            "start_from has an embedding head, which fits the encoder as it is, and trained: all "
            "changes the encoder: give texts to fit it on anew (embedding.texts), or pairs from "
            "which the encoder learns to give the right vectors through it (query_column)"
        )


def _read_sources(
    config: TrainingConfig, model: ModelConfig, encoder: DocumentEncoder, report: Report
) -> list[LabelledSource]:
    """Read this worker's part of all sources, and report what all workers read."""
    sources = []
    for source in config.sources:
        start = time.monotonic()

        def read(
            uri: str | None,
            max_windows: int,
            max_rows: int | None = None,
            source: SourceConfig = source,
        ) -> ExampleFile:
            if uri is None:
                return ExampleFile.write(())
            return read_examples(
                _source_uri(config, uri),
                source,
                encoder,
                model,
                max_windows=max_windows,
                sampling=Sampling(seed=config.seed, max_rows=max_rows),
            )

        train = read(source.train_uri, source.max_windows, source.max_documents)
        # measured on as many windows as a job reads
        validation = read(source.validation_uri, SummarizerConfig().max_windows)
        kept = LabelledSource(source, labelled(train), measurable(validation))
        sources.append(kept)
        counts = {
            "rows to train on": len(kept.train),
            "to measure on": len(kept.validation),
            "without a label left out": len(train) - len(kept.train),
            "without text left out": train.num_skipped + validation.num_skipped,
        }
        # rows of both files are left out of the run
        counts["without a label left out"] += len(validation) - len(kept.validation)
        report({"message": _describe(source.name, counts, time.monotonic() - start)})
    return sources


def _with_vectors(
    model: BertSum,
    sources: Iterable[LabelledSource],
    config: TrainingConfig,
    store: VectorStore,
    say: Report,
) -> list[LabelledSource]:
    """The sources with the sentence vectors of all rows, read from `store` or computed.

    Where something is only fitted no step reads training rows, so these get none.
    """
    start = time.monotonic()
    completed = []
    for source in sources:
        train = source.train
        if config.has_steps:
            train = training.compute_vectors(model, train, config.dtype, store)
        validation = training.compute_vectors(model, source.validation, config.dtype, store)
        completed.append(LabelledSource(source.config, train, validation))
    num_read, num_written = sum(gather(store.num_read)), sum(gather(store.num_written))
    say(
        {
            "message": f"sentence vectors: of {num_read + num_written} files in {store.folder} "
            f"{num_written} made now ({time.monotonic() - start:.0f} s)"
        }
    )
    return completed


def _with_held_vectors(
    model: BertSum, sources: Iterable[LabelledSource], dtype: str
) -> list[LabelledSource]:
    """The sources with the vectors to hold of their training rows: those of the model as it is.

    A run that goes on computes them again, before it takes up the weights of its checkpoint.
    """
    completed = []
    for source in sources:
        train = source.train
        if source.config.hold_vectors:
            train = with_held_vectors(model, train, dtype)
        completed.append(LabelledSource(source.config, train, source.validation))
    return completed


def _describe(name: str, counts: Mapping[str, int], seconds: float) -> str:
    """A sentence of the counts of all workers; rows are left out of it where there are none."""
    totals: Counter[str] = Counter()
    for worker_counts in gather(dict(counts)):
        # Counter.update adds, where that of dict replaces
        totals.update(worker_counts)
    parts = []
    for kind, count in totals.items():
        if count or not kind.endswith("left out"):
            parts.append(f"{count} {kind}")
    return f"{name}: {', '.join(parts)} ({seconds:.0f} s)"


def _source_uri(config: TrainingConfig, uri: str) -> str:
    """The URI of a source's file: relative ones start from `data_root`."""
    if "://" in uri or uri.startswith("/"):
        return uri
    return f"{config.data_root}/{uri}"


def _check_losses(results: Mapping[str, Any]) -> None:
    """Raise FloatingPointError for a model that answers with what is not a number.

    One step that is far too long makes such a model.
    """
    wrong = []
    for name, value in numbers(results):
        if name.endswith("_loss") and not math.isfinite(value):
            wrong.append(name)
    if wrong:
        raise FloatingPointError(
            f"{', '.join(wrong)} of the trained model is not a number{DIVERGED_ADVICE}"
        )


def _save(
    output: Folder, model: BertSum, delta: Delta | None, tokenizer: Tokenizer, card: str
) -> str:
    """Write the checkpoint to OUTPUT, and return a message for people.

    `config.json` is written last: from then on the run is finished.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            if delta:
                save_delta(directory, model, delta, card, version=bertsum.__version__)
            else:
                save_checkpoint(directory, model, tokenizer, card, version=bertsum.__version__)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"cannot write the model to a temporary directory in {tempfile.gettempdir()}: "
                f"{describe(error)}. Make room there, or set TMPDIR to a directory that has it"
            ) from error
        _copy(directory, output)
    if delta:
        return f"saved the delta in {output}; relative error of its factors {delta.lost:.1e}"
    return f"saved the checkpoint in {output}"


def _copy(directory: Path, output: Folder, prefix: str = "") -> None:
    """Copy all files, `config.json` last: without it a directory holds no model."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        output.write_replace(f"{prefix}{path.name}", path.read_bytes())


def _facts(command: str, seconds: float) -> list[str]:
    """Paragraphs of the model card that only the run knows."""
    # 3,725 seconds -> 1:02:05
    minutes, rest = divmod(round(seconds), 60)
    duration = f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    workers = f"{world_size()} workers of " if world_size() > 1 else ""
    machine = f"{workers}{torch.get_num_threads()} threads, {platform.machine()}"
    return [
        f"A BERTSUM model, trained by bertsum {bertsum.__version__} on {date.today()} in "
        f"{duration} ({machine}) with:",
        f"    {command}",
    ]


def _dump(values: object) -> bytes:
    return (json.dumps(finite_values(values), indent=1) + "\n").encode()
