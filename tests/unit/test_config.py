"""One way for a value: default <- YAML <- --set; and messages that help."""

import itertools
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from bertsum.config import SelectionConfig, SummarizerConfig
from bertsum.config_base import Config, load_config
from bertsum.errors import ConfigError
from bertsum.evaluation.config import EvaluationConfig
from bertsum.generation.config import GenerateConfig
from bertsum.job_config import JobConfig
from bertsum.model_config import ModelConfig
from bertsum.training.config import TrainingConfig
from bertsum.tuning.config import TuningConfig


def test_set_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "rows_per_unit: 7\nmax_unit_attempts: 9\nsummarizer: {text_column: body, selection: {size: 5}}\n"
    )
    config = load_config(
        JobConfig, file, ["rows_per_unit=8", "summarizer.selection.trigram_blocking=false"]
    )
    assert (config.rows_per_unit, config.max_unit_attempts, config.max_batch_tokens) == (
        8,
        9,
        "auto",
    )
    assert config.summarizer.text_column == "body"
    assert config.summarizer.selection == SelectionConfig(size=5, trigram_blocking=False)


def test_values_are_yaml() -> None:
    overrides = [
        "summarizer.keep_columns=[id, 'a b']",
        "resources.num_gpus=0.5",
        "summarizer.language=null",
    ]
    config = load_config(JobConfig, None, overrides)
    assert config.summarizer.keep_columns == ("id", "a b")
    assert config.resources.num_gpus == 0.5
    assert config.summarizer.language is None


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("rows_per_unti=1", ["rows_per_unti", "no such key", "rows_per_unit"]),
        (
            "summarizer.selection.count=1",
            [
                "summarizer.selection.count",
                "allowed here: cut, exact_size, most_sentences, size, trigram_blocking, unit",
            ],
        ),
        ("rows_per_unit=0", ["rows_per_unit", "greater than or equal to 1", "given: 0"]),
        ("rows_per_unit=many", ["rows_per_unit", "'many'"]),
        ("rows_per_unit=true", ["rows_per_unit", "a number is expected", "True"]),
        ("resources.num_gpus=no", ["resources.num_gpus", "a number is expected", "False"]),
        ("rows_per_unit.x=1", ["rows_per_unit"]),
        ("summarizer=[1", ["summarizer=[1", "not YAML"]),
        ("nothing", ["--set takes key=value", "nothing"]),
        ("=1", ["--set takes key=value"]),
        ("summarizer.selection={unit: share, size: 2}", ["share", "(0, 1]"]),
        ("summarizer.selection.size=2.5", ["whole number"]),
        ("on_existing=overwrite", ["on_existing", "resume", "replace"]),
        ("summarizer.targets=Apple", ["summarizer.targets: a list is expected", "'Apple'"]),
        ("summarizer.targets=[Apple, '.*']", ["a letter or a digit", "'.*' has none"]),
        ("summarizer.targets=[a, b, a]", ["summarizer.targets", "'a' is named twice"]),
        ("summarizer.keep_columns=[id, id]", ["summarizer.keep_columns", "'id' is named twice"]),
        ("summarizer.topics=sport", ["summarizer.topics: a mapping is expected", "'sport'"]),
        ("summarizer.topics=[{sport: games}, {law: courts}]", ["summarizer.topics", "a list of"]),
        ("summarizer.topics=[[a], [b]]", ["summarizer.topics", "a list of names"]),
        ("summarizer.topics=[a, b, a]", ["summarizer.topics", "'a' twice"]),
        ("summarizer.selection=5", ["summarizer.selection: a section of keys is expected", "5"]),
        ("summarizer.language=English", ["summarizer.language", "ISO 639", "'English'"]),
    ],
)
def test_a_wrong_override_is_named_with_what_is_allowed(override: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(JobConfig, None, [override])
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("sources=[{name: a, sentiment_colum: b}]", "sources.0.sentiment_colum: .*, text_column,"),
        ("decoder={max_token: 4}", "decoder.max_token: .* max_tokens,"),
        ("embedding={texts: [{url: a}]}", "embedding.texts.0.url: .*, uri"),
    ],
)
def test_an_unknown_key_of_a_list_is_told_the_ones_there_are(override: str, allowed: str) -> None:
    """And a list is not called empty, whose only item is wrong."""
    with pytest.raises(ConfigError, match=allowed) as caught:
        load_config(TrainingConfig, None, ["encoder=package:x", override])
    assert "at least 1 item" not in str(caught.value)


def test_an_empty_list_is_too_short() -> None:
    with pytest.raises(ConfigError, match=r"sources: .*at least 1 item"):
        load_config(TrainingConfig, None, ["encoder=package:x", "sources=[]"])


@pytest.mark.parametrize("tag", ["en", "EN", "de_DE.UTF-8", "zh-Hant-TW", "cmn", "und", " fr ", ""])
def test_a_tag_of_a_language(tag: str) -> None:
    assert SummarizerConfig(language=tag).language == tag


@pytest.mark.parametrize("kind", [SummarizerConfig, GenerateConfig, EvaluationConfig])
def test_a_language_is_a_code(kind: type[Config]) -> None:
    with pytest.raises(ConfigError, match=r"ISO 639.*'English'"):
        load_config(kind, None, ["language=English"])


@pytest.mark.parametrize("text", ["- 1\n", "a: [", "just text"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(JobConfig, tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        load_config(JobConfig, tmp_path / "gone.yaml")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + below] * 10)}]\n"
    for below, name in itertools.pairwise("abcdefghijkl")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rows_per_unit: 5\nrows_per_unit: 6", r"'rows_per_unit' stands twice(.|\n)*line 2"),
        ("summarizer: {targets: [a], keywords: 3, targets: [b]}", "'targets' stands twice"),
        ("rows_per_unit: 1\n'rows_per_unit': 2", "'rows_per_unit' stands twice"),
    ],
)
def test_a_key_that_stands_twice(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"job\.yaml is not YAML: .*{words}"):
        load_config(JobConfig, tmp_path / "job.yaml")


@pytest.mark.parametrize("config", [JobConfig, TrainingConfig, TuningConfig])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            BOMB + "summarizer: {keep_columns: *l}\n",
            r"aliases are not allowed here: \*a(.|\n)*line 2",
        ),
        ("a: &a {<<: *a}\n", "aliases are not allowed"),
        ("a: " + "[" * 100_000, "recursion"),
        ("rows_per_unit: " + "9" * 5000, "4300 digits"),
        ("rows_per_unit: 2026-13-45", "month"),
        ("a: !!python/object/apply:os.system [exit]", "python/object"),
        ("a: !include /etc/passwd", "!include"),
    ],
)
def test_a_hostile_file_is_refused_in_a_moment(
    tmp_path: Path, config: type[Config], text: str, words: str
) -> None:
    (tmp_path / "job.yaml").write_text(text)
    start = time.process_time()
    with pytest.raises(ConfigError, match=rf"(?s)job\.yaml is not YAML.*{words}") as caught:
        load_config(config, tmp_path / "job.yaml")
    assert (
        time.process_time() - start < 60
    )  # the whole text would take longer than the universe has existed
    assert len(str(caught.value)) < 1000
    key, _, value = text.splitlines()[-1].partition(": ")
    with pytest.raises(ConfigError, match="the value is not YAML"):
        load_config(config, None, [f"{key}={value}"])


def test_a_section_cannot_be_set_below_a_value(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("rows_per_unit: 7\n")
    with pytest.raises(ConfigError, match="rows_per_unit is a value, not a section"):
        load_config(JobConfig, tmp_path / "job.yaml", ["rows_per_unit.x=1"])


LIMITS = "output.checks.limits={rows: [100, null]}"


@pytest.mark.parametrize("file", ["", "output: {checks: warn}", "output: {checks: {action: warn}}"])
@pytest.mark.parametrize(
    "settings", [["output.checks=hold", LIMITS], [LIMITS, "output.checks=hold"]]
)
def test_a_short_value_goes_with_other_keys_of_its_section(
    tmp_path: Path, file: str, settings: list[str]
) -> None:
    (tmp_path / "job.yaml").write_text(file)
    checks = load_config(JobConfig, tmp_path / "job.yaml", settings).output.checks
    assert (checks.action, checks.limits) == ("hold", {"rows": (100, None)})
    kept = load_config(JobConfig, tmp_path / "job.yaml", [LIMITS]).output.checks
    assert (kept.action, kept.limits) == ("warn" if file else "none", checks.limits)
    # a whole section takes the place of what was there
    whole = load_config(JobConfig, None, [LIMITS, "output.checks={action: warn}"]).output.checks
    assert (whole.action, whole.limits) == ("warn", {})


def test_a_wrong_short_value_is_named() -> None:
    with pytest.raises(ConfigError, match=r"output\.checks\.action: Input should be 'none'"):
        load_config(JobConfig, None, ["output.checks=holt"])


def test_configs_are_frozen_and_labels_must_differ() -> None:
    with pytest.raises(ValidationError):
        SummarizerConfig().text_column = "x"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="different names"):
        ModelConfig(sentiment_labels=("good", "good"))
    assert ModelConfig(sentiment_labels=()).sentiment_labels == ()


def test_every_field_of_the_job_says_what_it_is() -> None:
    sections = {"summarizer", "resources", "selection", "output", "days"}
    for config in (JobConfig, SummarizerConfig):
        for name, field in config.model_fields.items():
            assert field.description or name in sections, f"{config.__name__}.{name}"
