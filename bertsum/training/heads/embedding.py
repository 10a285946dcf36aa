"""The matrix of `model.embedding_layers`, fitted in closed form on texts without labels.

An encoder that has learned sentiment puts texts of one mood near each other, and finds less well
than before which texts are of one subject. The matrix leads its document vectors back to those of
the encoder that training started from: ridge regression from the one to the other. Layers near the
words have changed least, so the means of several layers say more together than the last. Pairs of
texts, where there are any, then teach it what is searched with what (`pairs`).

Shapes: N texts, H hidden size, E features of all layers that are read.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertsum.checkpoints.encoder_delta import MAX_WHOLE_WEIGHT
from bertsum.errors import InputError
from bertsum.inference.reader import document_encoder
from bertsum.labels.columns import python_values
from bertsum.masking import mask
from bertsum.model.batches import group_documents, make_batch
from bertsum.model.bert_sum import BertSum
from bertsum.runs.columns import column_problem, encryption_problem
from bertsum.runs.input import list_input, read_footers, stream_rows
from bertsum.text.encoder import DocumentEncoder
from bertsum.training.heads.config import EmbeddingConfig
from bertsum.training.heads.pairs import Pairs, index_pairs, learn_from_pairs, recalls
from bertsum.training.heads.untrained import UntrainedEncoder
from bertsum.training.optimization import autocast
from bertsum.training.results.log import Report, shown

_BATCH_TOKENS = 4096
_HELD_OUT = 10  # each tenth text chooses the penalty and is measured on
# of the mean variance of a feature: from hardly any to a matrix that is almost zero
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTexts:
    """What the matrix is fitted on."""

    single: Sequence[str]
    pairs: Sequence[Sequence[tuple[str, ...]]]  # query and text, for each of `config.pairs`


def fit_embedding(
    model: BertSum,
    tokenizer: Any,
    encoder: str,
    config: EmbeddingConfig,
    texts: EmbeddingTexts,
    *,
    goes_on: bool,
    dtype: str,
    seed: int,
    report: Report,
) -> str:
    """Fit the matrix in place. Returns a sentence on it, for people.

    - `encoder`: whose vectors are to be met, as `load_encoder` takes it.
    - `dtype`: number format of the products of both encoders.
    - `goes_on`: the matrix that is there meets them; it is not fitted, and only pairs are learned.
    - `texts`: what `read_embedding_texts` has read for `config`.

    Raises InputError for fewer texts or pairs than can be fitted and measured on.
    """
    if model.embedding is None:
        raise ValueError("the model has no embedding head")
    all_texts, sets = index_pairs(texts.single, texts.pairs)
    sets = [
        replace(part, weight=source.weight) for source, part in zip(config.pairs, sets, strict=True)
    ]
    if len(all_texts) < 2 * _HELD_OUT:
        raise InputError(f"embedding: {len(all_texts)} texts are too few to fit a matrix on")
    for source, part in zip(config.pairs, sets, strict=True):
        if len(part.queries) < 2 * _HELD_OUT:
            raise InputError(
                f"embedding: {mask(source.uri)}: {len(part.queries)} pairs are too few to learn "
                f"from; at least {2 * _HELD_OUT} are needed"
            )
    device = next(model.parameters()).device
    documents = document_encoder(model, tokenizer)
    untrained = UntrainedEncoder(encoder, config.prefix, config.max_tokens, device)
    with autocast(device, dtype):
        x = _features(model, documents, all_texts, config.max_tokens, report)
        y = untrained.embed(all_texts, report).astype(np.float64)
    # features of a layer are of one size then, and so are their penalties
    of_layers = x.reshape(len(x), -1, model.encoder.config.hidden_size)
    scales = np.sqrt(of_layers.var(0).mean(1)) + 1e-12
    x = (of_layers / scales[:, None]).reshape(x.shape)
    sizes = np.repeat(scales, model.encoder.config.hidden_size)
    if goes_on:
        weight = model.embedding.weight.detach().double().numpy() * sizes
        bias = model.embedding.bias.detach().double().numpy()
        facts = (
            f"Embedding: the matrix of start_from. On {len(all_texts):,} texts the cosine to the "
            f"vector of {encoder} is {_mean_cosine(x, y, weight, bias):.3f} in the mean."
        )
    else:
        weight, bias, cosine = _fit_ridge(x, y)
        facts = (
            f"Embedding: a matrix fitted on {len(all_texts):,} texts. On each {_HELD_OUT}th of "
            f"them, held out, the cosine to the vector of {encoder} is {cosine:.3f} in the mean."
        )
    if sets:
        first = (weight, bias)
        weight, bias = learn_from_pairs(x, y, first, sets, seed=seed)
        facts += " " + _measure_pairs(x, y, first, config, sets, seed=seed)
    weight = weight / sizes
    # only the direction of an embedding counts, so weights may be whole numbers, a byte in a file
    scale = MAX_WHOLE_WEIGHT / np.abs(weight).max()
    weight, bias = np.round(weight * scale), bias * scale
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(weight))
        model.embedding.bias.copy_(torch.from_numpy(bias))
    return facts


def _fit_ridge(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix, float]:
    """Weight and bias with the best of `_PENALTIES`, and its mean cosine on rows held out."""
    is_held_out = np.arange(len(x)) % _HELD_OUT == 0
    best, best_penalty = -1.0, 0.0
    for penalty in _PENALTIES:
        fitted = ridge(x[~is_held_out], y[~is_held_out], penalty)
        cosine = _mean_cosine(x[is_held_out], y[is_held_out], *fitted)
        if cosine > best:
            best, best_penalty = cosine, penalty
    return *ridge(x, y, best_penalty), best


def _mean_cosine(x: Matrix, y: Matrix, weight: Matrix, bias: Matrix) -> float:
    """Of x @ weight.T + bias and y, row by row."""
    mapped = x @ weight.T + bias
    lengths = np.linalg.norm(mapped, axis=1) * np.linalg.norm(y, axis=1)
    return float(((mapped * y).sum(1) / lengths).mean())


def _measure_pairs(
    x: Matrix,
    y: Matrix,
    first: tuple[Matrix, Matrix],
    config: EmbeddingConfig,
    sets: Sequence[Pairs],
    *,
    seed: int,
) -> str:
    """What pairs bring to queries that are held out, by a matrix that is only measured."""
    kept, held_out = [], []
    for part in sets:
        is_held_out = np.arange(len(part.queries)) % _HELD_OUT == 0
        kept.append(part.select(~is_held_out))
        held_out.append(part.select(is_held_out))
    weight, bias = learn_from_pairs(x, y, first, kept, seed=seed)
    before = recalls(x @ first[0].T + first[1], held_out)
    after = recalls(x @ weight.T + bias, held_out)
    parts = []
    for source, part, old, new in zip(config.pairs, sets, before, after, strict=True):
        name = f"{mask(source.uri)} ({source.query_column})"
        parts.append(f"{name}, {len(part.queries):,} pairs: {old:.3f}, then {new:.3f}")
    return (
        f"Then it learned from pairs. Recall at 1 of each {_HELD_OUT}th query, held out, before "
        f"and after: {'; '.join(parts)}."
    )


def ridge(x: Matrix, y: Matrix, penalty: float) -> tuple[Matrix, Matrix]:
    """Least squares from [N, E] to [N, H]: weight [H, E] and bias [H], y about x @ weight.T + bias.

    `penalty` on the weight, in mean variances of a feature of `x`; none on the bias. With it the
    system has a solution whatever the texts are.
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    # without their means no bias is left to fit, and it follows from the means
    centred_x, centred_y = x - x_mean, y - y_mean
    covariance = centred_x.T @ centred_x / len(x)
    size = len(covariance)
    covariance += penalty * np.trace(covariance) / size * np.eye(size)
    weight: Matrix = np.linalg.solve(covariance, centred_x.T @ centred_y / len(x)).T
    return weight, y_mean - weight @ x_mean


def read_embedding_texts(
    config: EmbeddingConfig, resolve: Callable[[str], str], seed: int
) -> EmbeddingTexts:
    """Read all texts and pairs of `config`; of each file at most `max_rows`, drawn at random.

    `resolve` makes the URIs of `config` absolute. Rows that lack a text are left out. Raises
    InputError for a file that cannot be read or lacks a column.
    """
    single: list[str] = []
    for source in config.texts:
        columns = {"text_column": source.text_column}
        rows = read_rows("embedding", resolve(source.uri), columns, source.max_rows, seed)
        single += [text for (text,) in rows]
    pairs = []
    for pair in config.pairs:
        columns = {"query_column": pair.query_column, "text_column": pair.text_column}
        pairs.append(read_rows("embedding", resolve(pair.uri), columns, pair.max_rows, seed))
    return EmbeddingTexts(single=single, pairs=pairs)


def read_rows(
    key: str, uri: str, columns: Mapping[str, str], max_rows: int, seed: int
) -> list[tuple[str, ...]]:
    """The rows that have text in all of `columns`, which are named by the key they come from.

    `key`: the section of the configuration that asks for them.
    """
    listed = list_input(uri)
    shards, problems = read_footers(listed, listed.files)
    for path, reason in problems.items():
        raise InputError(f"{key}: cannot read {mask(uri)}: {mask(path)}: {reason}")
    rows: list[tuple[str, ...]] = []
    names = list(columns.values())
    for shard in shards:
        for column_key, name in columns.items():
            problem = column_problem(shard.schema, column_key, name)
            problem = problem or encryption_problem(shard, [name])
            if problem:
                raise InputError(f"{key}: {mask(uri)}: {problem}")
        for table in stream_rows(listed.root, shard.file, 0, shard.num_rows, names):
            values = [python_values(table[name]) for name in names]
            for row in zip(*values, strict=True):
                if all(text and text.strip() for text in row):
                    rows.append(row)
    if len(rows) > max_rows:
        rows = random.Random(seed).sample(rows, max_rows)
    return rows


@torch.inference_mode()
def _features(
    model: BertSum,
    encoder: DocumentEncoder,
    texts: Sequence[str],
    max_tokens: int,
    report: Report,
) -> Matrix:
    """[N, E] what the matrix is applied to."""
    model.eval()
    device = next(model.parameters()).device
    max_windows = max(1, max_tokens // encoder.max_window_tokens)
    documents = encoder.encode(texts, [None] * len(texts), max_windows)
    size = len(model.config.embedding_layers) * model.encoder.config.hidden_size
    features = np.zeros((len(texts), size))
    groups = group_documents(documents, _BATCH_TOKENS)
    for group in shown(groups, len(texts), "vectors of texts", report):
        batch = make_batch(documents, group).to(device)
        features[batch.documents] = model.embedding_features(batch).cpu().numpy()
    return features
