"""Few weights that learn in place of a whole encoder: adapters of `peft`, and a prefix.

LoRA (Hu et al. 2021), DoRA (Liu et al. 2024), LoHa (Hyeon-Woo et al. 2021), LoKr (Edalati et al.
2022) and AdaLoRA (Zhang et al. 2023) change linear layers, and are merged into them at the end. A
prefix (Li & Liang 2021) is keys and values that every token sees in every layer. It cannot be
merged, and stays a part of the model.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from bertsum.errors import ModelError
from bertsum.model.bert_sum import BertSum
from bertsum.training.config import TrainingConfig

if TYPE_CHECKING:
    from peft import PeftConfig

_RANKS = "ranks/"
_ADAPTER = "default"  # peft's name of the only one
_FORWARD, _HALVES = "forward", "bertsum_halves"  # attributes of a LoRA layer
# Shares of the steps before and after the part in which ranks are taken away. The paper's settings
# lie between 0.05 and 0.2, and between 0.2 and 0.5.
_FIRST_SHARE, _LAST_SHARE = 0.1, 0.3
_ALLOCATIONS = 100  # of ranks in a run
_ORTHOGONALITY = 0.1  # weight of the penalty, as in the paper's experiments on GLUE


def add_adapter(model: BertSum, config: TrainingConfig) -> None:
    """Freeze the encoder, in place, except for what the adapter adds to it.

    Does nothing without an adapter. Raises ModelError where a prefix is to be trained and the model
    that `start_from` names has none.
    """
    if config.adapter == "prefix":
        if model.prefix is None:
            raise ModelError(
                "adapter: prefix, but the model in start_from has none; with new_heads it begins "
                "anew"
            )
        model.encoder.requires_grad_(False)
    elif config.lora_rank:
        from peft import get_peft_model

        with warnings.catch_warnings():  # peft 0.21 reads what transformers 5.24 renamed
            warnings.filterwarnings(
                "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
            )
            model.encoder = get_peft_model(model.encoder, _peft_config(config, config.lora_rank))
        for module in model.encoder.modules():
            # autocast gives each product what it reads, so that another cast only costs time
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False
        if config.adapter == "lora":
            for layer in _lora_layers(model):
                if type(layer.base_layer) is nn.Linear:
                    setattr(layer, _FORWARD, partial(_lora_product, layer))


def _lora_layers(model: BertSum) -> list[Any]:
    return [module for module in model.encoder.modules() if hasattr(module, "lora_A")]


def _lora_product(layer: Any, rows: Tensor) -> Tensor:
    """What peft's own layer computes, by three kernels in place of up to eight.

    `layer`: a linear layer with one adapter, without dropout.
    """
    base, scale = layer.base_layer, layer.scaling[_ADAPTER]
    factors = getattr(layer, _HALVES, None) or _factors(layer)
    kind = rows.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype
    parts = (rows.flatten(0, -2), base.weight, base.bias, *factors)
    cast = (None if part is None else part.to(dtype) for part in parts)  # there may be no bias
    result: Tensor = _LoraProduct.apply(*cast, scale)  # type: ignore[no-untyped-call]
    return result.view(*rows.shape[:-1], -1)


class _LoraProduct(torch.autograd.Function):
    """A linear layer, which does not learn, plus a low-rank one, which does.

    `rows` [N, in], `weight` [out, in], `bias` [out], `to_rank` [rank, in], `from_rank` [out, rank].
    Autograd would copy the gradient where one product is added to another in place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        to_rank: Tensor,
        from_rank: Tensor,
        scale: float,
    ) -> Tensor:
        reduced = rows @ to_rank.T  # [N, rank]
        ctx.save_for_backward(rows, reduced, weight, to_rank, from_rank)
        ctx.scale = scale
        result = torch.nn.functional.linear(rows, weight, bias)
        return result.addmm_(reduced, from_rank.T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, reduced, weight, to_rank, from_rank = ctx.saved_tensors
        of_reduced = gradient @ from_rank  # but for the scale
        of_rows: Tensor | None = None
        if ctx.needs_input_grad[0]:  # the embeddings, which the first layer reads, do not learn
            of_rows = (gradient @ weight).addmm_(of_reduced, to_rank, alpha=ctx.scale)
        of_to_rank = of_reduced.T @ rows * ctx.scale
        of_from_rank = (reduced.T @ gradient).T * ctx.scale
        return of_rows, None, None, of_to_rank, of_from_rank, None


def _factors(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """[rank, in] and [out, rank] of a LoRA layer."""
    return layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight


class HalfFactors:
    """Casts all factors of a model's LoRA layers at once, where autocast takes a kernel for each."""

    def __init__(self, model: BertSum) -> None:
        self._layers = [layer for layer in _lora_layers(model) if _FORWARD in vars(layer)]

    @contextmanager
    def cast(self) -> Iterator[None]:
        """Let the layers read copies in bfloat16, through which the factors learn."""
        weights = [weight for layer in self._layers for weight in _factors(layer)]
        if weights:
            joined = torch.cat([weight.flatten() for weight in weights]).to(torch.bfloat16)
            parts = torch.split(joined, [weight.numel() for weight in weights])
            copies = (part.view_as(weight) for part, weight in zip(parts, weights, strict=True))
            for layer, halves in zip(self._layers, zip(copies, copies, strict=True), strict=True):
                setattr(layer, _HALVES, halves)
        try:
            yield
        finally:
            for layer in self._layers if weights else ():
                delattr(layer, _HALVES)


@contextmanager
def half_products(model: BertSum) -> Iterator[None]:
    """Hold the weights of the encoder's products that do not learn in bfloat16, meanwhile.

    Autocast would make the same of them in each batch, by a kernel for each of them.
    """
    exact: list[tuple[nn.Linear, str, nn.Parameter]] = []
    for module in model.encoder.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if type(module) is nn.Linear and not weight.requires_grad:
                exact.append((module, name, weight))
                half = nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
                setattr(module, name, half)
    try:
        yield
    finally:
        for module, name, weight in exact:
            setattr(module, name, weight)


def merge_adapter(model: BertSum) -> None:
    """Fold the adapter's deltas into the encoder's weights, in place; nothing without deltas."""
    # not by its class: peft is an extra, and a run without an adapter does not import it
    if hasattr(model.encoder, "merge_and_unload"):
        model.encoder = model.encoder.merge_and_unload()


def _peft_config(config: TrainingConfig, rank: int) -> "PeftConfig":
    import peft

    alpha, layers = config.lora_alpha, "all-linear"
    if config.adapter == "loha":
        return peft.LoHaConfig(r=rank, alpha=alpha, target_modules=layers)
    if config.adapter == "lokr":
        return peft.LoKrConfig(r=rank, alpha=alpha, target_modules=layers)
    if config.adapter == "adalora":
        return peft.AdaLoraConfig(
            target_r=rank,
            init_r=config.first_rank,
            lora_alpha=alpha,
            target_modules=layers,
            total_step=1,  # RankSchedule says how many there are
        )
    return peft.LoraConfig(
        r=rank, lora_alpha=alpha, use_dora=config.adapter == "dora", target_modules=layers
    )


class RankSchedule:
    """AdaLoRA's part in each step.

    It adds a penalty that keeps the factors orthogonal, and takes ranks from the layers where they
    matter least, until their mean is `lora_rank`. What it has learned of the ranks' importance
    belongs to a run's state.
    """

    def __init__(self, encoder: Any, num_steps: int) -> None:
        """`encoder`: a PeftModel, whose types know nothing of AdaLoRA's attributes."""
        self._tuner = encoder.base_model
        config = encoder.peft_config["default"]
        config.total_step = num_steps
        config.tinit, config.tfinal = int(_FIRST_SHARE * num_steps), int(_LAST_SHARE * num_steps)
        config.deltaT = max(1, num_steps // _ALLOCATIONS)
        self._config = config
        self._factors: list[nn.Parameter] = []
        for name, weight in encoder.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                self._factors.append(weight)

    @classmethod
    def of(cls, model: nn.Module, config: TrainingConfig, num_steps: int) -> Self | None:
        """None for other adapters."""
        if config.lora_rank and config.adapter == "adalora":
            return cls(model.encoder, num_steps)
        return None

    def add_penalty(self) -> None:
        """Add the gradient of the penalty: once a step, on each worker the same."""
        norms = []
        for weight in self._factors:
            # [rank, rank] products of the factor's vectors, which are its rows or its columns
            is_wide = weight.shape[0] < weight.shape[1]
            product = weight @ weight.T if is_wide else weight.T @ weight
            # of orthonormal vectors it is the unit matrix
            unit = torch.eye(len(product), device=product.device)
            norms.append(torch.linalg.matrix_norm(product - unit))
        penalty = _ORTHOGONALITY * torch.stack(norms).mean()
        gradients = torch.autograd.grad(penalty, self._factors)
        for weight, gradient in zip(self._factors, gradients, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient

    def allocate(self, step: int) -> None:
        """Take ranks away after the optimizer's step number `step`, counted from 1.

        The step's gradients must still be there.
        """
        self._tuner.update_and_allocate(step)

    def tensors(self) -> dict[str, Tensor]:
        """Its state, by names that begin with `ranks/`."""
        tensors: dict[str, Tensor] = {}
        for kind, importance in self._importance().items():
            for name, value in importance.items():
                tensors[f"{_RANKS}{kind}/{name}"] = value
        pattern: Mapping[str, list[bool]] = self._config.rank_pattern or {}
        for name, kept in pattern.items():
            tensors[f"{_RANKS}pattern/{name}"] = torch.tensor(kept)
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`; ignores tensors with other names."""
        importance = self._importance()
        device = self._factors[0].device
        pattern = {}
        for key, value in tensors.items():
            if not key.startswith(_RANKS):
                continue
            kind, _, name = key.removeprefix(_RANKS).partition("/")
            if kind == "pattern":
                pattern[name] = value.tolist()
            else:
                importance[kind][name] = value.to(device)
                # peft computes it anew at each step, and wants an entry to be there
                zeros = torch.zeros_like(value, device=device)
                self._tuner.rankallocator.ipt[name] = zeros
        self._config.rank_pattern = pattern or None

    def _importance(self) -> dict[str, dict[str, Tensor]]:
        """Running means that peft holds of each weight's importance, and of its uncertainty."""
        allocator = self._tuner.rankallocator
        return {"exp_avg_ipt": allocator.exp_avg_ipt, "exp_avg_unc": allocator.exp_avg_unc}
