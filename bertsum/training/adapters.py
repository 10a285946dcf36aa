"""Few weights that learn in place of a whole encoder: adapters of `peft`, and the prefix of the model itself.

LoRA (Hu et al. 2021), DoRA (Liu et al. 2024), LoHa (Hyeon-Woo et al. 2021), LoKr (Edalati et al. 2022) and AdaLoRA
(Zhang et al. 2023) change linear layers, and are merged into them at the end. A prefix (Li & Liang 2021) is keys and
values that every token sees in every layer; it cannot be merged and stays a part of the model.
"""

import warnings
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from bertsum.errors import ModelError
from bertsum.model.bert_sum import BertSum
from bertsum.training.config import TrainingConfig

_RANKS = "ranks/"
# Of the steps: before ranks are taken away, and after it; the paper's settings lie between 0.05 and 0.2, 0.2 and 0.5.
_FIRST_SHARE, _LAST_SHARE = 0.1, 0.3
_ALLOCATIONS = 100  # of ranks in a run
_ORTHOGONALITY = 0.1  # weight of the penalty, as in the paper's experiments on GLUE


def add_adapter(model: BertSum, config: TrainingConfig) -> None:
    """Freeze the encoder, in place, but for what the adapter adds to it; nothing without an adapter.

    Raises ModelError where a prefix is to be trained and the model, that of `start_from`, has none.
    """
    if config.adapter == "prefix":
        if model.prefix is None:
            raise ModelError(
                "adapter: prefix, but the model in start_from has none; with new_heads it begins anew"
            )
        model.encoder.requires_grad_(False)
    elif config.lora_rank:
        from peft import get_peft_model

        with warnings.catch_warnings():  # peft 0.21 reads what transformers 5.24 renamed
            warnings.filterwarnings(
                "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
            )
            model.encoder = get_peft_model(model.encoder, _peft_config(config))


def merge_adapter(model: BertSum) -> None:
    """Fold deltas into the encoder's own weights, in place."""
    if hasattr(model.encoder, "merge_and_unload"):
        model.encoder = model.encoder.merge_and_unload()


def _peft_config(config: TrainingConfig) -> Any:
    import peft

    shared: dict[str, Any] = {"target_modules": "all-linear"}
    if config.adapter in ("loha", "lokr"):
        shared |= {"r": config.lora_rank, "alpha": config.lora_alpha}
        return peft.LoHaConfig(**shared) if config.adapter == "loha" else peft.LoKrConfig(**shared)
    shared["lora_alpha"] = config.lora_alpha
    if config.adapter == "adalora":
        ranks: dict[str, Any] = {"target_r": config.lora_rank, "init_r": config.first_rank}
        return peft.AdaLoraConfig(
            **shared, **ranks, total_step=1
        )  # RankSchedule says how many there are
    shared |= {"r": config.lora_rank, "use_dora": config.adapter == "dora"}
    return peft.LoraConfig(**shared)


class RankSchedule:
    """AdaLoRA's part in each step: a penalty that keeps its factors orthogonal, and ranks taken from where they matter
    least, until their mean is `lora_rank`.

    What it has learned of the ranks' importance belongs to a run's state.
    """

    def __init__(self, encoder: Any, num_steps: int) -> None:
        self._tuner = encoder.base_model
        config = encoder.peft_config["default"]
        config.total_step = num_steps
        config.tinit, config.tfinal = int(_FIRST_SHARE * num_steps), int(_LAST_SHARE * num_steps)
        config.deltaT = max(1, num_steps // _ALLOCATIONS)
        self._config = config
        named: dict[str, nn.Parameter] = dict(encoder.named_parameters())
        self._factors = [
            weight for name, weight in named.items() if "lora_A" in name or "lora_B" in name
        ]

    @classmethod
    def of(cls, model: BertSum, config: TrainingConfig, num_steps: int) -> Self | None:
        """None for other adapters."""
        return (
            cls(model.encoder, num_steps)
            if config.lora_rank and config.adapter == "adalora"
            else None
        )

    def add_penalty(self) -> None:
        """Add to the gradient that of the penalty: once a step, on each worker the same."""
        norms = []
        for weight in self._factors:
            product = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
            norms.append(
                torch.linalg.matrix_norm(product - torch.eye(len(product), device=product.device))
            )
        penalty = _ORTHOGONALITY * torch.stack(norms).mean()
        for weight, gradient in zip(
            self._factors, torch.autograd.grad(penalty, self._factors), strict=True
        ):
            weight.grad = gradient if weight.grad is None else weight.grad + gradient

    def allocate(self, step: int) -> None:
        """After the optimizer's step number `step`, counted from 1, while its gradients are there."""
        self._tuner.update_and_allocate(step)

    def tensors(self) -> dict[str, Tensor]:
        """Its state, by names that begin with `ranks/`."""
        allocator = self._tuner.rankallocator
        found: dict[str, Tensor] = {}
        for kind in ("exp_avg_ipt", "exp_avg_unc"):
            found |= {
                f"{_RANKS}{kind}/{name}": value for name, value in getattr(allocator, kind).items()
            }
        pattern: Mapping[str, list[bool]] = self._config.rank_pattern or {}
        return found | {
            f"{_RANKS}pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`; others are passed over."""
        allocator = self._tuner.rankallocator
        device = self._factors[0].device
        pattern = {}
        for key, value in tensors.items():
            kind, _, name = key.removeprefix(_RANKS).partition("/")
            if key.startswith(_RANKS) and kind == "pattern":
                pattern[name] = value.tolist()
            elif key.startswith(_RANKS):
                getattr(allocator, kind)[name] = value.to(device)
                allocator.ipt[name] = torch.zeros_like(
                    value, device=device
                )  # computed anew at each step
        self._config.rank_pattern = pattern or None
