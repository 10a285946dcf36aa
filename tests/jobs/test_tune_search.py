"""What the driver of a search knows and decides, without a Ray: draws, outcomes, what an earlier start teaches ASHA."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.rows import training_config
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from bertsum.errors import IncompleteError
from bertsum.storage.folder import Folder
from bertsum.tuning.config import TuningConfig
from bertsum.tuning.trials import Score, Trial, TrialStore
from jobs.learning.trials import Search, Suggestions, _asha
from jobs.terminal.plots import draw_trials
from jobs.terminal.progress import Bar

SPACE = {
    "head_learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "schedule": ["linear", "noam"],
}
TRAINING = training_config(
    sources=[{"name": "news", "summary_column": "summary", "validation_uri": "a.parquet"}],
    best_metric=["news.summary_loss"],
).model_dump()


def make(root: Path, trials: list[Trial] | None = None, **values: object) -> Search:
    config = TuningConfig.model_validate({"training": TRAINING, "space": SPACE} | values)
    found = {trial.number: trial for trial in trials or []}
    return Search(
        config=config,
        store=TrialStore(Folder(str(root))),
        bar=Bar(),
        trials=found,
        check=lambda: None,
    )


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_each_combination_is_tried_once(searcher: str, tmp_path: Path) -> None:
    space = {"schedule": ["linear", "noam", "constant"], "seed": [1, 2]}
    search = make(tmp_path, space=space, num_trials=6, searcher=searcher)
    suggestions = Suggestions(search)
    drawn = [suggestions.suggest(str(place)) for place in range(6)]
    assert [one["number"] for one in drawn] == [1, 2, 3, 4, 5, 6]
    assert len({str(one["values"]) for one in drawn}) == 6
    assert suggestions.suggest("more") == Searcher.FINISHED
    assert [trial.values for trial in TrialStore(Folder(str(tmp_path))).read()] == [
        one["values"] for one in drawn
    ]


def test_unfinished_trials_come_first(tmp_path: Path) -> None:
    values = {"head_learning_rate": 0.001, "schedule": "noam"}
    trials = [
        Trial(number=1, values=values | {"schedule": "linear"}, outcome="stopped"),
        Trial(number=2, values=values),
    ]
    suggestions = Suggestions(make(tmp_path, trials))
    assert suggestions.suggest("a") == {"number": 2, "values": values}
    assert suggestions.suggest("b")["number"] == 3


def test_outcomes_are_on_disk_when_they_are_known(tmp_path: Path) -> None:
    search = make(tmp_path)
    store = TrialStore(Folder(str(tmp_path)))
    for number in range(1, 5):
        search.next_trial()
        search.mark_started(number)
        search.record(number, {"step": 3, "share": 0.25, "score": 0.5 - number})
    assert [trial.scores for trial in store.read()] == [
        [Score(3, 0.25, 0.5 - number)] for number in range(1, 5)
    ]
    search.record(1, {"outcome": "finished"})
    search.record(2, {"outcome": "failed", "error": "no such label"})
    search.mark_ended(1)
    search.mark_ended(2)
    search.mark_ended(3)  # by ASHA
    search.mark_ended(
        4, "the node died"
    )  # too often; not the trial's fault, so it may be tried again
    assert [(trial.outcome, trial.error) for trial in store.read()] == [
        ("finished", None),
        ("failed", "no such label"),
        ("stopped", None),
        (None, "the node died"),
    ]


def test_silence_has_an_end(tmp_path: Path) -> None:
    search = make(tmp_path, silence_seconds=60)
    search.next_trial()
    search.mark_started(1)
    search.watch()
    search.reported_at -= 61
    with pytest.raises(
        IncompleteError, match=r"no trial \(1\) has said anything for 1:01; silence_seconds is 60"
    ):
        search.watch()


def test_asha_knows_the_trials_of_an_earlier_start() -> None:
    config = TuningConfig.model_validate({"training": TRAINING, "space": SPACE, "grace_share": 0.1})
    scores = [Score(place, place / 10, 0.8) for place in range(1, 11)]
    good = Trial(number=1, values={}, scores=scores, outcome="finished")
    for ended, decision in (([], TrialScheduler.CONTINUE), ([good], TrialScheduler.STOP)):
        asha = _asha(config, ended)
        trial = SimpleNamespace(trial_id="new")
        asha.on_trial_add(None, trial)
        assert (
            asha.on_trial_result(None, trial, {"rung": 0.05, "score": 0.1})
            == TrialScheduler.CONTINUE
        )
        assert asha.on_trial_result(None, trial, {"rung": 0.12, "score": 0.1}) == decision
        assert (
            asha.on_trial_result(None, trial, {"share": 1.0, "score": 0.1})
            == TrialScheduler.CONTINUE
        )


def test_a_picture_of_any_trials() -> None:
    trials = [
        Trial(
            number=number,
            values={"a": 10.0**-number, "b": "x" * number, "c": number % 2 == 0},
            scores=scores,
        )
        for number, scores in enumerate(
            [[Score(1, 0.5, 0.25)], [Score(1, 0.5, 0.125), Score(2, 1.0, 0.5)], []]
        )
    ]
    assert draw_trials(["a", "b", "c"], trials).startswith(b"\x89PNG")
