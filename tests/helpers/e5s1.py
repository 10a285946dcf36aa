"""Small files of 4-bit weights (E5S1), as `bertsum.checkpoints.q4_encoder` reads them."""

import struct

import numpy as np

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = ["▁", "▁the", "▁cat", "▁dog", "的", "天", "今天", "天气", "很", "好"]
WORDS += ["aa", "a", ",", ".", "e", "é", "fi", "f", "i", "x"]
HIDDEN, INNER, POSITIONS, TOKENS = 32, 64, 16, 30

FULLWIDTH_TILDE = 0xFF5E  # which SentencePiece's nmt_nfkc leaves as it is, unlike NFKC


def tensors(layers: int = 1) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, by their names in the file."""
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (TOKENS, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(layers):
        for part in ("q", "k", "v", "ao"):
            shapes[f"l{layer}.{part}.w"] = (HIDDEN, HIDDEN)
            shapes[f"l{layer}.{part}.b"] = (HIDDEN,)
        for part in ("aln", "oln"):
            shapes[f"l{layer}.{part}.w"] = shapes[f"l{layer}.{part}.b"] = (HIDDEN,)
        shapes[f"l{layer}.fi.w"], shapes[f"l{layer}.fi.b"] = (INNER, HIDDEN), (INNER,)
        shapes[f"l{layer}.fo.w"], shapes[f"l{layer}.fo.b"] = (HIDDEN, INNER), (HIDDEN,)
    return shapes


def blocks(numbers: np.ndarray, scale: float) -> bytes:
    """Whole numbers of -8 to 7 as blocks of 32, each with the scale."""
    packed = b""
    for block in (numbers.reshape(-1, 32) + 8).astype(np.uint8):
        packed += struct.pack("<e", scale) + (block[:16] | block[16:] << 4).tobytes()
    return packed


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a tensor holds before its scale, another for each name."""
    return (np.arange(np.prod(shape)) * 7 + sum(name.encode())).reshape(shape) % 16 - 8


def build(**changes) -> bytes:
    """A file; `changes` replace what goes into it, to damage it."""
    pieces = changes.get("pieces", [*SPECIAL, *WORDS])
    scores = changes.get(
        "scores", [0.0] * 4 + [-(index + 5) / 2 for index in range(len(pieces) - 4)]
    )
    sizes = {"hidden": HIDDEN, "layers": 1, "heads": 4, "inner": INNER, "tokens": TOKENS}
    sizes |= {"positions": POSITIONS, "segments": 2} | changes.get("sizes", {})
    encoded = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    offsets = np.cumsum([0, *map(len, encoded)])
    special_ids = changes.get("special_ids", (0, 2, 1, 3))
    head = changes.get("magic", b"E5S1") + struct.pack("<I", changes.get("version", 1))
    head += struct.pack("<7if", *sizes.values(), changes.get("epsilon", 1e-12))
    head += struct.pack("<i", changes.get("block", 32))
    head += struct.pack("<5iQ", changes.get("num_pieces", len(pieces)), *special_ids, offsets[-1])
    head += changes.get("offsets", offsets).astype("<u4").tobytes()
    head += np.array(scores, "<f4").tobytes() + b"".join(encoded)
    mapping = changes.get("mapping", nmt_nfkc())
    body = b""
    for code, text in mapping.items():
        body += (
            struct.pack("<IB", code, len(text)) + np.array(list(map(ord, text)), "<u4").tobytes()
        )
    head += struct.pack("<iI", len(mapping), changes.get("mapping_bytes", len(body))) + body
    shapes = tensors() | changes.get("shapes", {})
    for name in changes.get("without", ()):
        del shapes[name]
    directory_bytes = 4 + sum(2 + len(name) + 21 for name in shapes)
    offset = len(head) + directory_bytes + changes.get("shift", 0)
    step = changes.get("step", 1)  # 0: all tensors lie at one offset
    directory, data = struct.pack("<i", changes.get("num_tensors", len(shapes))), b""
    for name, shape in shapes.items():
        is_q4 = len(shape) == 2 and name not in ("emb.pos", "emb.type")
        values = numbers(name, shape)
        raw = blocks(values, 0.5) if is_q4 else (values / 2).astype("<f4").tobytes()
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", is_q4, values.size, offset + step * len(data), len(raw))
        data += raw
    return head + directory + data


def nmt_nfkc() -> dict[int, str]:
    """A map that agrees with the reader's normalizers but for the fullwidth tilde."""
    from tokenizers import normalizers

    both = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    mapping = {}
    for code in range(1, 0x30000):
        character = chr(code)
        if not 0xD800 <= code < 0xE000 and code != FULLWIDTH_TILDE:
            text = both.normalize_str(character)
            if text != character:
                mapping[code] = text
    return mapping
