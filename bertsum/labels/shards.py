"""The rows of training shards: documents that are split, tokenized and labelled already.

`bertsum prepare` writes them. A row has the columns of the input row (labels keep their names, so
one source configuration fits both), and

    num_tokens  int32    tokens of the document, without special tokens
    prepared    struct
        language         string          ISO 639-1
        sentence_starts  list<int32>     offset of each sentence in the text, in characters
        sentence_stops   list<int32>
        sentence_tokens  list<int32>     number of tokens of each sentence
        input_ids        list<int32>     tokens of all sentences in turn, without special tokens
        sentence_labels  list<float32>   1 for a sentence of the summary, 0 for another one, -1 for
                                         one without a label; null: none has one

Windows are cut when the rows are read, so the shards fit any window size. They fit one tokenizer:
its digest is in the schema's metadata under `bertsum.tokenizer`. A shard has only rows that train
something.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bertsum.errors import InputError
from bertsum.text.encoder import DocumentEncoder, EncodedDocument, TokenizedDocuments
from bertsum.text.ragged import split_runs
from bertsum.text.sentences import Span

PREPARED_COLUMN, TOKENS_COLUMN = "prepared", "num_tokens"
PREPARED_TYPE = pa.struct(
    [
        pa.field("language", pa.string()),
        pa.field("sentence_starts", pa.list_(pa.int32())),
        pa.field("sentence_stops", pa.list_(pa.int32())),
        pa.field("sentence_tokens", pa.list_(pa.int32())),
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("sentence_labels", pa.list_(pa.float32())),
    ]
)
_TOKENIZER_KEY = b"bertsum.tokenizer"


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """What the column `prepared` holds of one row."""

    language: str
    spans: Sequence[Span]
    sentence_tokens: npt.NDArray[np.int32]  # [S]
    input_ids: npt.NDArray[np.int32]
    sentence_labels: npt.NDArray[np.float32] | None  # [S]

    @classmethod
    def from_row(cls, value: Mapping[str, Any]) -> Self:
        """From the struct as Arrow gives it to Python."""
        labels = value["sentence_labels"]
        return cls(
            value["language"],
            list(zip(value["sentence_starts"], value["sentence_stops"], strict=True)),
            np.array(value["sentence_tokens"], np.int32),
            np.array(value["input_ids"], np.int32),
            None if labels is None else np.array(labels, np.float32),
        )


def is_prepared(schema: pa.Schema) -> bool:
    """Whether a file is a training shard."""
    return PREPARED_COLUMN in schema.names and _TOKENIZER_KEY in (schema.metadata or {})


def shard_schema(schema: pa.Schema, tokenizer_digest: str) -> pa.Schema:
    """Schema of a training shard whose rows also have the columns of `schema`."""
    fields = [
        *schema,
        pa.field(TOKENS_COLUMN, pa.int32(), nullable=False),
        pa.field(PREPARED_COLUMN, PREPARED_TYPE),
    ]
    return pa.schema(fields, {_TOKENIZER_KEY: tokenizer_digest.encode()})


def check_tokenizer(schema: pa.Schema, encoder: DocumentEncoder, uri: str) -> None:
    """Raise InputError when a shard was made with another tokenizer than the encoder's.

    `uri`: of the shard, for the message.
    """
    # ids of tokens mean other words to another tokenizer, and nothing would show it
    digest = (schema.metadata or {}).get(_TOKENIZER_KEY, b"").decode()
    if digest != encoder.tokenizer_digest:
        raise InputError(
            f"{uri} was prepared with another tokenizer (digest {digest[:12]}) than the model's "
            f"({encoder.tokenizer_digest[:12]}); prepare it again with `--encoder` of this model"
        )


def prepared_array(documents: Sequence[PreparedDocument | None]) -> pa.Array:
    """The column `prepared`; None becomes a null."""
    rows: list[dict[str, object] | None] = []
    for document in documents:
        if document is None:
            rows.append(None)
            continue
        row: dict[str, object] = {
            "language": document.language,
            "sentence_starts": [start for start, _ in document.spans],
            "sentence_stops": [stop for _, stop in document.spans],
            "sentence_tokens": document.sentence_tokens,
            "input_ids": document.input_ids,
            "sentence_labels": document.sentence_labels,
        }
        rows.append(row)
    return pa.array(rows, PREPARED_TYPE)


def encode_prepared(
    documents: Sequence[PreparedDocument],
    texts: Sequence[str],
    encoder: DocumentEncoder,
    max_windows: int,
) -> list[EncodedDocument]:
    """What `encoder.encode(texts)` gives, without splitting and tokenizing again."""
    none = np.zeros(0, np.int32)  # numpy concatenates no empty list
    tokenized = TokenizedDocuments(
        texts,
        [document.language for document in documents],
        [list(document.spans) for document in documents],
        np.concatenate([none, *(document.input_ids for document in documents)]),
        np.concatenate([none, *(document.sentence_tokens for document in documents)]),
    )
    return encoder.window(tokenized, max_windows)


def split_tokenized(tokenized: TokenizedDocuments) -> list[PreparedDocument]:
    """One document each, without labels."""
    counts = [len(spans) for spans in tokenized.spans]
    lengths = split_runs(tokenized.lengths, counts)
    # a document has as many tokens as its sentences together
    ids = split_runs(tokenized.ids, [int(part.sum()) for part in lengths])
    documents = []
    for index, language in enumerate(tokenized.languages):
        spans = tokenized.spans[index]
        documents.append(PreparedDocument(language, spans, lengths[index], ids[index], None))
    return documents
