"""The keys of `bertsum generate`."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from bertsum.config import NamesConfig, check_language
from bertsum.config_base import Config
from bertsum.errors import ConfigError
from bertsum.job_config import BATCH_TOKENS, BatchTokens, JobConfig, ResourcesConfig, RunConfig
from bertsum.output_config import OutputConfig
from bertsum.schema import TEXT_COLUMN

ABSTRACT = "abstract"
"""The column of written summaries; translations are in `summary_<language>`."""

ROWS_PER_UNIT = 200
"""Default where a model writes, which takes seconds a row."""

_SENTENCES_MODEL = (
    "checkpoint that scores the sentences of documents longer than the model's input; default: the "
    "shipped one"
)


class DecodingConfig(Config):
    """How tokens are chosen. None: what the model's own files say, else the default in brackets."""

    num_beams: int | None = Field(
        None, ge=1, le=64, description="beams of the search; default: the model's, else 4"
    )
    length_penalty: float | None = Field(
        None,
        description="a hypothesis of L tokens is scored by its log-probability / "
        "L ** length_penalty: above 0 favours long texts, below 0 short ones; default: the "
        "model's, else 1",
    )
    min_tokens: int | None = Field(
        None, ge=0, description="fewest tokens of a text; default: the model's, else 0"
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens of a text; default: the model's, else 128, and 256 for a "
        "translation",
    )
    no_repeated_ngrams: int | None = Field(
        None,
        ge=0,
        description="no run of so many tokens twice in a text; 0: any; default: the model's, "
        "else 3, and 0 for a translation",
    )
    sampling: bool = Field(
        False, description="draw each token by its probability instead of searching with beams"
    )
    temperature: float = Field(
        1.0, gt=0, description="what logits are divided by before a token is drawn (sampling)"
    )
    top_k: int = Field(
        0, ge=0, description="draw among so many of the likeliest tokens; 0: all (sampling)"
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="draw among the likeliest tokens that together have this probability "
        "(sampling)",
    )
    seed: int = Field(
        0, ge=0, description="the draws of a text follow from it and from the text (sampling)"
    )

    @model_validator(mode="after")
    def _some_length_is_allowed(self) -> Self:
        if self.max_tokens is not None and (self.min_tokens or 0) > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self


class GenerateConfig(Config):
    """Everything beside the models that changes what a written row holds."""

    text_column: str = Field(TEXT_COLUMN, description="column with the text that is read")
    summary_column: str | None = Field(
        None,
        description="column with an extractive summary of the text, read in its stead where the "
        "text is longer than the model's input; default: the best sentences that fit",
    )
    keep_columns: tuple[str, ...] | None = Field(
        None, description="columns of INPUT that pass through; default: all but the text"
    )
    keep_text: bool = Field(False, description="the text passes through, too")
    document_tokens_column: str | None = Field(
        None,
        description="column with the tokens of the whole document, where the text is a summary of "
        "it; for the count of tokens that were saved",
    )
    translate_to: str | None = Field(
        None,
        description="language of the output, as ISO 639-1 (de) or as the model names it "
        "(deu_Latn); default: no translation",
    )
    language: str | None = Field(
        None, description="ISO 639-1 code of all texts; default: detected, where it is needed"
    )
    language_column: str | None = Field(
        None, description="column with the ISO 639-1 code of each text"
    )
    prefix: str | None = Field(
        None,
        description="what is written before each text, like `summarize: `; default: what the "
        "model's own files say of the task",
    )
    max_input_tokens: int | None = Field(
        None,
        ge=8,
        description="longest input of the model, in tokens; default: what the model was made for, "
        "else 512",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="number format of the model; auto: bfloat16 where the device has it natively, "
        "which is faster, but in which a text depends on its batch far more often",
    )
    max_batch_tokens: BatchTokens = Field(
        "auto",
        description=BATCH_TOKENS + ". Counted are input and output, once for each beam; it is part "
        "of what names results, since a text may be another one in another batch",
    )
    decoding: DecodingConfig = DecodingConfig()

    _language_is_a_code = field_validator("language", mode="after")(check_language)

    @field_validator("translate_to", mode="after")
    @classmethod
    def _language_is_a_name(cls, language: str | None) -> str | None:
        if language is not None and not language.replace("_", "").replace("-", "").isalnum():
            raise ValueError(f"{language!r} is no code of a language, like de or deu_Latn")
        return language

    @model_validator(mode="after")
    def _text_is_kept_once(self) -> Self:
        if self.keep_text and self.text_column in (self.keep_columns or ()):
            raise ValueError(f"keep_text and keep_columns both name {self.text_column!r}")
        return self

    @property
    def output_column(self) -> str:
        """Name of the column of written texts, with which the names of all others begin."""
        return ABSTRACT if self.translate_to is None else f"summary_{self.translate_to}"


class GenerateRows(Config):
    """What decides a written row beside the model; it is hashed into the names of results.

    `sentences_model`: digest of what scores the sentences of long documents.
    """

    generate: GenerateConfig
    sentences_model: str


class GenerateOutputConfig(OutputConfig):
    """What becomes of written rows beside being written."""

    table_name: str = Field(
        "bertsum.abstracts", description="NAMESPACE.TABLE in the Iceberg catalog"
    )


class GenerateJobConfig(RunConfig):
    """`bertsum generate`: what is written, and how the job runs. Only `generate` changes rows."""

    generate: GenerateConfig = GenerateConfig()
    sentences_model: str | None = Field(None, description=_SENTENCES_MODEL)
    output: GenerateOutputConfig = GenerateOutputConfig()
    rows_per_unit: int = Field(
        ROWS_PER_UNIT, ge=1, description="most rows of one unit of work, which is one output file"
    )


class ThenConfig(Config):
    """The file of `--then`: what is written from each summary, and by which replicas."""

    model: str = Field(
        description="BART, Pegasus, T5, Marian, NLLB, mBART, ...: directory, URI or hub name"
    )
    generate: GenerateConfig = GenerateConfig()
    sentences_model: str | None = Field(None, description=_SENTENCES_MODEL)
    resources: ResourcesConfig = ResourcesConfig()

    def of_summaries(self, names: NamesConfig) -> GenerateConfig:
        """What is written, of the columns that `summarize` writes under these names.

        Raises ConfigError where `generate` asks for other columns.
        """
        fixed = {"text_column": names.name_of("summary"), "keep_text": True, "keep_columns": None}
        for key, value in fixed.items():
            given = getattr(self.generate, key)
            if key in self.generate.model_fields_set and given != value:
                raise ConfigError(
                    f"--then: generate.{key}: {given!r} contradicts it: the column "
                    f"{fixed['text_column']!r} of `summarize` is read, and all of its columns "
                    "stay. Leave the key out; summarizer.keep_columns narrows INPUT's columns"
                )
        tokens = self.generate.document_tokens_column or names.name_of("num_tokens")
        values = self.generate.model_dump() | fixed | {"document_tokens_column": tokens}
        return GenerateConfig.model_validate(values)


class SummarizeThenConfig(JobConfig):
    """`summarize` with `--then`: what is written takes longer, so that units are smaller."""

    rows_per_unit: int = Field(
        ROWS_PER_UNIT, ge=1, description="most rows of one unit of work, which is one output file"
    )
