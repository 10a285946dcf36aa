"""Configuration of the heads that are fitted behind the steps: the embedding and the query."""

from pydantic import Field

from bertsum.config_base import Config
from bertsum.schema import TEXT_COLUMN


class EmbeddingTextsConfig(Config):
    """Texts without labels, to fit `model.embedding_layers` on."""

    uri: str = Field(description="Parquet file, directory or glob with the texts")
    text_column: str = Field(TEXT_COLUMN, description="column with the texts")
    max_rows: int = Field(2000, ge=1, description="most texts, drawn at random with the seed")


class EmbeddingPairsConfig(Config):
    """Pairs of texts of which the first shall find the second by the nearest embedding."""

    uri: str = Field(description="Parquet file, directory or glob with a pair in each row")
    query_column: str = Field(description="column with what is searched for: title, question")
    text_column: str = Field(
        TEXT_COLUMN, description="column with what is to be found: document, answer"
    )
    max_rows: int = Field(10_000, ge=1, description="most pairs, drawn at random with the seed")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="how much the loss of these pairs counts"
    )


class EmbeddingConfig(Config):
    """How the matrix of `model.embedding_layers` is fitted at the end of a run."""

    texts: tuple[EmbeddingTextsConfig, ...] = Field(
        min_length=1, description="texts like those that will be embedded, of training rows"
    )
    pairs: tuple[EmbeddingPairsConfig, ...] = Field(
        (),
        description="pairs of training rows that the matrix learns from, too, once it is fitted: a "
        "query nearer to its text than to those of other pairs; with trained: embedding, and without "
        "new_heads, they go on from the matrix of start_from, which is not fitted again",
    )
    prefix: str = Field(
        "", description="what the encoder's authors put before a text: `query: ` for E5"
    )
    max_tokens: int = Field(
        256, ge=16, description="tokens of a text that are read, from its beginning"
    )


class QueryPairsConfig(Config):
    """Documents, a query of each, and what the sentences that answer it shall say."""

    uri: str = Field(description="Parquet file, directory or glob with a pair in each row")
    query_column: str = Field(description="column with the query: title, question")
    summary_column: str = Field(description="column with the text that answers it; maybe the same")
    text_column: str = Field(TEXT_COLUMN, description="column with the document")
    num_sentences: int = Field(3, ge=1, description="sentences to choose for each query")
    max_rows: int = Field(500, ge=20, description="most pairs, drawn at random with the seed")


class QueryFitConfig(Config):
    """How it is fitted what importance and a query weigh in the choice of sentences."""

    pairs: tuple[QueryPairsConfig, ...] = Field(
        min_length=1,
        description="pairs of training rows: of the sentences of a pair's document and of another "
        "pair's, those that answer the query are to be chosen",
    )
