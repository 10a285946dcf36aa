"""AdaLoRA and prefixes: what learns, what is kept in a run's state, and what is left of them in a checkpoint."""

import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import tiny
from helpers.rows import summary_rows, training_config
from pydantic import ValidationError

from bertsum.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bertsum.errors import ModelError
from bertsum.storage.folder import Folder
from bertsum.training import loop as training
from bertsum.training.adapters import HalfFactors, RankSchedule, half_products, merge_adapter
from bertsum.training.config import TrainingConfig
from bertsum.training.data import labelled_batch, read_examples
from bertsum.training.optimization import LossModule
from bertsum.training.start.source_config import SourceConfig
from bertsum.training.state import StateStore
from bertsum.training.validation import LabelledSource, predict_examples

SMALL = {"num_heads": 4, "feed_forward_size": 64, "max_window_tokens": 64}
ADALORA = {"adapter": "adalora", "lora_rank": 4, "encoder_learning_rate": 1e-2}
PREFIX = {"adapter": "prefix", "model": SMALL | {"prefix_tokens": 3}, "encoder_learning_rate": 1e-2}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table(summary_rows()), path)
    source = SourceConfig(name="news", summary_column="summary")
    return read_examples(
        str(path), source, tiny.document_encoder(), tiny.model_config(), max_windows=8
    )


def run(
    examples: list, config: TrainingConfig, store: StateStore | None = None
) -> tuple[torch.nn.Module, list]:
    torch.manual_seed(0)
    model = training.build_model(tiny.encoder(), config)
    log: list[dict] = []
    training.train(
        model, [LabelledSource(config.sources[0], examples, [])], config, log.append, store
    )
    return model, log


def ranks(model: torch.nn.Module) -> list[int]:
    return [
        int(weight.count_nonzero()) for name, weight in model.named_parameters() if "lora_E" in name
    ]


def test_adalora_gives_ranks_to_where_they_matter(examples: list, tmp_path: Path) -> None:
    config = training_config(epochs=10, **ADALORA)
    assert (config.first_rank, config.learned_rank) == (6, 6)
    model, log = run(examples, config)
    assert log[-1]["summary_loss"] < 0.75 * log[0]["summary_loss"]
    found = ranks(model)
    assert len(found) == 12  # six linear layers in each of two
    assert len(set(found)) > 1
    assert sum(found) == pytest.approx(12 * 4, abs=1)
    merge_adapter(model)
    before = tiny.encoder().state_dict()
    changes = [
        model.encoder.state_dict()[name] - before[name]
        for name in before
        if name.endswith("query.weight")
    ]
    assert all(1 <= torch.linalg.matrix_rank(change, rtol=1e-4) <= 6 for change in changes)


def test_adalora_goes_on_as_if_it_had_not_stopped(examples: list, tmp_path: Path) -> None:
    """Killed while ranks are taken away, and when they are settled."""
    config = training_config(epochs=6, checkpoint_every_minutes=0, kept_checkpoints=1000, **ADALORA)
    whole, log = run(examples, config, StateStore(Folder(str(tmp_path / "whole")), 1000))
    num_steps = log[-1]["num_steps"]
    for step in (num_steps // 3, num_steps - 2):
        directory = tmp_path / str(step) / "checkpoints"
        directory.mkdir(parents=True)
        for path in (tmp_path / "whole" / "checkpoints").glob(f"{step:08d}.*"):
            shutil.copy(path, directory)
        again, rest = run(examples, config, StateStore(Folder(str(directory.parent)), 1000))
        assert [line["step"] for line in rest] == list(range(step + 1, num_steps + 1))
        assert ranks(again) == ranks(whole)
        for name, weight in again.state_dict().items():
            assert torch.equal(weight, whole.state_dict()[name]), name


def test_the_penalty_is_zero_for_orthogonal_factors() -> None:
    config = training_config(**ADALORA)
    model = training.build_model(tiny.encoder(), config)
    schedule = RankSchedule.of(model, config, 10)
    assert schedule is not None
    factors = {
        name: weight
        for name, weight in model.named_parameters()
        if "lora_A" in name or "lora_B" in name
    }
    for weight in factors.values():
        torch.nn.init.orthogonal_(weight)
    schedule.add_penalty()
    assert all(weight.grad.norm() < 1e-2 for weight in factors.values())
    with torch.no_grad():
        for weight in factors.values():
            weight.mul_(2)
            weight.grad = torch.ones_like(weight)
    schedule.add_penalty()
    for weight in factors.values():
        assert (
            (weight.grad - 1) * weight
        ).sum() > 1e-2  # on top of what there was, and downhill to shorter factors


def test_a_prefix_and_the_heads_learn_and_nothing_else(examples: list, tmp_path: Path) -> None:
    model, log = run(examples, training_config(epochs=10, **PREFIX))
    assert log[-1]["summary_loss"] < log[0]["summary_loss"] / 2
    untouched = tiny.encoder().state_dict()
    assert all(
        torch.equal(weight, untouched[name]) for name, weight in model.encoder.state_dict().items()
    )
    torch.manual_seed(0)
    fresh = training.build_model(tiny.encoder(), training_config(**PREFIX))
    assert (model.prefix - fresh.prefix).abs().max() > 1e-3
    merge_adapter(model)
    expected = predict_examples(model, examples, "float32").sentences
    save_checkpoint(tmp_path, model, tiny.wordpiece(), "# A card\n", version="0.0.0")
    loaded, _ = load_checkpoint(tmp_path)
    for found, scores in zip(
        predict_examples(loaded, examples, "float32").sentences, expected, strict=True
    ):
        assert found == pytest.approx(scores, abs=1e-6)


def test_a_prefix_of_a_packaged_encoder_is_saved_without_the_encoder() -> None:
    assert training_config(**PREFIX).learned_rank == 0
    assert training_config(**ADALORA).learned_rank == 6


def test_a_prefix_must_be_there() -> None:
    with pytest.raises(ValidationError, match=r"adapter: prefix needs model\.prefix_tokens"):
        training_config(adapter="prefix")
    config = training_config(new_heads=["sentiment"], **PREFIX)
    plain = tiny.model()
    with pytest.raises(ModelError, match="the model in start_from has none"):
        training.open_encoder(plain, config)
    renewed = training.renew_heads(plain, config)
    training.open_encoder(renewed, config)
    assert renewed.prefix.requires_grad
    assert torch.equal(renewed.summarization.scorer.weight, plain.summarization.scorer.weight)


def lora_module(kind: str = "bert", **values: object) -> LossModule:
    config = training_config(lora_rank=4, **values)
    torch.manual_seed(0)
    model = training.build_model(tiny.encoder(kind), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # zeros at first
            torch.nn.init.normal_(weight, std=0.1)
    return LossModule(model.train(), config)


def gradients(module: LossModule, examples: list) -> dict[str, torch.Tensor]:
    module.zero_grad()
    module(labelled_batch(list(examples))).sum().backward()
    named = module.model.named_parameters()
    return {name: weight.grad for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize("has_biases", [True, False])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_lora_computes_what_peft_computes(
    examples: list, monkeypatch: pytest.MonkeyPatch, kind: str, has_biases: bool
) -> None:
    """Rows are packed [T, H], or padded [W, L, H]."""
    module = lora_module(kind, dtype="float32", lora_alpha=12, encoder_learning_rate=1e-3)
    if not has_biases:
        for layer in module.modules():
            if hasattr(layer, "lora_A"):
                layer.base_layer.bias = None
    found = gradients(module, examples)
    layers = [layer for layer in module.modules() if hasattr(layer, "lora_A")]
    assert len(layers) == 12
    for layer in layers:
        monkeypatch.delattr(layer, "forward")  # that of peft's class is left
    expected = gradients(module, examples)
    assert sum("lora_" in name for name in found) == 24
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("is_recomputed", [False, True])
def test_factors_cast_at_once_are_those_cast_one_by_one(
    examples: list, monkeypatch: pytest.MonkeyPatch, is_recomputed: bool
) -> None:
    module = lora_module(dtype="bfloat16", gradient_checkpointing=is_recomputed)
    found = gradients(module, examples)
    assert not any("halves" in key for layer in module.modules() for key in vars(layer))
    monkeypatch.setattr(HalfFactors, "cast", lambda _: nullcontext())
    expected = gradients(module, examples)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_frozen_products_in_half_compute_what_autocast_computes(examples: list) -> None:
    module = lora_module(dtype="bfloat16")
    model = module.model
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    expected = gradients(module, examples)
    with half_products(model):
        formats = Counter(weight.dtype for weight in model.encoder.parameters())
        found = gradients(module, examples)
    assert formats[torch.bfloat16] == 2 * 2 * 6  # weight and bias of six products in two layers
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
