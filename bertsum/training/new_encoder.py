"""An encoder with random weights over a vocabulary of characters, where no pretrained one fits."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bertsum.errors import InputError
from bertsum.training.config import NewEncoderConfig

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def make_encoder(
    directory: Path, texts: Iterable[str], config: NewEncoderConfig, seed: int
) -> None:
    """Write a BERT encoder and its tokenizer, as `encoder` of a training configuration takes them.

    Each character of a text, lower-cased and in compatibility form (NFKC), is a token; white space is none. The most
    frequent ones make the vocabulary. Raises InputError where the texts hold no character.
    """
    from transformers import BertConfig, BertModel

    tokenizer = _tokenizer(count_characters(texts), config.max_vocabulary)
    values = config.model_dump(exclude={"max_vocabulary"})
    torch.manual_seed(seed)
    encoder = BertModel(
        BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **values), add_pooling_layer=False
    )
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(directory)
    encoder.save_pretrained(directory)


def count_characters(texts: Iterable[str]) -> Counter[str]:
    """How often each character occurs, as the tokenizer sees it."""
    from tokenizers import normalizers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(
            character for character in normalizer.normalize_str(text) if not character.isspace()
        )
    return counts


def _tokenizer(counts: Counter[str], max_vocabulary: int) -> Any:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    if not counts:
        raise InputError("the sources hold no text to take characters from")
    # equally frequent ones in the order of their code points, so that the same texts give the same vocabulary
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    vocabulary = [*_SPECIAL.values(), *ordered][:max_vocabulary]
    ids = {token: index for index, token in enumerate(vocabulary)}
    backend = Tokenizer(models.WordLevel(ids, unk_token=_SPECIAL["unk_token"]))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    make: Any = PreTrainedTokenizerFast  # carries no types
    return make(tokenizer_object=backend, **_SPECIAL)
