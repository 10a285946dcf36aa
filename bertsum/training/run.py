"""A whole run: configuration -> rows, model, training, measures, checkpoint in OUTPUT.

Every worker calls `run`; one process without a process group is a run of one worker. OUTPUT, local or remote, must be
the same place for all workers.
"""

import json
import math
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
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
from bertsum.checkpoints.locate import resolve
from bertsum.config import ModelConfig, SummarizerConfig, with_defaults
from bertsum.errors import ConfigError, OutputError
from bertsum.inference.summarizer import document_encoder
from bertsum.masking import describe, mask_values
from bertsum.model.bert_sum import BertSum
from bertsum.storage.folder import Folder
from bertsum.text.encoder import DocumentEncoder
from bertsum.training import loop as training
from bertsum.training.adapters import merge_adapter
from bertsum.training.config import SourceConfig, TrainingConfig
from bertsum.training.curves import can_draw, draw_curves
from bertsum.training.data import Sampling, read_examples, read_texts
from bertsum.training.distributed import gather, rank, world_size
from bertsum.training.examples import ExampleFile, labelled, measurable
from bertsum.training.head_checks import check_heads, count_labels
from bertsum.training.model_card import model_card
from bertsum.training.new_encoder import make_encoder
from bertsum.training.optimization import DIVERGED_ADVICE
from bertsum.training.state import StateStore, read_log
from bertsum.training.tracking import Tracking, finite_values, numbers
from bertsum.training.validation import LabelledSource, validate

RUN_FILE, LOG_FILE, MEASURES_FILE = "training_config.json", "training_log.jsonl", "validation.json"
CURVES_FILE = "curves.png"
NEW_ENCODER, ENCODER_DIRECTORY = "new", "encoder"

_LOG_SECONDS = 10.0
_MUCH_LOST = 0.01
# These say how a run is carried out and not what comes out, so that they may change when it goes on.
_FREE_KEYS = (
    "resources",
    "max_worker_failures",
    "checkpoint_every_minutes",
    "kept_checkpoints",
    "tracking",
    "gradient_checkpointing",
)

Report = Callable[[dict[str, Any]], None]


def begin(output: Folder, config: TrainingConfig) -> bool:
    """Claim OUTPUT for a run of `config`; False when the run is finished. No other run may be at work there.

    Raises OutputError where OUTPUT holds what a run of another configuration made, or a checkpoint that is of no run.
    """
    output.sweep_temporary()  # a killed run may have left half of a checkpoint
    is_finished = output.info(CONFIG_FILE) is not None
    record = mask_values(config.model_dump(mode="json"))
    if is_finished and output.info(RUN_FILE) is None:
        raise OutputError(f"{output} holds a checkpoint already, of no run that is known; give an empty directory")
    if output.create_exclusive(RUN_FILE, _dump(record)):
        return True
    theirs, ours = _decisive(_read_record(output)), _decisive(record)
    if theirs != ours and not is_finished and _is_untouched(output):
        output.write_replace(RUN_FILE, _dump(record))
    elif theirs != ours:
        keys = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
        raise OutputError(
            f"{output} holds a run of another configuration; these differ: {', '.join(keys)}. Give another directory, "
            "or the same configuration to go on"
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


def _is_untouched(output: Folder) -> bool:
    """Whether nothing has come yet of the run that claimed OUTPUT."""
    return StateStore(output, 2).latest() is None and output.info(f"{ENCODER_DIRECTORY}/{CONFIG_FILE}") is None


def prepare_encoder(config: TrainingConfig, output: Folder) -> None:
    """With `encoder: new`, make it in OUTPUT/encoder, unless it is there; before any worker starts."""
    if config.encoder != NEW_ENCODER or output.info(f"{ENCODER_DIRECTORY}/{CONFIG_FILE}") is not None:
        return
    places = [(source, _place(config, source.train_uri)) for source in config.sources]
    texts = (text for source, uri in places if uri for text in read_texts(uri, source))
    with tempfile.TemporaryDirectory() as name:
        make_encoder(Path(name), texts, config.new_encoder, config.seed)
        _copy(Path(name), output, f"{ENCODER_DIRECTORY}/")


def run(config: TrainingConfig, output: Folder, device: torch.device, command: str, report: Report) -> None:
    """Train as the configuration says and save the checkpoint, going on from what OUTPUT has.

    `command`: for the model card. `report`: on the first worker, gets what `training.train` logs, and
    `{"message": text}` or `{"markdown": text}` for people. Raises InputError, ModelError or OutputError, which name
    what is wrong.
    """
    start = time.monotonic()
    say = report if rank() == 0 else _be_silent
    base = _base(config)
    model, tokenizer = _start(config, output, base, say)
    sources = _read_sources(config, model.config, document_encoder(model, tokenizer), say)
    num_rows = {source.config.name: sum(gather(len(source.train))) for source in sources}
    counts = [count for source in sources for count in gather(count_labels(source.train))]
    warnings = check_heads(config, model.config, sum(counts, Counter[tuple[str, int]]()))
    for warning in warnings:
        say({"message": f"warning: {warning}"})
    model.to(device)
    if config.trained != "all":
        training.freeze(model, config.trained)
        sources = [_with_vectors(model, source, config.dtype) for source in sources]
    store = StateStore(output, config.kept_checkpoints)
    log = Log(output, store, config, say)
    try:
        training.train(model, sources, config, log.add, store, before_save=log.flush)
        log.close()
    finally:
        log.close_trackers()  # this process may go on to another run
    merge_adapter(model)
    delta = _round(model, *base, say) if base else None  # before it is measured, for that is what users load
    results = validate(model, sources, None, config.dtype)
    _check_losses(results)
    if rank() == 0:
        facts = [*_facts(command, time.monotonic() - start), *warnings]
        card = model_card(config, num_rows, results, facts)
        say({"markdown": "".join(card.partition("## Measured")[1:])})
        output.write_replace(MEASURES_FILE, _dump(results))
        say({"message": _save(output, model.cpu(), delta, tokenizer, card)})


class Log:
    """`training_log.jsonl`: what was logged, a line each, written whole since a store cannot append: now and then, and
    before each checkpoint, so that a run that goes on from one finds the lines of all steps before it.
    """

    def __init__(self, output: Folder, store: StateStore, config: TrainingConfig, report: Report) -> None:
        """Takes up the log of the run at its newest checkpoint. Trackers get the same lines."""
        state = store.latest(on_damage=lambda text: report({"message": text}))
        trackers = config.tracking if rank() == 0 else ()
        record = mask_values(config.model_dump(mode="json"))
        step = state.step if state else 0
        self._tracking = Tracking(trackers, output, record, step, say=lambda text: report({"message": text}))
        self._lines = read_log(output, LOG_FILE, state.step) if state else []
        if state:
            report({"message": f"going on from step {state.step}"})
        self._output, self._report = output, report
        self._written_at = time.monotonic()

    def add(self, values: dict[str, Any]) -> None:
        """One more line."""
        self._lines.append(values)
        self._tracking.add(values)
        if time.monotonic() - self._written_at > _LOG_SECONDS:
            self.flush()
        self._report(values)  # last: who listens may end the run

    def flush(self) -> None:
        """Write what there is."""
        if rank() == 0:
            text = "".join(json.dumps(finite_values(line)) + "\n" for line in self._lines)
            self._output.write_replace(LOG_FILE, text.encode())
        self._written_at = time.monotonic()

    def close(self) -> None:
        """Write everything, also the curves."""
        self.flush()
        if rank() == 0 and can_draw() and self._lines:
            self._output.write_replace(CURVES_FILE, draw_curves(self._lines))

    def close_trackers(self) -> None:
        """End the run in all trackers, however it ended."""
        self._tracking.close()


def _base(config: TrainingConfig) -> tuple[BaseEncoder, int] | None:
    """The encoder that the checkpoint is saved as a difference to, and the rank of that; None: it is saved whole."""
    base, rank = None, 0
    if config.start_from is not None:
        base, rank = read_base(resolve(config.start_from))
    elif config.encoder.startswith(PACKAGE_PREFIX):
        base = package_encoder(config.encoder)
    if config.saved_rank:
        return base or package_encoder(config.encoder), config.saved_rank
    if base is None or config.learned_rank is None:
        return None
    return base, max(1, rank + config.learned_rank)


def _round(model: BertSum, base: BaseEncoder, rank: int, say: Report) -> Delta:
    """Give the model the weights that will be loaded when it was saved."""
    delta = make_delta(model, base, rank)
    if delta.lost > _MUCH_LOST:
        lost = f"{delta.lost:.0%} of a weight's difference to the encoder in {base.path}"
        say({"message": f"rank {rank} loses up to {lost}"})
    model.load_state_dict(delta.merged)
    return delta


def _start(
    config: TrainingConfig, output: Folder, base: tuple[BaseEncoder, int] | None, say: Report
) -> tuple[BertSum, Any]:
    """The model before the first step, and its tokenizer."""
    torch.manual_seed(config.seed)
    if config.start_from is None:
        is_new = config.encoder == NEW_ENCODER
        encoder, tokenizer = load_encoder(f"{output.uri}/{ENCODER_DIRECTORY}" if is_new else config.encoder)
        return training.build_model(encoder, config), tokenizer
    model, tokenizer = load_checkpoint(resolve(config.start_from))
    _check_labels(config, model.config)
    if base:
        check_base(model, base[0])
    if config.new_heads:
        model = training.renew_heads(model, config)
    if config.trained == "all":
        training.open_encoder(model, config)
    elif base:
        _round(model, *base, say)  # the heads learn on the encoder that will be loaded
    return model, tokenizer


def _check_labels(config: TrainingConfig, model: ModelConfig) -> None:
    """Raise ConfigError where classes are asked for that the head of `start_from` does not have."""
    for head in ("sentiment", "topic", "token_sentiment"):
        configs = (config.model, ModelConfig(), model)
        asked, default, there = (getattr(config, f"{head}_labels") for config in configs)
        if head not in config.new_heads and asked not in (default, there):
            raise ConfigError(
                f"model.{head}_labels asks for {list(asked)}, and start_from has {list(there)}, which "
                f"count: leave the key out, or let the head begin anew (new_heads: [{head}])"
            )


def _read_sources(
    config: TrainingConfig, model: ModelConfig, encoder: DocumentEncoder, report: Report
) -> list[LabelledSource]:
    sources = []
    for source in config.sources:
        start = time.monotonic()

        def read(
            uri: str | None, source: SourceConfig = source, *, max_windows: int, max_rows: int | None = None
        ) -> ExampleFile:
            if uri is None:
                return ExampleFile.write(())
            drawn = Sampling(seed=config.seed, max_rows=max_rows)
            return read_examples(uri, source, encoder, model, max_windows=max_windows, sampling=drawn)

        train = read(_place(config, source.train_uri), max_rows=source.max_documents, max_windows=source.max_windows)
        validation = read(_place(config, source.validation_uri), max_windows=SummarizerConfig().max_windows)
        sources.append(LabelledSource(source, labelled(train), measurable(validation)))
        kept = len(sources[-1].train), len(sources[-1].validation)
        unlabelled = len(train) + len(validation) - sum(kept)
        empty = train.num_skipped + validation.num_skipped
        counts = gather((*kept, unlabelled, empty))
        num_train, num_validation, num_unlabelled, num_empty = map(sum, zip(*counts, strict=True))
        text = f"{source.name}: {num_train} rows to train on, {num_validation} to measure on"
        text += f", {num_unlabelled} without a label left out" if num_unlabelled else ""
        text += f", {num_empty} without text left out" if num_empty else ""
        report({"message": f"{text} ({time.monotonic() - start:.0f} s)"})
    return sources


def _place(config: TrainingConfig, uri: str | None) -> str | None:
    if uri is None or "://" in uri or uri.startswith("/"):
        return uri
    return f"{config.data_root}/{uri}"


def _with_vectors(model: BertSum, source: LabelledSource, dtype: str) -> LabelledSource:
    train, validation = (
        training.compute_vectors(model, examples, dtype) for examples in (source.train, source.validation)
    )
    return LabelledSource(source.config, train, validation)


def _check_losses(results: Mapping[str, Any]) -> None:
    """Raise FloatingPointError for a model whose answers are no numbers, as after one step that is far too long."""
    wrong = [name for name, value in numbers(results) if name.endswith("_loss") and not math.isfinite(value)]
    if wrong:
        raise FloatingPointError(f"{', '.join(wrong)} of the trained model is not a number{DIVERGED_ADVICE}")


def _save(output: Folder, model: BertSum, delta: Delta | None, tokenizer: Any, card: str) -> str:
    """Write the checkpoint to OUTPUT, `config.json` last: from then on the run is finished."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            if delta:
                save_delta(directory, model, delta, card, bertsum.__version__)
            else:
                save_checkpoint(directory, model, tokenizer, card, bertsum.__version__)
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
    """All files, `config.json` last: without it a directory holds no model."""
    for path in sorted(directory.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        output.write_replace(f"{prefix}{path.name}", path.read_bytes())


def _facts(command: str, seconds: float) -> list[str]:
    minutes, rest = divmod(round(seconds), 60)
    workers = f"{world_size()} workers of " if world_size() > 1 else ""
    return [
        f"A BERTSUM model, trained by bertsum {bertsum.__version__} on {date.today()} in {minutes // 60}:"
        f"{minutes % 60:02d}:{rest:02d} ({workers}{torch.get_num_threads()} threads, {platform.machine()}) with:",
        f"    {command}",
    ]


def _decisive(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in _FREE_KEYS}


def _dump(values: Any) -> bytes:
    return (json.dumps(finite_values(values), indent=1) + "\n").encode()


def _be_silent(values: dict[str, Any]) -> None:
    pass
