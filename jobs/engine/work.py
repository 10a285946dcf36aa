"""What the jobs do with the rows of a unit.

A `Work` is pickled to every replica, which loads what it needs there. The imports of models stand
in the functions: the driver needs none of them, and torch takes seconds to import.
"""

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from bertsum.config import SummarizerConfig
from bertsum.errors import ModelError
from bertsum.inference.stream import Stream
from bertsum.job_config import BatchTokens
from bertsum.labels.prepare import DocumentsConfig, Preparer, check_labelled, kept_schema
from bertsum.labels.shards import shard_schema
from bertsum.runs.columns import check_documents, needed_columns, output_schema
from bertsum.runs.input import Shard
from bertsum.runs.records import COUNTED_COLUMNS, CountedColumns, Job
from bertsum.storage.folder import Folder, mask

if TYPE_CHECKING:
    import torch

    from bertsum.evaluation.config import EvaluationConfig
    from bertsum.generation.config import GenerateConfig
    from bertsum.inference.summarizer import Summarizer
    from bertsum.matching.config import MatchConfig

_TENSOR_SHARE = 0.95  # of a process's memory on a GPU; CUDA takes the rest beside the tensors


class Work(Protocol):
    """One kind of job: the files it can use, its columns, and what it does with rows."""

    def check(self, shard: Shard) -> str | None:
        """See `bertsum.runs.columns.Check`."""

    def columns(self, schema: pa.Schema) -> list[str]:
        """Return the columns to read of a file with `schema`."""

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of the output of a file with `schema`.

        See `bertsum.runs.records.encode` for what a column with the status does.
        """

    @property
    def counted(self) -> CountedColumns:
        """Return the names of the columns with the status and the tokens of a row."""

    def token_operations(self) -> float | None:
        """Return what decides how many replicas share a GPU; None: it is for one of them.

        See `bertsum.inference.gpu_sharing`.
        """

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load what computes rows, on the replica at its first unit.

        `num_gpus`: of the replica, maybe a share of one.
        """


@dataclass(frozen=True, slots=True)
class SummarizeWork:
    """Documents -> summaries and sentiment."""

    model: str | None
    job: Job
    config: SummarizerConfig
    max_batch_tokens: BatchTokens

    def check(self, shard: Shard) -> str | None:
        return check_documents(shard, self.config)

    def columns(self, schema: pa.Schema) -> list[str]:
        return needed_columns(schema, self.config)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return output_schema(schema, self.config)

    @property
    def counted(self) -> CountedColumns:
        name_of = self.config.output.name_of
        return CountedColumns(status=name_of("status"), tokens=name_of("num_tokens"))

    def token_operations(self) -> float | None:
        from bertsum.checkpoints.locate import resolve
        from bertsum.inference.gpu_sharing import token_operations

        return token_operations(resolve(self.model))

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load the model. Raises ModelError when the model here is not the driver's."""
        set_threads(num_threads)
        from bertsum.checkpoints.config import model_digest
        from bertsum.checkpoints.locate import resolve
        from bertsum.inference.summarizer import Summarizer

        _check_digest("model", self.job, model_digest(resolve(self.model)))
        return Summarizer(
            self.model,
            self.config,
            device=take_device(num_gpus),
            max_batch_tokens=self.max_batch_tokens,
        )


@dataclass(frozen=True, slots=True)
class PrepareWork:
    """Labelled rows -> rows of training shards."""

    encoder: str
    job: Job
    config: DocumentsConfig

    def check(self, shard: Shard) -> str | None:
        return check_labelled(shard, self.config)

    def columns(self, schema: pa.Schema) -> list[str]:
        return list(kept_schema(schema, self.config).names)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return shard_schema(kept_schema(schema, self.config), self.job.model_digest)

    @property
    def counted(self) -> CountedColumns:
        return COUNTED_COLUMNS

    def token_operations(self) -> None:
        """Return None: no GPU is needed."""

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load the tokenizer. Raises ModelError when the tokenizer here is not the driver's."""
        set_threads(num_threads)
        from bertsum.checkpoints.checkpoint import load_tokenizer

        # the digest is that of the tokenizer alone: weights do not change the prepared rows
        preparer = Preparer(load_tokenizer(self.encoder), self.config)
        _check_digest("tokenizer of", self.job, preparer.encoder.tokenizer_digest)
        return preparer


@dataclass(frozen=True, slots=True)
class EvaluateWork:
    """Labelled rows -> rows of measures. `models`: path of each, by its name in the results."""

    models: Mapping[str, str | None]
    job: Job
    config: "EvaluationConfig"
    max_batch_tokens: BatchTokens

    def check(self, shard: Shard) -> str | None:
        from bertsum.evaluation.columns import check_measurable

        return check_measurable(shard, self.config)

    def columns(self, schema: pa.Schema) -> list[str]:
        from bertsum.evaluation.columns import needed_columns

        return needed_columns(self.config)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        from bertsum.evaluation.columns import result_schema

        return result_schema(schema, self.config)

    @property
    def counted(self) -> CountedColumns:
        return COUNTED_COLUMNS

    def token_operations(self) -> None:
        """Return None: a replica has all the models, and a GPU for them."""

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load all models. Raises ModelError when a model here is not the driver's."""
        set_threads(num_threads)
        from bertsum.evaluation.evaluator import Evaluator
        from bertsum.inference.summarizer import Summarizer

        _check_digest("models", self.job, models_digest(self.models))
        device = take_device(num_gpus)
        summarizers = {}
        for name, model in self.models.items():
            # all of them in the memory of one device: the same rows go through each
            summarizers[name] = Summarizer(
                model,
                self.config.summarizer,
                device=device,
                max_batch_tokens=self.max_batch_tokens,
            )
        return Evaluator(summarizers, self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchWork:
    """Texts, or vectors of users -> their nearest candidates.

    - `candidates_uri`, `candidate_files`: the encoded candidates, in their order.
    - `candidate_schema`: of their input.
    - `pass_queries`: how many queries are compared with all candidates at once.
    - `has_vectors`: INPUT is a file of `bertsum.matching.users`, and needs no model.
    """

    model: str
    job: Job
    config: "MatchConfig"
    candidates_uri: str
    candidate_files: tuple[str, ...] = ()
    candidate_schema: pa.Schema
    max_batch_tokens: BatchTokens
    pass_queries: int
    has_vectors: bool = False

    def check(self, shard: Shard) -> str | None:
        from bertsum.matching.columns import check_queries

        if self.has_vectors:
            return None
        return check_queries(shard, self.candidate_schema, self.config)

    def columns(self, schema: pa.Schema) -> list[str]:
        if self.has_vectors:
            return list(schema.names)
        return needed_columns(schema, self.config.query_encoder())

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        from bertsum.matching.columns import row_schema

        return row_schema(schema, self.candidate_schema, self.config)

    @property
    def counted(self) -> CountedColumns:
        return COUNTED_COLUMNS

    def token_operations(self) -> float | None:
        """See `Work`; products of vectors alone keep a GPU busy."""
        from bertsum.checkpoints.locate import resolve
        from bertsum.inference.gpu_sharing import token_operations

        return None if self.has_vectors else token_operations(resolve(self.model))

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load model and candidates. Raises ModelError when the model is not the driver's."""
        set_threads(num_threads)
        from bertsum.checkpoints.config import model_digest
        from bertsum.checkpoints.locate import resolve
        from bertsum.inference.arguments import choose_device
        from bertsum.inference.summarizer import Summarizer
        from bertsum.matching.candidates import Candidates
        from bertsum.matching.matcher import GivenVectors, Matcher

        device = choose_device(take_device(num_gpus))
        encoder: Stream = GivenVectors()
        if not self.has_vectors:
            _check_digest("model", self.job, model_digest(resolve(self.model)))
            encoder = Summarizer(
                self.model,
                self.config.query_encoder(),
                device=device,
                max_batch_tokens=self.max_batch_tokens,
            )
        return Matcher(
            encoder,
            Candidates(Folder(self.candidates_uri), self.candidate_files, self.config),
            self.config,
            device=device,
            pass_queries=self.pass_queries,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateWork:
    """Texts -> what a sequence-to-sequence model writes from them.

    - `sentences_model`: scores the sentences of texts that are too long for the model; None: the
      shipped one.
    - `sentences_digest`: of it.
    """

    model: str
    job: Job
    config: "GenerateConfig"
    sentences_model: str | None
    sentences_digest: str

    def check(self, shard: Shard) -> str | None:
        from bertsum.generation.columns import check_texts

        return check_texts(shard, self.config)

    def columns(self, schema: pa.Schema) -> list[str]:
        from bertsum.generation.columns import read_columns

        return read_columns(schema, self.config)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        from bertsum.generation.columns import row_schema

        return row_schema(schema, self.config)

    @property
    def counted(self) -> CountedColumns:
        from bertsum.generation.columns import name_of

        return CountedColumns(
            status=name_of("status", self.config), tokens=name_of("num_tokens", self.config)
        )

    def token_operations(self) -> None:
        """Return None: a model that writes has a GPU of its own."""

    def check_model(self) -> None:
        """Check all files of the model but its weights. Raises ModelError and ConfigError."""
        from bertsum.checkpoints.locate import resolve
        from bertsum.generation.seq2seq import load_task

        load_task(resolve(self.model), self.config)

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        """Load the model. Raises ModelError when the model here is not the driver's."""
        set_threads(num_threads)
        from bertsum.checkpoints.config import seq2seq_digest
        from bertsum.checkpoints.locate import resolve
        from bertsum.generation.generator import Generator
        from bertsum.generation.seq2seq import load_seq2seq
        from bertsum.inference.arguments import choose_device

        directory = resolve(self.model)
        _check_digest("model", self.job, seq2seq_digest(directory))
        device = choose_device(take_device(num_gpus))
        return Generator(
            load_seq2seq(directory, self.config, device),
            self.config,
            partial(self._load_summarizer, device),
        )

    def _load_summarizer(self, device: "torch.device") -> "Summarizer":
        """Load what scores sentences. Raises ModelError when it is not the driver's."""
        from bertsum.checkpoints.config import model_digest
        from bertsum.checkpoints.locate import resolve
        from bertsum.generation.sources import SENTENCE_SCORES
        from bertsum.inference.summarizer import Summarizer

        job = replace(
            self.job, model_id=str(self.sentences_model), model_digest=self.sentences_digest
        )
        _check_digest("sentences_model", job, model_digest(resolve(self.sentences_model)))
        return Summarizer(self.sentences_model, SENTENCE_SCORES, device=device)


def writing_work(model: str, config: "GenerateConfig", sentences_model: str | None) -> GenerateWork:
    """Look up the models of a `GenerateWork`. Raises ModelError."""
    from bertsum.checkpoints.config import model_digest, seq2seq_digest
    from bertsum.checkpoints.locate import resolve
    from bertsum.generation.config import GenerateRows

    sentences_digest = model_digest(resolve(sentences_model))
    rows = GenerateRows(generate=config, sentences_model=sentences_digest)
    return GenerateWork(
        model=model,
        job=Job(model, seq2seq_digest(resolve(model)), rows),
        config=config,
        sentences_model=sentences_model,
        sentences_digest=sentences_digest,
    )


@dataclass(frozen=True, slots=True)
class SummarizeThenWork:
    """Documents -> summaries, and what a model writes from each: a run of two stages.

    - `first`: what its first pool of replicas does.
    - `second`: what its second pool does with the rows of the first.

    The methods are those of the whole run; `load` is the second pool's, since the first one is
    given `first` as its work.
    """

    first: SummarizeWork
    second: GenerateWork

    def check(self, shard: Shard) -> str | None:
        from bertsum.generation.columns import check_texts

        if problem := self.first.check(shard):
            return problem
        summarized = replace(shard, schema=self.first.output_schema(shard.schema))
        return check_texts(summarized, self.second.config, "summarizer.keep_columns")

    def columns(self, schema: pa.Schema) -> list[str]:
        return self.first.columns(schema)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        return self.second.output_schema(self.first.output_schema(schema))

    @property
    def counted(self) -> CountedColumns:
        written = self.second.counted
        status = self.first.counted.status
        return CountedColumns(status=status, tokens=written.tokens, then_status=written.status)

    def token_operations(self) -> float | None:
        return self.first.token_operations()

    def load(self, num_threads: int, num_gpus: float) -> Stream:
        return self.second.load(num_threads, num_gpus)


def models_digest(models: Mapping[str, str | None]) -> str:
    """Return a digest of the content of all models, and of their names, which are in the rows."""
    from bertsum.checkpoints.config import model_digest
    from bertsum.checkpoints.locate import resolve

    # JSON keeps the order and the borders of names and digests
    digests = json.dumps([[name, model_digest(resolve(model))] for name, model in models.items()])
    return hashlib.sha256(digests.encode()).hexdigest()


def _check_digest(what: str, job: Job, digest: str) -> None:
    if digest != job.model_digest:
        # else rows of one result would come from two models
        raise ModelError(
            f"{what} {mask(job.model_id)} on node {socket.gethostname()} has digest {digest[:12]}, "
            f"but the driver's has {job.model_digest[:12]}: all nodes must see the same model"
        )


def set_threads(num_threads: int) -> None:
    """Set the threads of torch, the tokenizer and Arrow. Call it before torch is imported."""
    # the pools of torch and of the tokenizer take their size from the environment at their start
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[variable] = str(num_threads)
    import torch

    # where torch was imported before, the variables came too late for it
    torch.set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)


def take_device(num_gpus: float | None) -> str | None:
    """Take this process's part of the machine's GPUs; return its device for a Summarizer.

    A process with a share of a GPU takes no more than this share of its memory from now on.

    Ray does not hide the GPUs of a node from a process that has none of them: all such replicas of
    the node would share its first GPU.

    `num_gpus`: maybe a share of one; None, where no cluster was asked: whatever GPU is there, of
    the kinds that Ray counts.
    """
    import torch

    if num_gpus is None:
        num_gpus = float(torch.cuda.is_available() or torch.xpu.is_available())
    if 0 < num_gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(_TENSOR_SHARE * num_gpus)
    return None if num_gpus else "cpu"
