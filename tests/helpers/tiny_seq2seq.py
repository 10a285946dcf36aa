"""Sequence-to-sequence models of two layers with random weights, as a hub has them; made in milliseconds.

There is no hub here. What these write is no language, but the way to it is that of the real ones.
"""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from helpers import tiny

SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
NUM_POSITIONS = 64
LANGUAGES = ["eng_Latn", "deu_Latn", "zho_Hans", "zho_Hant"]  # of the tiny NLLB


def tokenizer(*extra: str) -> PreTrainedTokenizerFast:
    """Words of `tiny` and single letters; `</s>` ends a text. `extra`: further tokens."""
    words = [(f"▁{word}", -5.0) for word in (*tiny.WORDS, *map(str.capitalize, tiny.WORDS))]
    letters = [(letter, -9.0) for letter in ("▁", *map(chr, range(33, 127)))]
    vocabulary = [*((token, 0.0) for token in (*SPECIAL.values(), *extra)), *words, *letters]
    fast = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=fast, **SPECIAL)


def save(directory: Path, kind: str = "bart", *, extra: tuple[str, ...] = (), **changes) -> Path:
    """A model of a kind that `transformers.AutoConfig` knows, with `tokenizer(*extra)`."""
    return _save(directory, kind, tokenizer(*extra), changes)


def save_nllb(directory: Path, **changes) -> Path:
    """As NLLB: a token of its language before a text, and before what is written."""
    words = [f"▁{word}" for word in tiny.WORDS]
    letters = ["▁", *map(chr, range(33, 127))]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL.values(), *letters])}
    merges = []
    for word in words:  # joined letter by letter: ▁ t, ▁t h, ▁th e
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    fast = transformers.NllbTokenizer(
        vocab=vocabulary, merges=merges, additional_special_tokens=LANGUAGES
    )
    return _save(directory, "m2m_100", fast, changes)


def save_mbart(directory: Path, **changes) -> Path:
    """As mBART-50 for many languages."""
    vocabulary = [*((token, 0.0) for token in SPECIAL.values())]
    vocabulary += [(f"▁{word}", -5.0) for word in tiny.WORDS]
    vocabulary += [(letter, -9.0) for letter in ("▁", *map(chr, range(33, 127)))]
    fast = transformers.MBart50Tokenizer(vocab=vocabulary)
    return _save(directory, "mbart", fast, changes)


def _save(directory: Path, kind: str, fast, changes: dict) -> Path:
    torch.manual_seed(3)
    sizes = {"d_model": 32, "vocab_size": len(fast), "max_position_embeddings": NUM_POSITIONS}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 2, f"{side}_attention_heads": 4, f"{side}_ffn_dim": 64}
    if kind == "t5":
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        sizes["vocab_size"] = len(fast)
    ids = {name.replace("token", "token_id"): fast.convert_tokens_to_ids(token)
           for name, token in SPECIAL.items()}  # fmt: skip
    start = {"decoder_start_token_id": ids["pad_token_id" if kind == "t5" else "eos_token_id"]}
    task = changes.pop("task_specific_params", None)
    config = transformers.AutoConfig.for_model(kind, **(sizes | ids | start | changes))
    config.init_std = 0.3  # so that texts differ
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    if hasattr(model, "final_logits_bias"):  # it ends at times, as a trained one does
        model.final_logits_bias[0, ids["eos_token_id"]] = 1.0
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    if task is not None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"task_specific_params": task}))
    return directory
