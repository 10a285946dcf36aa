"""Would the encoder's products in whole numbers of 8 bits be worth it on this CPU?

    python tests/benchmarks/int8.py ../shared/data/sentiment/*/validation.parquet --rows 300

Each linear layer of the encoder multiplies whole numbers: its weights with a scale for each output,
its inputs with a scale and a zero point for each token. oneDNN makes such products fast on CPUs with
VNNI. The same rows go through float32, bfloat16 and int8 in turn; shown are CPU seconds and how
often label and summary are those of float32. Nothing of the product uses this.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from bertsum import Prediction, Summarizer
from bertsum.config import SummarizerConfig

LEVELS = 255  # of an input: 0 to 255
_ROWS = 4096  # for which the order of the weights is best
_ONE, _NO_ZERO_POINT = 1.0, 0


class Int8Linear(nn.Module):
    """A linear layer whose products are of unsigned inputs and signed weights of 8 bits.

    With x = low + step q for a token, W x + b = step (W q) + low (sum of W) + b.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1) / 127  # [out]
        whole = (weight / scale[:, None]).round().to(torch.int8)
        self.bias, self.scale = linear.bias.detach(), scale
        self.sums = (whole.float() * scale[:, None]).sum(1)  # [out]
        self.zero_points = torch.zeros(len(scale), dtype=torch.int32)
        self.weight = torch.ops.onednn.qlinear_prepack(whole, [_ROWS, weight.shape[1]])

    def forward(self, values: Tensor) -> Tensor:
        """[N, in] -> [N, out] float32."""
        low, high = values.aminmax(dim=1, keepdim=True)
        low, high = low.clamp(max=0), high.clamp(min=0)
        step = ((high - low) / LEVELS).clamp(min=1e-20)
        whole = ((values - low) / step).round_().to(torch.uint8)
        products = torch.ops.onednn.qlinear_pointwise(
            whole, _ONE, _NO_ZERO_POINT, self.weight, self.scale, self.zero_points, None,
            _ONE, _NO_ZERO_POINT, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self.bias, products, step).addcmul_(low, self.sums)


def convert(module: nn.Module) -> None:
    """Replace each linear layer of a float32 model."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, Int8Linear(child))


def models() -> dict[str, Summarizer]:
    """The shipped model by the arithmetic of its encoders."""
    by_name = {}
    for name in ("float32", "bfloat16", "int8"):
        dtype = "float32" if name == "int8" else name
        by_name[name] = Summarizer(
            config=SummarizerConfig.model_validate({"dtype": dtype}), device="cpu"
        )
    for reader in by_name["int8"].readers.values():
        convert(reader.model.encoder)
    return by_name


def share(ours: Sequence[Prediction], theirs: Sequence[Prediction], field: str) -> float:
    """Of rows with the same value."""
    pairs = zip(ours, theirs, strict=True)
    num_equal = sum(bool(getattr(a, field) == getattr(b, field)) for a, b in pairs)
    return num_equal / len(ours)


def main() -> None:
    """Print a row for each file and arithmetic."""
    options = argparse.ArgumentParser()
    options.add_argument("inputs", type=Path, nargs="+")
    options.add_argument("--rows", type=int, default=300)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    vnni = torch.cpu._is_vnni_supported()
    print(f"VNNI: {vnni}" + ("" if vnni else "; int8 may be slow, or wrong by saturation"))
    by_name = models()
    print("file, rows, arithmetic, CPU s, of float32's, labels as float32, summaries as float32")
    agreeing: dict[str, float] = dict.fromkeys(by_name, 0)
    num_rows = 0
    for path in arguments.inputs:
        column = pq.read_table(path, columns=["document"])["document"]
        texts = [text for text in column.to_pylist() if text][: arguments.rows]
        num_rows += len(texts)
        exact: list[Prediction] = []
        exact_seconds = 0.0
        for name, summarizer in by_name.items():
            summarizer(texts[: len(texts) // 10 + 1])  # the first rows learn words
            start = time.process_time()
            predictions = summarizer(texts)
            seconds = time.process_time() - start
            if name == "float32":
                exact, exact_seconds = predictions, seconds
            labels = share(predictions, exact, "sentiment")
            agreeing[name] += labels * len(texts)
            print(
                f"{path.parent.name}, {len(texts)}, {name}, {seconds:.2f}, "
                f"{seconds / exact_seconds:.2f}, {labels:.4f}, "
                f"{share(predictions, exact, 'summary_sentences'):.4f}",
                flush=True,
            )
    for name, count in agreeing.items():
        print(f"labels of all {num_rows:,} rows, {name}: {count / num_rows:.4f}")


if __name__ == "__main__":
    main()
