"""A whole run: configuration -> rows, model, training, measures, checkpoint in OUTPUT.

Every worker calls `run`; a process without a process group is a run of one worker. OUTPUT, local or
remote, must be the same directory for all workers.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from bertsum.checkpoints.checkpoint import check_base, load_checkpoint, load_encoder
from bertsum.checkpoints.config import CONFIG_FILE
from bertsum.checkpoints.locate import resolve_checkpoint
from bertsum.errors import ConfigError, OutputError
from bertsum.evaluation.worst_examples import WORST_FILE, dump_worst
from bertsum.inference.reader import document_encoder
from bertsum.masking import mask_values
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.storage.folder import Folder
from bertsum.text.encoder import EncodedDocument
from bertsum.training import loop as training
from bertsum.training.adapters import half_products, merge_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.data import read_texts
from bertsum.training.distributed import gather, rank
from bertsum.training.head_checks import (
    LabelCounts,
    check_embedding,
    check_heads,
    count_labels,
    learned_classes,
)
from bertsum.training.heads.embedding import fit_embedding, read_embedding_texts
from bertsum.training.heads.pair_vectors import FloatArray, embed_documents, kept, with_held_vectors
from bertsum.training.heads.query import fit_query, read_query_pairs
from bertsum.training.heads.untrained import UntrainedEncoder
from bertsum.training.model_card import model_card, run_facts
from bertsum.training.new_encoder import (
    ENCODER_DIRECTORY,
    NEW_ENCODER,
    encoder_uri,
    make_encoder,
)
from bertsum.training.optimization import autocast, head_labels
from bertsum.training.results.checkpoint import (
    SavedDelta,
    Tokenizer,
    copy_files,
    round_weights,
    save,
    saved_delta,
)
from bertsum.training.results.files import MEASURES_FILE, RUN_FILE, dump
from bertsum.training.results.log import Report, open_log
from bertsum.training.results.measured import find_worst
from bertsum.training.results.written import check_losses, write_pictures, write_reports
from bertsum.training.start.record import choose_format, read_record
from bertsum.training.start.sources import read_sources, repeated_texts, source_uri
from bertsum.training.state import StateStore, VectorStore, weights_digest
from bertsum.training.steps import StepPlan
from bertsum.training.summaries.run import run_with_decoder
from bertsum.training.validation import LabelledSource, answer, calibrate, measures_of

VECTORS_DIRECTORY = "vectors"
_HELD_TOKENS = 256  # as many as the matrix of an embedding is fitted on

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
    if output.create_exclusive(RUN_FILE, dump(record)):
        return True
    # OUTPUT is claimed already: by this run, when it resumes, or by another one
    recorded = read_record(output)
    differing = []  # keys that decide what a run makes
    for key in sorted((recorded.keys() | record.keys()) - set(_FREE_KEYS)):
        is_kept = key == "dtype" and config.dtype == "auto"  # see `choose_format`
        if recorded.get(key) != record.get(key) and not is_kept:
            differing.append(key)
    may_be_untouched = bool(differing) and not is_finished
    if may_be_untouched and StateStore(output, 2).latest() is None and not _has_encoder(output):
        # nothing was written yet: the configuration was mended before the first checkpoint
        output.write_replace(RUN_FILE, dump(record))
    elif differing:
        raise OutputError(
            f"{output} holds a run of another configuration; these differ: {', '.join(differing)}. "
            "Give another directory, or the same configuration to go on"
        )
    return not is_finished


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
                yield from read_texts(source_uri(config, source.train_uri), source)

    with tempfile.TemporaryDirectory() as name:
        make_encoder(Path(name), texts(), config.new_encoder, config.seed)
        copy_files(Path(name), output, f"{ENCODER_DIRECTORY}/")


def run(
    config: TrainingConfig, output: Folder, device: torch.device, command: str, report: Report
) -> None:
    """Train as the configuration says and save the checkpoint, resuming from what OUTPUT has.

    - `command`: for the model card.
    - `report`: on the first worker, gets what `training.train` logs, and `{"message": text}` or
      `{"markdown": text}` for people.

    Raises InputError, ModelError or OutputError, which name what is wrong.
    """
    if config.decoder is not None:
        run_with_decoder(config, config.decoder, output, device, command, report)
        return
    start = time.monotonic()
    say: Report = report if rank() == 0 else lambda line: None
    saved = saved_delta(config)
    model, tokenizer = _start(config, output, saved, say)
    check_embedding(model, config)
    sources = read_sources(config, model.config, document_encoder(model, tokenizer), say)
    num_rows, counts = _count(sources)
    warnings = check_heads(config, model.config, counts) + repeated_texts(sources)
    for warning in warnings:
        say({"message": f"warning: {warning}"})
    model.to(device)
    config = choose_format(config, output, device, say)
    vectors = VectorStore(Folder(config.vectors_uri or f"{output.uri}/{VECTORS_DIRECTORY}"))
    if config.trained != "all":
        training.freeze(model, config.trained)
        sources = _with_vectors(model, sources, config, vectors, say)
    sources = _with_held_vectors(model, sources, config, vectors, say)
    if config.has_steps:
        _take_steps(model, sources, config, output, say)
    merge_adapter(model)
    fitted = []
    if rank() == 0:  # the worker that saves
        for sentence in _fit_heads(model, tokenizer, config, say):
            say({"message": sentence})
            fitted.append(sentence)
    # rounded before it is measured, so that the measures are of what users load
    delta = round_weights(model, saved, say) if saved else None
    answered = answer(model, sources, None, config.dtype, say)
    # What was not trained on shows how the probabilities are elsewhere, so it must not decide them.
    trained_on = {source.name for source in config.sources if source.train_uri is not None}
    fitted_on = {name: parts for name, parts in answered.items() if name in trained_on}
    temperatures = calibrate(model, fitted_on, learned_classes(config, model.config, counts))
    for sentence in temperatures:
        say({"message": sentence})
    results = {name: measures_of(model, parts) for name, parts in answered.items()}
    check_losses(results)
    worst = find_worst(model, sources, answered, most=config.worst_examples, dtype=config.dtype)
    if rank() == 0:
        facts = [*run_facts(command, time.monotonic() - start), *warnings, *temperatures, *fitted]
        output.write_replace(MEASURES_FILE, dump(results))
        output.write_replace(WORST_FILE, dump_worst(worst))
        reports = write_reports(output, model, sources, answered)
        pictures = write_pictures(output, reports, say)
        card = model_card(config, num_rows, results, facts, pictures)
        measured = card.partition("## Measured")[2].partition("## Pictures")[0]
        say({"markdown": f"## Measured{measured}"})
        if config.vectors_uri is None:
            vectors.clear()  # all workers have measured, so that nobody needs them
        say({"message": save(output, model.cpu(), delta, tokenizer, card)})


def _take_steps(
    model: BertSum,
    sources: Sequence[LabelledSource],
    config: TrainingConfig,
    output: Folder,
    say: Report,
) -> None:
    """Train the model, and log it in OUTPUT."""
    is_lora = config.lora_rank is not None and config.adapter == "lora"
    on_gpu = next(model.parameters()).device.type == "cuda"
    can_be_half = is_lora and config.dtype == "bfloat16" and on_gpu
    with (
        open_log(output, config, say) as (store, log),
        half_products(model) if can_be_half else nullcontext(),
    ):
        training.train(model, sources, config, log.add, store, before_save=log.flush)


def _fit_heads(
    model: BertSum, tokenizer: Tokenizer, config: TrainingConfig, report: Report
) -> Iterator[str]:
    """Fit what no step trains: the embedding and the weights of queries. Yields a sentence each."""

    def uri_of(uri: str) -> str:
        return source_uri(config, uri)

    if config.embedding is not None:
        texts = read_embedding_texts(config.embedding, uri_of, config.seed)
        yield fit_embedding(
            model,
            tokenizer,
            config.encoder,
            config.embedding,
            texts,
            goes_on=config.keeps_matrix,
            dtype=config.dtype,
            seed=config.seed,
            report=report,
        )
    if config.query is not None:
        sets = read_query_pairs(config.query, uri_of, config.seed)
        yield fit_query(model, tokenizer, config.query, sets, report)


def _start(
    config: TrainingConfig, output: Folder, saved: SavedDelta | None, say: Report
) -> tuple[BertSum, Tokenizer]:
    """The model before the first step, and its tokenizer.

    Raises ConfigError where other classes are asked for than a head of `start_from` has.
    """
    torch.manual_seed(config.seed)
    if config.start_from is None:
        encoder, tokenizer = load_encoder(encoder_uri(config, output))
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
    elif config.trained == "embedding":  # what needs no new weights
        lead = config.model.model_dump(include={"embedding_lead_tokens"}, exclude_unset=True)
        model.config = model.config.model_copy(update=lead)
    if config.trained == "all":
        training.open_encoder(model, config)
    elif saved and saved.unchanged is None:
        round_weights(model, saved, say)  # the heads learn on the encoder that will be loaded
    return model, tokenizer


def _count(sources: Iterable[LabelledSource]) -> tuple[dict[str, int], LabelCounts]:
    """Rows to train on by source, and how often they have each label, of all workers."""
    num_rows: dict[str, int] = {}
    counts: LabelCounts = Counter()
    for source in sources:
        num_rows[source.config.name] = sum(gather(len(source.train)))
        for worker_counts in gather(count_labels(source.train)):
            counts += worker_counts
    return num_rows, counts


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
            train = training.compute_vectors(model, train, config.dtype, store, say)
        validation = training.compute_vectors(model, source.validation, config.dtype, store, say)
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
    model: BertSum,
    sources: list[LabelledSource],
    config: TrainingConfig,
    store: VectorStore,
    say: Report,
) -> list[LabelledSource]:
    """The sources with the vectors to hold of their training rows, read from `store` or computed.

    A run that goes on asks for them before it takes up the weights of its checkpoint.
    """
    if not any(source.config.hold_vectors for source in sources):
        return sources
    device = next(model.parameters()).device
    if config.hold_to == "encoder":
        untrained = UntrainedEncoder(config.encoder, config.hold_prefix, _HELD_TOKENS, device)
        weights = untrained.digest(config.dtype)
    else:
        weights = weights_digest(f"start {config.dtype}", model.state_dict())

    def embed(documents: Sequence[EncodedDocument]) -> FloatArray:
        if config.hold_to == "encoder":
            with autocast(device, config.dtype):
                return untrained.embed([document.text for document in documents])
        return embed_documents(model, documents, config.dtype)

    embed_once = kept(embed, store, weights, model.encoder.config.hidden_size)
    plan = StepPlan([(source.config.weight, source.train) for source in sources], config)
    completed = []
    for source, is_drawn in zip(sources, plan.drawn(), strict=True):
        start, train = time.monotonic(), source.train
        if source.config.hold_vectors:
            if len(train):
                train = with_held_vectors(train, is_drawn, embed_once, say)
            num_drawn = sum(gather(int(is_drawn.sum())))  # every worker asks, also one without rows
            seconds = time.monotonic() - start
            found = f"{num_drawn:,} rows with vectors to hold ({seconds:.0f} s)"
            say({"message": f"{source.config.name}: {found}"})
        completed.append(LabelledSource(source.config, train, source.validation))
    return completed
