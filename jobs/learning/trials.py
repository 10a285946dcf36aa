"""The trials of `bertsum tune` on Ray Tune: each is a whole training run in the process of its trial.

Ray Tune places the trials, takes their scores and ends them by ASHA. What it keeps of that lies in a directory that is
removed: a search goes on from the files of its trials (bertsum.tuning.trials), which only the driver writes.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray.tune
import torch
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from bertsum.errors import BertsumError, IncompleteError
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.run import LOG_FILE, claim_output, prepare_encoder, run
from bertsum.training.state import StateStore, read_log
from bertsum.tuning.config import TuningConfig, with_values
from bertsum.tuning.samplers import Draws, make_draws
from bertsum.tuning.trials import Score, Trial, TrialStore, ranked, show_values
from jobs.engine.cluster import Shape
from jobs.engine.remote_errors import last_words
from jobs.terminal.progress import Bar, format_seconds

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the other one writes to stdout, however quiet
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # each run has its own log
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # most of what trials say has no score
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # which would make Ctrl-C look like the end of the search
}
_NEWS_SECONDS = 10.0  # between two reports of a trial
_LEAVE_SECONDS = "60"  # for a trial that was stopped, until its process takes the next
_LAST_RUNG = 0.99  # a run that is done is not stopped
_MAX_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Task:
    """What all trials share."""

    base: TrainingConfig
    output_uri: str
    num_threads: int


@dataclass
class Search:
    """What the driver knows of the search, and all that it writes."""

    config: TuningConfig
    store: TrialStore
    bar: Bar
    trials: dict[int, Trial]
    draws: Draws
    check: Callable[[], None]  # raises what ends the search
    shares: dict[int, float] = field(default_factory=dict)  # of trials that run
    heard_at: float = field(default_factory=time.monotonic)
    start: tuple[float, float] | None = None  # trials done, counted with their shares, and when, at the first news

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune pickles what it is given, to restore a search in its own way

    def next_trial(self) -> Trial | None:
        """A new trial, its file written; None where all that can be tried was tried."""
        number = max(self.trials, default=0) + 1
        tried = [trial.values for trial in self.trials.values()]
        for attempt in range(_MAX_DRAWS):
            values = self.draws.draw(number, attempt)
            if values not in tried:
                self.trials[number] = Trial(number=number, values=values)
                self.store.write(self.trials[number])
                return self.trials[number]
        return None

    def begin(self, number: int) -> None:
        """A trial's process has started."""
        self.heard_at = time.monotonic()
        self.shares[number] = 0.0
        self.bar.say(f"trial {number}: {show_values(self.trials[number])}")

    def hear(self, number: int, news: dict[str, Any]) -> None:
        """What a trial says: how far it is, a score, or how it ended."""
        self.heard_at = time.monotonic()
        trial = self.trials[number]
        self.shares[number] = news.get("share", self.shares.get(number, 0.0))
        if "score" in news:
            trial.add(Score(news["step"], news["share"], news["score"]))
            self.bar.say(f"trial {number}: step {news['step']:,} ({news['share']:.0%}), score {news['score']:.4f}")
        if "outcome" in news:
            trial.outcome, trial.error = news["outcome"], news.get("error")
        if "score" in news or "outcome" in news:
            self.store.write(trial)

    def end(self, number: int, error: str | None = None) -> None:
        """A trial's process has ended: by itself, by ASHA, or with an error of Ray (then the trial may be repeated)."""
        self.heard_at = time.monotonic()
        trial = self.trials[number]
        self.shares.pop(number, None)
        if error is None and trial.outcome is None:
            trial.outcome = "stopped"
        trial.error = trial.error or error
        self.store.write(trial)
        self.draws.learn(trial)
        self.bar.say(f"trial {number}: {trial.outcome or 'broken off'}{f': {trial.error}' if trial.error else ''}")

    def watch(self) -> None:
        """Called all the time. Raises IncompleteError after too long a silence."""
        self.check()
        now = time.monotonic()
        if now - self.heard_at > self.config.silence_seconds:
            running = ", ".join(map(str, self.shares)) or "none runs"
            raise IncompleteError(
                f"no trial ({running}) has said anything for {format_seconds(now - self.heard_at)}; silence_seconds is "
                f"{self.config.silence_seconds:g}"
            )
        if self.shares:
            self._show(now)

    def _show(self, now: float) -> None:
        ended = sum(trial.outcome is not None for trial in self.trials.values())
        total = max(self.config.most_trials, ended)
        done = min(ended + sum(self.shares.values()), total)
        self.start = self.start or (done, now)
        running = ", ".join(f"{number} at {share:.0%}" for number, share in sorted(self.shares.items()))
        parts = [f"{ended} of {total} trials ended", f"running: {running}"]
        if best := ranked(self.trials.values())[0].best:
            parts.append(f"best {best.score:.4f}")
        if done > self.start[0]:
            parts.append(f"{format_seconds((now - self.start[1]) / (done - self.start[0]) * (total - done))} left")
        self.bar.move(done, total, "; ".join(parts))


def run_trials(
    config: TuningConfig,
    base: TrainingConfig,
    output: Folder,
    trials: Sequence[Trial],
    shape: Shape,
    bar: Bar,
    check: Callable[[], None],
) -> list[Trial]:
    """Run what is missing of the search, and return all trials. Raises IncompleteError where trials fell silent.

    `check`: called all the time; what it raises ends the search. `trials`: of an earlier start. Those without an
    outcome come first, and go on from their checkpoints.
    """
    os.environ |= _ENVIRONMENT
    store = TrialStore(output)
    ended = [trial for trial in trials if trial.outcome]
    search = Search(config, store, bar, {trial.number: trial for trial in trials}, make_draws(config, ended), check)
    task = Task(base, output.uri, shape.num_threads)
    with tempfile.TemporaryDirectory() as directory:
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(ray.tune.with_parameters(run_trial, task=task), shape.bundle),
            tune_config=ray.tune.TuneConfig(
                num_samples=config.most_trials - len(ended),
                max_concurrent_trials=config.max_concurrent_trials or shape.replicas,
                search_alg=Suggestions(search),
                reuse_actors=True,  # to start one and import torch takes as long as a short trial
                scheduler=_asha(config, ended) if config.early_stopping == "asha" else None,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=ray.tune.RunConfig(
                storage_path=directory,
                verbose=0,
                callbacks=[Listener(search)],
                failure_config=ray.tune.FailureConfig(max_failures=base.max_worker_failures),
            ),
        )
        tuner.fit()
    return [search.trials[number] for number in sorted(search.trials)]


class Suggestions(Searcher):
    """Ray Tune's view of where trials come from."""

    def __init__(self, search: Search) -> None:
        super().__init__(metric="score", mode="max")
        self._search = search
        self._unfinished = [trial for trial in search.trials.values() if trial.outcome is None]

    def suggest(self, trial_id: str) -> Any:
        """Number and values of the next trial."""
        trial = self._unfinished.pop(0) if self._unfinished else self._search.next_trial()
        return Searcher.FINISHED if trial is None else {"number": trial.number, "values": trial.values}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """`Listener` is told the same, and by which trial."""

    def save(self, checkpoint_path: str) -> None:
        """Ray Tune wants a file; a search goes on from those of its trials."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: Ray Tune restores no search of ours."""


class Listener(ray.tune.Callback):
    """Ray Tune's view of who hears of trials. What it raises ends the search."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Its process runs."""
        self._search.begin(trial.config["number"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """It said something."""
        self._search.hear(trial.config["number"], result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """It is done, or ASHA has stopped it."""
        self._search.end(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """It failed too often; the others go on."""
        self._search.end(trial.config["number"], last_words(trial.get_error() or "its process ended"))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """At every turn of Ray Tune's loop."""
        self._search.watch()


def run_trial(config: dict[str, Any], task: Task) -> None:
    """One training run; what it says goes to Ray Tune, which may end it at any score."""
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = _LEAVE_SECONDS
    torch.set_num_threads(task.num_threads)
    try:
        _train(Trial(**config), task)
    except (BertsumError, FloatingPointError) as error:  # the same would happen again
        ray.tune.report({"outcome": "failed", "error": str(error)})


def _train(trial: Trial, task: Task) -> None:
    config = with_values(task.base, trial.values)
    output = Folder(f"{task.output_uri}/{trial.directory}")
    is_unfinished = claim_output(output, config)
    news = _News()
    state = StateStore(output, config.kept_checkpoints).latest()
    for line in read_log(output, LOG_FILE, state.step if state else 0):
        news.report(line)  # what is known already, so that ASHA and the table are as if the run had not been broken
    if is_unfinished:
        prepare_encoder(config, output)
        device = "cuda" if torch.cuda.is_available() and config.resources.num_gpus != 0 else "cpu"
        run(config, output, torch.device(device), f"bertsum tune, trial {trial.number}", news.report)
    ray.tune.report({"outcome": "finished"})


class _News:
    """What a run says, for Ray Tune: each score, and now and then how far it is."""

    def __init__(self) -> None:
        self._num_steps = 1
        self._said_at = time.monotonic()

    def report(self, news: dict[str, Any]) -> None:
        """`rung` is what ASHA goes by: with the last score there is none, since the run is done.

        Ray Tune has names of its own: a value called `done` would end the trial.
        """
        self._num_steps = news.get("num_steps", self._num_steps)
        values: dict[str, Any] = {}
        if "step" in news:
            share = news["step"] / self._num_steps
            values = {"step": news["step"], "share": share}
            if "score" in news:
                values |= {"score": news["score"]} | ({"rung": share} if share < 1 else {})
        if "score" in values or time.monotonic() - self._said_at > _NEWS_SECONDS:
            ray.tune.report(values)
            self._said_at = time.monotonic()


def _asha(config: TuningConfig, ended: Sequence[Trial]) -> Any:
    """ASHA over shares of a run, which hold for any number of steps; it is told of the trials of an earlier start."""
    asha = ASHAScheduler(
        time_attr="rung",
        metric="score",
        mode="max",
        grace_period=config.grace_share,  # type: ignore[arg-type]  # any number will do
        reduction_factor=config.reduction_factor,
        max_t=max(_LAST_RUNG, config.grace_share),  # type: ignore[arg-type]
    )
    controller: Any = None  # which ASHA does not look at
    for trial in ended:
        known: Any = SimpleNamespace(trial_id=f"earlier {trial.number}")
        asha.on_trial_add(controller, known)
        for score in trial.scores:
            if score.share < 1:
                asha.on_trial_result(controller, known, {"rung": score.share, "score": score.score})
    return asha
