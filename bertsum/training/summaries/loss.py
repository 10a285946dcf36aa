"""The loss of a decoder: cross-entropy of each target token, with label smoothing."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

from bertsum.model.losses import IGNORE
from bertsum.training.data import LabelledBatch
from bertsum.training.optimization import SummedLosses, autocast
from bertsum.training.summaries.targets import Targets, TargetTokenizer
from bertsum.training.summaries.writer import Writer


class WritingLoss(SummedLosses):
    """Batch -> the summed loss of its target tokens, which is divided by their number."""

    names = ("abstract",)

    def __init__(
        self, writer: Writer, targets: TargetTokenizer, *, label_smoothing: float, dtype: str
    ) -> None:
        super().__init__()
        self.writer, self.targets = writer, targets
        self.label_smoothing, self.dtype = label_smoothing, dtype

    def forward(self, batch: LabelledBatch | None) -> Tensor:
        """[1] sum over the target tokens of a batch."""
        if batch is None:
            return self.zeros()
        logits, labels = answer(self.writer, self.targets, batch, self.dtype)
        loss = F.cross_entropy(
            logits, labels, reduction="sum", label_smoothing=self.label_smoothing
        )
        return loss[None]

    def count_labels(self, batches: Iterable[LabelledBatch], device: torch.device) -> Tensor:
        """[1] target tokens of all batches."""
        count = sum(self.targets.count(_summaries(batch)) for batch in batches)
        return torch.tensor([float(count)], device=device)

    def loss_weights(self, device: torch.device) -> Tensor:
        """[1] one: there is no other loss."""
        return torch.ones(1, device=device)


def answer(
    writer: Writer, targets: TargetTokenizer, batch: LabelledBatch, dtype: str
) -> tuple[Tensor, Tensor]:
    """[N, V] float32 logits of the target tokens of a batch, and [N] the right ids."""
    device = batch.batch.input_ids.device
    made = targets.targets(_summaries(batch))
    made = Targets(made.inputs.to(device), made.labels.to(device))
    with autocast(device, dtype):
        logits: Tensor = writer(batch.batch, made)
    return logits.float(), made.labels[made.labels != IGNORE]


def _summaries(batch: LabelledBatch) -> list[str]:
    """The references, in the order of the batch's documents."""
    return [example.summary or "" for example in batch.examples]
