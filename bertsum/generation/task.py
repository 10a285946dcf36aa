"""How a model is told what to write: a prefix, a token before the text, or the first token written.

- T5 reads a prefix: `summarize: `, `translate English to German: `. Its configuration lists them.
- Marian models of several languages read a token before the text: `>>deu<<`.
- NLLB, mBART and M2M100 write a token of the language first, and read one of the text's language.
- Marian models of one pair need nothing.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsum.checkpoints.config import CONFIG_FILE
from bertsum.errors import ConfigError
from bertsum.generation.config import GenerateConfig
from bertsum.text.language_tags import base_language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens of languages: deu_Latn of NLLB and de_DE of mBART, __de__ of M2M100, >>deu<< of Marian.
_WRITTEN_TOKEN = re.compile(r"__([a-z]{2,3})__|([a-z]{2,3}_[A-Z][A-Za-z]{1,3})")
_READ_TOKEN = re.compile(r">>([A-Za-z_-]+)<<")
_TASK = re.compile(r"translation_([a-z]+)_to_([a-z]+)")
_TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_SHOWN = 40  # languages in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a model must be told.

    - `prefix`: before each text.
    - `first_token`: the id that is written first; None: the model's own choice.
    - `start_token`: the id from which the decoder starts; None: the model's.
    - `languages`: the model's name of each language of texts that its tokenizer must know, by the
      base language, and by that with its script; empty where it need not.
    - `settings`: of the model's configuration for this task, like num_beams.
    """

    prefix: str = ""
    first_token: int | None = None
    start_token: int | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def find_task(
    directory: Path, tokenizer: "PreTrainedTokenizerBase", config: GenerateConfig
) -> Task:
    """Find out how the model of `directory` is told to write what is asked for.

    Raises ConfigError that names what the model can do.
    """
    values = _read_json(directory / CONFIG_FILE)
    tasks = values.get("task_specific_params") or {}
    written, read = _language_tokens(tokenizer)
    languages: dict[str, str] = {}
    if written and hasattr(tokenizer, "src_lang"):
        for name in written:
            languages.setdefault(base_language(name), name)
            languages.setdefault(_in_script(name), name)
    if config.translate_to is None:
        settings = dict(tasks.get("summarization", {}))
        prefix = str(settings.pop("prefix", ""))
        return _with_prefix(Task(prefix=prefix, languages=languages, settings=settings), config)
    if written:
        name = _choose(config.translate_to, list(written))
        token = written[name]
        # mBART-25 starts from the token of the language, all others write it first
        starts = values.get("decoder_start_token_id") in written.values()
        task = Task(
            first_token=None if starts else token,
            start_token=token if starts else None,
            languages=languages,
        )
        return _with_prefix(task, config)
    if read:
        return _with_prefix(Task(prefix=f">>{_choose(config.translate_to, read)}<< "), config)
    # of Marian's tokenizers, which other classes would not keep
    only_target = _read_json(directory / _TOKENIZER_CONFIG_FILE).get("target_lang")
    return _with_prefix(_of_one_pair(base_language(only_target), tasks, config), config)


def _of_one_pair(only_target: str, tasks: Mapping[str, Any], config: GenerateConfig) -> Task:
    """The task of a model without tokens of languages.

    - `only_target`: the one language that it translates to; empty if its files name none.
    - `tasks`: settings of each task in the model's configuration.
    """
    target = base_language(config.translate_to)
    pairs: dict[tuple[str, str], dict[str, Any]] = {}  # settings by languages
    for name, settings in tasks.items():
        if match := _TASK.fullmatch(name):
            pairs[base_language(match[1]), base_language(match[2])] = dict(settings)
    source = base_language(config.language) or "en"
    if (source, target) in pairs:
        settings = pairs[source, target]
        prefix = str(settings.pop("prefix", ""))
        return Task(prefix=prefix, settings=settings)
    if config.prefix is not None or (only_target and only_target == target):
        return Task()
    if pairs:
        known = ", ".join(f"{first} to {second}" for first, second in sorted(pairs))
        raise ConfigError(
            f"--translate-to {config.translate_to}: the model translates {known}, and not {source} "
            "(generate.language) to that; generate.prefix gives another prefix"
        )
    if only_target:
        raise ConfigError(
            f"--translate-to {config.translate_to}: the model translates to {only_target} alone"
        )
    raise ConfigError(
        f"--translate-to {config.translate_to}: the model's files name no language that it "
        "translates to. If it was trained to do so, say what it reads before each text: "
        "generate.prefix ('' for nothing)"
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    """A file of the model; empty where there is none."""
    if not path.is_file():
        return {}
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def source_language(task: Task, tag: str) -> str | None:
    """The model's name of the language of a text; None where it does not know it.

    `tag`: as a corpus has it: zh is in the first script that the model knows of it, zh-Hant in its.
    """
    return task.languages.get(_in_script(tag)) or task.languages.get(base_language(tag))


def _in_script(tag: str) -> str:
    """The language of a tag with what stands behind it: zh-hant of zho_Hant, and of zh-Hant."""
    rest = tag.replace("_", "-").partition("-")[2]
    return f"{base_language(tag)}-{rest.lower()}" if rest else base_language(tag)


def _language_tokens(
    tokenizer: "PreTrainedTokenizerBase",
) -> tuple[dict[str, int], list[str]]:
    """Languages with a token that is written, with its id, and those with one that is read."""
    written: dict[str, int] = {}
    read: list[str] = []
    # the vocabulary of M2M100 leaves these tokens out
    vocabulary = tokenizer.get_vocab() | getattr(tokenizer, "lang_token_to_id", {})
    for token, index in sorted(vocabulary.items()):
        if match := _WRITTEN_TOKEN.fullmatch(token):
            written[match[1] or match[2]] = index
        elif match := _READ_TOKEN.fullmatch(token):
            read.append(match[1])
    return written, read


def _choose(asked: str, known: list[str]) -> str:
    """The model's name of a language. Raises ConfigError for none, and for several of them."""
    if asked in known:
        return asked
    matching = [name for name in known if base_language(name) == base_language(asked)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise ConfigError(
            f"--translate-to {asked}: the model knows it as {', '.join(matching)}; give one of them"
        )
    names = sorted(known)
    shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
    raise ConfigError(
        f"--translate-to {asked}: the model does not know this language; it knows {len(names)}: "
        f"{shown}"
    )


def _with_prefix(task: Task, config: GenerateConfig) -> Task:
    """The same with the prefix of the configuration, if it has one."""
    return task if config.prefix is None else replace(task, prefix=config.prefix)
