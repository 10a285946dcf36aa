"""Encoders of BERT's family and WordPiece tokenizers, read without Transformers.

Importing Transformers' modules takes longer than reading the files. What is read here is what
Transformers would make of the same files; where they hold anything else than is known here, or are
damaged, the answer is None, and Transformers reads them or says what is wrong.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertsum.checkpoints.config import CONFIG_FILE, WEIGHTS_FILE
from bertsum.checkpoints.size_checks import check_numbers, shapes_of, skeleton, without_numbers
from bertsum.errors import ModelError
from bertsum.model.bert_encoder import BertConfig, BertEncoder, read_bert_config
from bertsum.text.plain_tokenizer import PlainTokenizer

_TOKENIZER_FILE, _TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
_SPECIAL_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}
_TOKEN_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_CLASSES = ("BertTokenizer", "BertTokenizerFast")
_READ = ("tokenize_chinese_chars", "strip_accents", "do_lower_case")
# Settings of a tokenizer that change no id of a token.
_IGNORED = frozenset(
    (
        *("backend", "clean_up_tokenization_spaces", "do_basic_tokenize", "is_local"),
        *("local_files_only", "max_length", "model_input_names", "model_max_length"),
        *("name_or_path", "pad_to_multiple_of", "pad_token_type_id", "padding_side"),
        *("special_tokens_map_file", "stride", "tokenizer_class", "tokenizer_file"),
        *("truncation_side", "truncation_strategy"),
    )
)


def read_encoder(directory: Path, full_config: Callable[[], Any]) -> BertEncoder | None:
    """Read an encoder that is not part of a checkpoint: `config.json` and one file of weights.

    - `full_config`: loads its configuration by Transformers
    """
    config_path = directory / CONFIG_FILE
    try:
        values = json.loads(config_path.read_text(encoding="utf-8"))
        config = read_bert_config(values) if isinstance(values, dict) else None
        names = {path.name for path in directory.iterdir()}
        others = {name for name in names if name.endswith((".safetensors", ".index.json"))}
        if config is None or others != {WEIGHTS_FILE} or "adapter_config.json" in names:
            return None
        weights = load_file(directory / WEIGHTS_FILE)
        # before a module is made for each layer that a damaged configuration asks for
        check_numbers(config_path, values, shapes_of(weights))
    except (OSError, ValueError, SafetensorError, ModelError):
        return None
    expected = skeleton(lambda: BertEncoder(config))
    # The file may hold more, such as a pooler, which no head reads.
    if any(name not in weights or weights[name].shape != expected[name] for name in expected):
        return None
    # copied, whatever the precision of the file: what was loaded is the file, mapped into memory
    copies = {name: weights[name].to(torch.float32, copy=True) for name in expected}
    return encoder_with(config, full_config, copies)


def empty_encoder(config: BertConfig, full_config: Callable[[], Any]) -> BertEncoder:
    """An encoder in evaluation mode, on the CPU, whose float32 weights hold no numbers yet."""
    shapes = skeleton(lambda: BertEncoder(config))
    weights = {name: torch.empty(shape) for name, shape in shapes.items()}
    return encoder_with(config, full_config, weights)


def encoder_with(
    config: BertConfig, full_config: Callable[[], Any], weights: Mapping[str, Tensor]
) -> BertEncoder:
    """An encoder in evaluation mode with these very tensors, in float32."""
    encoder = without_numbers(lambda: BertEncoder(config, full_config))
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval()


def read_tokenizer(directory: Path, make: Callable[[], Any]) -> PlainTokenizer | None:
    """Read a tokenizer of BERT, from `tokenizer.json` and `tokenizer_config.json`.

    - `make`: loads it by Transformers
    """
    try:
        text = (directory / _TOKENIZER_FILE).read_text(encoding="utf-8")
        given = json.loads((directory / _TOKENIZER_CONFIG_FILE).read_text(encoding="utf-8"))
        ids = _bert_ids(json.loads(text), given)
        special_map = directory / "special_tokens_map.json"  # of older versions
        if special_map.exists():
            ids = ids and _bert_ids(json.loads(text), given | json.loads(special_map.read_text()))
        if ids is None or (directory / "added_tokens.json").exists():
            return None
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception:  # of a damaged file; `tokenizers` has no class of errors
        return None
    return PlainTokenizer(
        backend_tokenizer=backend,
        cls_token_id=ids["[CLS]"],
        sep_token_id=ids["[SEP]"],
        pad_token_id=ids["[PAD]"],
        unk_token_id=ids["[UNK]"],
        make=make,
    )


def _bert_ids(settings: dict[str, Any], given: dict[str, Any]) -> dict[str, int] | None:
    """Ids of the special tokens, where the files are all that Transformers makes of them.

    Its BertTokenizer takes the vocabulary alone from `tokenizer.json`, and sets up the rest itself.

    - `settings`: content of `tokenizer.json`; its vocabulary is taken out
    - `given`: content of `tokenizer_config.json`
    """
    vocabulary = settings["model"].pop("vocab")
    ids = {token: vocabulary[token] for token in _SPECIAL_TOKENS.values()}
    special = {token: _TOKEN_FLAGS | {"content": token, "special": True} for token in ids}
    added = [special[token] | {"id": ids[token]} for token in sorted(ids, key=ids.__getitem__)]
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    texts = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]
    end_of_pair = {"SpecialToken": {"id": "[SEP]", "type_id": 1}}
    expected = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": given.get("tokenize_chinese_chars", True),
            "strip_accents": given.get("strip_accents"),
            "lowercase": given.get("do_lower_case", True),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, texts[0], last],
            "pair": [first, texts[0], last, texts[1], end_of_pair],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
    }
    for key in ("truncation", "padding"):  # which a DocumentEncoder takes out
        settings.pop(key, None)
    is_known = settings == expected and given["tokenizer_class"] in _CLASSES
    for key, value in given.items():
        if key in _SPECIAL_TOKENS:
            token = _SPECIAL_TOKENS[key]
            is_known &= value in (token, _TOKEN_FLAGS | {"content": token})
        elif key == "added_tokens_decoder":
            is_known &= value == {str(ids[token]): flags for token, flags in special.items()}
        elif key == "never_split":
            is_known &= value is None
        else:
            is_known &= key in _IGNORED or key in _READ
    return ids if is_known else None
