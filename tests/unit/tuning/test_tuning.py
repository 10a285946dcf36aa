"""Configurations of a search, what it draws, and its trials on disk."""

import math
from collections import Counter
from pathlib import Path

import pytest
import yaml
from helpers.rows import training_config
from pydantic import ValidationError

from bertsum.errors import ConfigError
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.tuning.config import TuningConfig, with_values
from bertsum.tuning.samplers import OptunaSampler, RandomSampler, make_sampler
from bertsum.tuning.trials import Score, Trial, TrialStore, ranked

SOURCES = [
    {"name": "news", "summary_column": "summary", "validation_uri": "a.parquet"},
    {"name": "reviews", "sentiment_column": "label"},
]
BASE = training_config(sources=SOURCES, best_metric=["news.summary_loss"])
SPACE = {
    "encoder_learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "warmup_share": {"low": 0.0, "high": 0.5},
    "max_batch_tokens": {"low": 64, "high": 4096, "log": True, "whole": True},
    "epochs": {"low": 1, "high": 3, "whole": True},
    "schedule": ["linear", "noam"],
}


def search(**values: object) -> TuningConfig:
    return TuningConfig.model_validate({"training": BASE.model_dump(), "space": SPACE} | values)


def test_values_go_to_their_keys() -> None:
    changed = with_values(
        BASE,
        {
            "head_learning_rate": 1e-05,
            "model.dropout": 0.25,
            "sources.reviews.weight": 3,
            "schedule": "noam",
        },
    )
    assert (changed.head_learning_rate, changed.model.dropout, changed.schedule) == (
        1e-5,
        0.25,
        "noam",
    )
    assert [source.weight for source in changed.sources] == [1, 3]
    assert changed.model.num_heads == BASE.model.num_heads
    assert with_values(BASE, {}) == BASE


def test_what_is_not_given_stays_so() -> None:
    """With new heads only the keys of `model` that are given count."""
    values = {"encoder": "x", "sources": SOURCES, "start_from": "y", "new_heads": ["topic"]}
    base = TrainingConfig.model_validate(values | {"model": {"topic_labels": ["a", "b"]}})
    assert with_values(base, {"seed": 2}).model.model_fields_set == {"topic_labels"}
    changed = with_values(base, {"model.dropout": 0.3})
    assert changed.model.model_fields_set == {"topic_labels", "dropout"}
    without = TrainingConfig.model_validate(values)
    assert with_values(without, {"model.dropout": 0.3}).model.model_fields_set == {"dropout"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "learning_rate",
            1,
            "learning_rate: there is no such key; allowed here: .*encoder_learning_rate",
        ),
        ("model.size", 1, "model.size: there is no such key"),
        ("models.dropout", 1, "space.models.dropout: there is no 'models'"),
        ("sources.blog.weight", 1, "there is no 'blog'; there are news, reviews"),
        ("seed.more", 1, "seed is a value, not a section"),
        ("model.dropout", 2, "model.dropout: .*less than 1"),
    ],
)
def test_a_wrong_key_or_value_is_named(key: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_values(BASE, {key: value})


def test_the_training_run_is_checked_before_any_trial(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_text(yaml.safe_dump(BASE.model_dump(mode="json")))
    assert search(training=str(path)).read_training() == search().read_training() == BASE
    with pytest.raises(ConfigError, match=r"schedule: .*'cosine'"):
        search(space={"schedule": ["linear", "cosine"]}).read_training()
    with pytest.raises(ConfigError, match=r"warmup_share: .*less than or equal to 1"):
        search(space={"warmup_share": {"low": 0, "high": 2}}).read_training()
    with pytest.raises(ConfigError, match=r"space\.max_batch_tokens: 220\.\d* .*`whole: true`"):
        search(space={"max_batch_tokens": {"low": 128, "high": 420}}).read_training()
    search(space={"max_batch_tokens": {"low": 128, "high": 420, "whole": True}}).read_training()
    with pytest.raises(ConfigError, match="no best_metric"):
        search(training=training_config(sources=SOURCES).model_dump()).read_training()
    with pytest.raises(ConfigError, match="replicas must be 1, not 2"):
        search(training=BASE.model_dump() | {"resources": {"replicas": 2}}).read_training()


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"seed": []},
        {"seed": [1, 1]},
        {"seed": {"low": 2, "high": 1}},
        {"warmup_share": {"low": 0, "high": 1, "log": True}},
        {"seed": {"low": 1, "high": 2.5, "whole": True}},
    ],
)
def test_a_space_without_sense_is_refused(space: dict) -> None:
    with pytest.raises(ValidationError):
        search(space=space)


def test_no_more_trials_than_combinations() -> None:
    assert search(space={"schedule": ["linear", "noam"], "seed": [1, 2, 3]}).most_trials == 6
    assert search(num_trials=5).most_trials == 5


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_draws_lie_in_the_space_and_fill_it(searcher: str) -> None:
    config = search(searcher=searcher, num_trials=400)
    draws = make_sampler(config, [])
    drawn = [draws.draw(number, 0) for number in range(400)]
    for values in drawn:
        assert with_values(BASE, values).schedule in ("linear", "noam")
        assert 1e-5 <= values["encoder_learning_rate"] <= 1e-3
        assert 0 <= values["warmup_share"] <= 0.5
        assert isinstance(values["max_batch_tokens"], int)
        assert 64 <= values["max_batch_tokens"] <= 4096
    assert Counter(values["epochs"] for values in drawn).keys() == {1, 2, 3}
    low = sum(values["encoder_learning_rate"] < 1e-4 for values in drawn)  # half of the logarithms
    assert 140 < low < 260


def test_random_draws_are_a_function_of_seed_and_number() -> None:
    first, again, other = (RandomSampler(search(seed=seed)) for seed in (0, 0, 1))
    assert first.draw(3, 0) == again.draw(3, 0)
    assert (
        len(
            {
                str(one)
                for one in (first.draw(3, 0), first.draw(3, 1), first.draw(4, 0), other.draw(3, 0))
            }
        )
        == 4
    )


def test_optuna_learns_from_trials_of_an_earlier_start() -> None:
    """Only rates near 1e-4 were good."""
    config = search(
        searcher="optuna", space={"encoder_learning_rate": {"low": 1e-6, "high": 1e-2, "log": True}}
    )
    ended = []
    for number in range(40):
        rate = 10 ** (-6 + number / 10)
        score = Score(9, 1.0, -abs(math.log10(rate) + 4))
        ended.append(
            Trial(
                number=number,
                values={"encoder_learning_rate": rate},
                scores=[score],
                outcome="finished",
            )
        )
    ended.append(Trial(number=40, values={"encoder_learning_rate": 1e-2}, outcome="failed"))
    draws = make_sampler(config, ended)
    assert isinstance(draws, OptunaSampler)
    rates = [draws.draw(50 + number, 0)["encoder_learning_rate"] for number in range(30)]
    assert sum(1e-5 < rate < 1e-3 for rate in rates) > 22  # 15 by chance


def test_trials_on_disk(tmp_path: Path) -> None:
    store = TrialStore(Folder(str(tmp_path)))
    assert store.read() == []
    second = Trial(number=2, values={"seed": 1, "schedule": "noam", "max_steps": None})
    first = Trial(
        number=1,
        values={"warmup_share": 0.5},
        scores=[Score(3, 0.5, 0.25)],
        outcome="stopped",
        error="no",
    )
    for trial in (second, first):
        store.write(trial)
    assert store.read() == [first, second]
    checkpoint = tmp_path / second.directory / "checkpoints" / "00000001.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    store.remove_checkpoints(first)
    assert checkpoint.exists()
    store.remove_checkpoints(second)
    assert not checkpoint.exists()
    assert store.read() == [first, second]


def test_scores_that_are_told_again_are_one() -> None:
    trial = Trial(number=1, values={})
    for score in (Score(2, 0.2, 0.5), Score(4, 0.4, 0.9), Score(6, 0.6, 0.1), Score(4, 0.4, 0.8)):
        trial.add(score)
    assert [score.score for score in trial.scores] == [0.5, 0.8, 0.1]
    assert trial.best == Score(4, 0.4, 0.8)
    better = Trial(number=2, values={}, scores=[Score(1, 0.1, 1.0)])
    assert [t.number for t in ranked([Trial(number=3, values={}), trial, better])] == [2, 1, 3]
