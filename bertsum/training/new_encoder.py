"""An encoder with random weights over a vocabulary of characters, where no pretrained one fits."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bertsum.errors import InputError
from bertsum.storage.folder import Folder
from bertsum.training.config import NewEncoderConfig, TrainingConfig

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer

NEW_ENCODER, ENCODER_DIRECTORY = "new", "encoder"

# [PAD] comes first, so that its id is 0, as BERT has it
_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def encoder_uri(config: TrainingConfig, output: Folder) -> str:
    """Where the encoder of a run lies; a new one is in OUTPUT."""
    is_new = config.encoder == NEW_ENCODER
    return f"{output.uri}/{ENCODER_DIRECTORY}" if is_new else config.encoder


def make_encoder(
    directory: Path, texts: Iterable[str], config: NewEncoderConfig, seed: int
) -> None:
    """Write a BERT encoder and its tokenizer, as `encoder` of a training configuration takes them.

    Each character of a text, lower-cased and in compatibility form (NFKC), is a token; white space
    is none. The most frequent ones make the vocabulary. Raises InputError where the texts hold no
    character.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    counts = count_characters(texts)
    if not counts:
        raise InputError("the sources hold no text to take characters from")
    # equally frequent ones by code point, so that the same texts give the same vocabulary
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    vocabulary = [*_SPECIAL.values(), *ordered][: config.max_vocabulary]
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=_SPECIAL["unk_token"]))
    backend.normalizer = _normalizer()
    # white space has no token, and each other character is a piece
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # carries no types
    tokenizer = make(tokenizer_object=backend, **_SPECIAL)
    sizes = config.model_dump(exclude={"max_vocabulary"})
    torch.manual_seed(seed)
    encoder = BertModel(
        BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes), add_pooling_layer=False
    )
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    encoder.save_pretrained(directory)


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """Count how often each character occurs, as the tokenizer sees it."""
    normalizer = _normalizer()
    counts: Counter[str] = Counter()
    for text in texts:
        # without white space, for which the tokenizer has no token
        counts.update("".join(normalizer.normalize_str(text).split()))
    return counts


def _normalizer() -> "Normalizer":
    from tokenizers import normalizers

    return normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
