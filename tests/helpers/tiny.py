"""Tokenizers of a few hundred tokens and encoders of two layers with random weights, made in milliseconds."""

import json
import string
from functools import cache
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import bertsum
from bertsum.checkpoints.checkpoint import make_delta, save_checkpoint, save_delta
from bertsum.checkpoints.config import BaseEncoder
from bertsum.model.bert_sum import BertSum
from bertsum.model_config import ModelConfig
from bertsum.text.encoder import DocumentEncoder, EncodedDocument

WORDS = (  # noqa: SIM905 - a list of 38 strings is no easier to read
    "the its cat dog bird house river city market price bank report says on in of and was is good bad rises falls "
    "sleeps runs sees old new red blue big small one two three great awful marker"
).split()
CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
NUM_POSITIONS = 64

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_ROBERTA_SPECIAL = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's: English words and letters, and the Cyrillic alphabet, but no Han."""
    letters = string.ascii_lowercase + string.digits + CYRILLIC
    vocabulary = [
        *_SPECIAL.values(),
        *letters,
        *(f"##{letter}" for letter in letters),
        *string.punctuation,
    ]
    vocabulary += [*WORDS, "zebra"]  # which is in no text made here
    tokenizer = Tokenizer(
        models.WordPiece(_ids(vocabulary), unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)


def byte_level_bpe() -> PreTrainedTokenizerFast:
    """As RoBERTa's: bytes and a few merges."""
    vocabulary = [
        *_ROBERTA_SPECIAL.values(),
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "th",
        "Ġth",
        "Ġthe",
        "at",
    ]
    merges = [("t", "h"), ("Ġ", "th"), ("Ġth", "e"), ("a", "t")]
    tokenizer = Tokenizer(models.BPE(_ids(vocabulary), merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_ROBERTA_SPECIAL)


def unigram() -> PreTrainedTokenizerFast:
    """As XLM-R's: Unigram over metaspace, with some Han characters."""
    pieces = [
        *((f"▁{word}", -5.0) for word in WORDS),
        *((letter, -9.0) for letter in string.printable.strip()),
    ]
    pieces += [
        ("▁", -8.0),
        ("。", -6.0),
        *((character, -7.0) for character in "猫狗坐在垫子上河水城市很大"),
    ]
    vocabulary = [*((token, 0.0) for token in _ROBERTA_SPECIAL.values()), *pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_ROBERTA_SPECIAL)


TOKENIZERS = {"wordpiece": wordpiece, "byte_level_bpe": byte_level_bpe, "unigram": unigram}
ENCODER_TOKENIZERS = {
    "bert": wordpiece,
    "distilbert": wordpiece,
    "electra": wordpiece,
    "mpnet": unigram,
    "roberta": byte_level_bpe,
    "xlm-roberta": unigram,
}


def encoder(kind: str = "bert", vocab_size: int = 400, **changes):
    """A Transformers encoder with random weights, hidden size 32, without dropout."""
    torch.manual_seed(7)
    is_roberta = kind in ("roberta", "xlm-roberta", "mpnet")
    values = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": NUM_POSITIONS + 2 * is_roberta,
        "pad_token_id": int(is_roberta),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2,  # so that tokens differ, as trained ones do
    }
    if kind == "distilbert":
        values = {
            "vocab_size": vocab_size,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": NUM_POSITIONS,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "initializer_range": 0.2,
        }
    if kind == "electra":
        values["embedding_size"] = 16
    if kind in ("roberta", "xlm-roberta"):
        values["type_vocab_size"] = 1
    config = transformers.AutoConfig.for_model(kind, **(values | changes))
    return transformers.AutoModel.from_config(config).eval()


def model_config(**changes) -> ModelConfig:
    """Small heads: 4 attention heads, 64 inner features."""
    return ModelConfig.model_validate(
        {"num_heads": 4, "feed_forward_size": 64, "max_window_tokens": 64} | changes
    )


def model(kind: str = "bert", **changes) -> BertSum:
    """Encoder and heads with random weights, in evaluation mode."""
    base = encoder(kind)
    torch.manual_seed(8)
    return BertSum(base, model_config(**changes)).eval()


def save_moved(directory: Path, base: BaseEncoder, *, rank: int, scale: float) -> Path:
    """Save a delta checkpoint whose encoder differs from `base` by products of this rank."""
    moved = model()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, weight in moved.encoder.named_parameters():
            if ".query.weight" in name or ".value.weight" in name:
                weight += (
                    scale * torch.randn(len(weight), rank) @ torch.randn(rank, weight.shape[1])
                )
    delta = make_delta(moved, base, rank)
    save_delta(directory, moved, delta, "", version=bertsum.__version__)
    return directory


def document_encoder(
    tokenizer=None, *, num_segments: int = 2, max_positions: int = NUM_POSITIONS, **changes
):
    """A DocumentEncoder; WordPiece unless another tokenizer is given."""
    return DocumentEncoder(
        tokenizer or wordpiece(),
        model_config(**changes),
        num_segments=num_segments,
        max_positions=max_positions,
    )


def encode(*texts: str, tokenizer=None, max_windows: int = 64, **changes) -> list[EncodedDocument]:
    """Encoded documents, their languages found by script."""
    encoder = document_encoder(tokenizer, **changes) if tokenizer else _wordpiece_encoder(**changes)
    return encoder.encode(texts, [None] * len(texts), max_windows)


@cache
def _wordpiece_encoder(**changes):
    return document_encoder(**changes)


def sentence(*numbers: int) -> str:
    """Words by number, with a full stop: sentence(1, 2) == 'Its cat.'."""
    return " ".join(WORDS[number % len(WORDS)] for number in numbers).capitalize() + "."


def text(num_sentences: int, length: int = 6, first: int = 0) -> str:
    """Sentences that differ from one another, `length` words each."""
    return " ".join(
        sentence(*range(first + 7 * i, first + 7 * i + length)) for i in range(num_sentences)
    )


def save(directory: Path, base, tokenizer) -> Path:
    """A bare encoder directory, as a hub has it."""
    base.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def family(directory: Path, **changes) -> Path:
    """A family: English by a WordPiece model, all other languages by a Unigram one."""
    values = {
        "bertsum_version": bertsum.__version__,
        "members": {"english": ["en"], "multilingual": []},
        "others": "multilingual",
    }
    for name, kind in (("english", "bert"), ("multilingual", "xlm-roberta")):
        save_checkpoint(
            directory / name,
            model(kind),
            ENCODER_TOKENIZERS[kind](),
            f"# {name}\n",
            version=bertsum.__version__,
        )
    (directory / "family.json").write_text(json.dumps(values | changes))
    return directory


def _ids(vocabulary: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(vocabulary)}
