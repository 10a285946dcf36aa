"""Which model reads which document: the readers of a checkpoint or a family, and the languages."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch

from bertsum.checkpoints.config import read_config
from bertsum.checkpoints.family import read_family
from bertsum.checkpoints.outputs import gives_aspects, with_outputs
from bertsum.config import SummarizerConfig
from bertsum.errors import ModelError
from bertsum.inference.reader import Reader
from bertsum.schema import Document, OutputGroup
from bertsum.text.encoder import EncodedDocument
from bertsum.text.language import LanguageDetector
from bertsum.text.language_tags import base_language
from bertsum.text.letterless import has_letter


class Router:
    """The readers of a model, and which of them reads a document.

    - `family`: which member reads which language; None for a checkpoint.
    - `readers`: by the name of the member; a checkpoint has one, of the name "".
    """

    def __init__(
        self,
        directory: Path,
        config: SummarizerConfig,
        device: torch.device,
        dtype: torch.dtype,
    ):
        """Load a checkpoint, or all members of a family. Raises ModelError."""
        self.family = read_family(directory)
        members = {"": directory}
        if self.family is not None:
            members = {name: directory / name for name in self.family.members}
        self.readers: dict[str, Reader] = {}
        for name, member in members.items():
            self.readers[name] = Reader(member, config, device, dtype)

    @property
    def only_reader(self) -> Reader:
        """The reader of a checkpoint. Raises ModelError for a family, which has several."""
        if self.family is not None:
            names = ", ".join(map(repr, self.readers))
            raise ModelError(
                "a family has a model, a tokenizer and an encoder for each member: "
                f"summarizer.readers[NAME], where NAME is one of {names}"
            )
        return self.readers[""]

    def reader_for(self, language: str | None) -> Reader:
        """What reads documents in a language, which may be None for a checkpoint."""
        return self.readers[self.family.member_for(language) if self.family else ""]

    def reader_of(self, encoded: EncodedDocument) -> Reader:
        """What has read an encoded document."""
        return self.reader_for(encoded.language if has_letter(encoded.text) else None)

    def split(
        self, indices: Iterable[int], languages: Sequence[str | None]
    ) -> list[tuple[Reader, list[int]]]:
        """Split indices of documents by the reader for the language of each, in order.

        `languages`: of all documents.
        """
        parts: dict[Reader, list[int]] = {reader: [] for reader in self.readers.values()}
        for index in indices:
            parts[self.reader_for(languages[index])].append(index)
        return [(reader, part) for reader, part in parts.items() if part]

    def needs_language(self, config: SummarizerConfig) -> bool:
        """Whether the language of each text must be known: it chooses the reader, or is asked."""
        return self.family is not None or names_language(config)

    def language_of(self, document: Document, config: SummarizerConfig) -> str | None:
        """Language of a document, by which a family chooses its reader.

        It is that of its row, else the configured one, else what the detector says. None where no
        language is needed, and for a text without a letter, whatever its row says: 👍 is no English.
        """
        if not has_letter(document.text or ""):
            return None
        given = _given_language(document, config)
        if given is None and self.needs_language(config):
            return self.detect_language(document.text or "")
        return given

    def rules_language(
        self, document: Document, language: str | None, config: SummarizerConfig
    ) -> str | None:
        """Language whose rules split a document into sentences; None leaves it to the script.

        Of a checkpoint it is not what the detector says, which is asked only for the sake of a
        column: what else a row holds must not depend on the columns that are chosen.

        `language`: what `language_of` says of the document.
        """
        return language if self.family is not None else _given_language(document, config)

    @cached_property
    def detect_language(self) -> LanguageDetector:
        """The detector, which is loaded where it is first asked for."""
        return LanguageDetector()


def only_member(
    directory: Path, document: Document, config: SummarizerConfig
) -> tuple[Path, SummarizerConfig]:
    """Of a family the member that reads this document, with what the family would write.

    Loading one member takes seconds less than loading all. A checkpoint stays as it is. Aspects
    are left out where the family gives them, but not this member.
    """
    family = read_family(directory)
    if family is None:
        return directory, config
    language = None
    if has_letter(document.text or ""):
        language = _given_language(document, config) or LanguageDetector()(document.text or "")
    member = directory / family.member_for(language)
    config = with_outputs(config, directory)
    values = config.model_dump() | {"language": language, "outputs": list(config.outputs or ())}
    if OutputGroup.ASPECTS in values["outputs"] and not gives_aspects(read_config(member).model):
        values["outputs"].remove(OutputGroup.ASPECTS)
        values["output"]["rename"].pop(OutputGroup.ASPECTS, None)
    return member, SummarizerConfig.model_validate(values)


def _given_language(document: Document, config: SummarizerConfig) -> str | None:
    """The base language of a document's tag, or of the configured one; None where it says none."""
    for tag in (document.language, config.language):
        if language := base_language(tag):
            return language
    return None


def names_language(config: SummarizerConfig) -> bool:
    """Whether the language is an output."""
    return OutputGroup.LANGUAGE in (config.outputs or ())
