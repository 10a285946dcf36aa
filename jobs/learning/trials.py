"""The trials of `bertsum tune` on Ray Tune, each a whole training run in a process.

Ray Tune starts the trials, takes their scores and ends them by ASHA. Its storage is a
temporary directory: a search goes on from the files of its trials (bertsum.tuning.trials), which
only the driver writes. Ray Tune's own storage would not do: its `Tuner.restore` takes the number of
trials and all settings from a pickle, is up to 10 seconds behind when the driver is killed, and
cannot be read by another version of this program.
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
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from bertsum.errors import BertsumError, IncompleteError
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.results.files import LOG_FILE
from bertsum.training.run import claim_output, prepare_encoder, run
from bertsum.training.state import StateStore, read_log
from bertsum.tuning.config import TuningConfig, with_values
from bertsum.tuning.samplers import Sampler, make_sampler
from bertsum.tuning.trials import Score, Trial, TrialStore, ranked, show_values
from jobs.engine.cluster import Shape
from jobs.engine.remote_errors import last_words
from jobs.learning.news import News
from jobs.terminal.progress import Bar, format_seconds

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the other one writes to stdout, however quiet
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # each run has its own log
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # most of what trials say has no score
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # which would make Ctrl-C look like the end of the search
}
_REPORT_SECONDS = 10.0  # between two reports of a trial
_LEAVE_SECONDS = "60"  # for a trial that was stopped, until its process takes the next
_LAST_RUNG = 0.99  # a run that is done is not stopped
_MAX_DRAWS = 100  # of values that were tried before, until a search counts as exhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTask:
    """What all trials of a search share."""

    base: TrainingConfig
    output_uri: str
    num_threads: int


@dataclass(kw_only=True)
class Search:
    """What the driver knows of the search, and all that it writes.

    Ray Tune's `Suggestions` and `Listener` below pass on to it; it knows nothing of Ray.
    """

    config: TuningConfig
    store: TrialStore
    bar: Bar
    trials: dict[int, Trial]  # by number, those of an earlier start among them
    check: Callable[[], None]  # raises what ends the search
    shares: dict[int, float] = field(default_factory=dict)  # done by each trial that runs
    reported_at: float = field(default_factory=time.monotonic)
    # Trials done, counted with their shares, and the time, both at the first report.
    start: tuple[float, float] | None = None
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = make_sampler(self.config, self.ended())

    def ended(self) -> list[Trial]:
        """Return the trials that need not go on."""
        return [trial for trial in self.trials.values() if trial.outcome]

    def __getstate__(self) -> dict[str, object]:
        return {}  # Ray Tune pickles what it is given, to restore a search in its own way

    def next_trial(self) -> Trial | None:
        """Make a new trial and write its file; None if everything that can be tried was tried."""
        number = max(self.trials, default=0) + 1
        tried = [trial.values for trial in self.trials.values()]
        for attempt in range(_MAX_DRAWS):
            values = self.sampler.draw(number, attempt)
            if values not in tried:
                self.trials[number] = Trial(number=number, values=values)
                self.store.write(self.trials[number])
                return self.trials[number]
        return None

    def mark_started(self, number: int) -> None:
        """Note that a trial's process has started."""
        self.reported_at = time.monotonic()
        self.shares[number] = 0.0
        self.bar.say(f"trial {number}: {show_values(self.trials[number])}")

    def record(self, number: int, news: News) -> None:
        """Note what a trial reports: how far it is, a score, or how it ended."""
        self.reported_at = time.monotonic()
        trial = self.trials[number]
        self.shares[number] = news.get("share", self.shares.get(number, 0.0))
        if "score" in news:
            trial.add(Score(news["step"], news["share"], news["score"]))
            score = f"step {news['step']:,} ({news['share']:.0%}), score {news['score']:.4f}"
            self.bar.say(f"trial {number}: {score}")
        if "outcome" in news:
            trial.outcome, trial.error = news["outcome"], news.get("error")
        if "score" in news or "outcome" in news:
            self.store.write(trial)

    def mark_ended(self, number: int, error: str | None = None) -> None:
        """Note that a trial's process has ended.

        It ended by itself, by ASHA, or with an error of Ray: then it may be tried again.
        """
        self.reported_at = time.monotonic()
        trial = self.trials[number]
        self.shares.pop(number, None)
        if error is None and trial.outcome is None:
            trial.outcome = "stopped"
        trial.error = trial.error or error
        self.store.write(trial)
        self.sampler.learn(trial)
        reason = f": {trial.error}" if trial.error else ""
        self.bar.say(f"trial {number}: {trial.outcome or 'broken off'}{reason}")

    def watch(self) -> None:
        """Show how far the search is. Raises IncompleteError if no trial reports for too long."""
        self.check()
        now = time.monotonic()
        if now - self.reported_at > self.config.silence_seconds:
            running = ", ".join(map(str, self.shares)) or "none runs"
            silence = format_seconds(now - self.reported_at)
            raise IncompleteError(
                f"no trial ({running}) has said anything for {silence}; "
                f"silence_seconds is {self.config.silence_seconds:g}"
            )
        if not self.shares:
            return
        ended = len(self.ended())
        total = max(self.config.most_trials, ended)
        # A running trial counts by its share, so that the remaining time is known before any ends.
        done = min(ended + sum(self.shares.values()), total)
        self.start = self.start or (done, now)
        running = ", ".join(
            f"{number} at {share:.0%}" for number, share in sorted(self.shares.items())
        )
        parts = [f"{ended} of {total} trials ended", f"running: {running}"]
        if best := ranked(self.trials.values())[0].best:
            parts.append(f"best {best.score:.4f}")
        if done > self.start[0]:
            seconds_a_trial = (now - self.start[1]) / (done - self.start[0])
            parts.append(f"{format_seconds(seconds_a_trial * (total - done))} left")
        self.bar.move(done, total, "; ".join(parts))


def run_trials(search: Search, base: TrainingConfig, output_uri: str, shape: Shape) -> list[Trial]:
    """Run what is missing of the search, and return all trials by number.

    Trials of an earlier start without an outcome come first, and go on from their checkpoints.
    Raises IncompleteError if trials fall silent, and what `search.check` raises.

    - `base`: the training run that trials differ from.
    - `shape`: how many trials run at the same time, and on what.
    """
    os.environ |= _ENVIRONMENT
    config, ended = search.config, search.ended()
    task = TrialTask(base=base, output_uri=output_uri, num_threads=shape.num_threads)
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
    """Gives Ray Tune the next trial of the search."""

    def __init__(self, search: Search) -> None:
        super().__init__(metric="score", mode="max")
        self._search = search
        self._unfinished = [trial for trial in search.trials.values() if trial.outcome is None]

    def suggest(self, trial_id: str) -> Any:
        """Return number and values of the next trial, unfinished ones first."""
        trial = self._unfinished.pop(0) if self._unfinished else self._search.next_trial()
        return (
            Searcher.FINISHED if trial is None else {"number": trial.number, "values": trial.values}
        )

    def on_trial_complete(
        self, trial_id: str, result: News | None = None, error: bool = False
    ) -> None:
        """Do nothing: `Listener` is told the same, and by which trial."""

    def save(self, checkpoint_path: str) -> None:
        """Write the file that Ray Tune wants; a search goes on from those of its trials."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; never called, since Ray Tune restores no search of ours."""


class Listener(ray.tune.Callback):
    """Passes what Ray Tune knows of trials on to the search. What it raises ends the search."""

    def __init__(self, search: Search) -> None:
        self._search = search

    def on_trial_start(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Note that its process runs."""
        self._search.mark_started(trial.config["number"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: News, **_: object
    ) -> None:
        """Pass on what it reports."""
        self._search.record(trial.config["number"], result)

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Note that it is done, or stopped by ASHA."""
        self._search.mark_ended(trial.config["number"])

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Note that it failed too often; the others go on."""
        self._search.mark_ended(
            trial.config["number"], last_words(trial.get_error() or "its process ended")
        )

    def on_step_end(self, iteration: int, trials: list[RayTrial], **_: object) -> None:
        """Look after the search, at every turn of Ray Tune's loop."""
        self._search.watch()


def run_trial(config: dict[str, Any], task: TrialTask) -> None:
    """Do one training run; its reports go to Ray Tune, which may end it at any score.

    `config`: number and values of the trial, as `Suggestions` gives them.
    """
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = _LEAVE_SECONDS
    torch.set_num_threads(task.num_threads)
    try:
        trial = Trial(**config)
        training = with_values(task.base, trial.values)
        output = Folder(f"{task.output_uri}/{trial.directory}")
        is_unfinished = claim_output(output, training)
        news = _Reports()
        state = StateStore(output, training.kept_checkpoints).latest()
        # What is known already is reported again, so that ASHA and the table are as if the run had
        # not been interrupted.
        for line in read_log(output, LOG_FILE, state.step if state else 0):
            news.report(line)
        if is_unfinished:
            prepare_encoder(training, output)
            has_gpu = torch.cuda.is_available() and training.resources.num_gpus != 0
            device = torch.device("cuda" if has_gpu else "cpu")
            run(training, output, device, f"bertsum tune, trial {trial.number}", news.report)
        ray.tune.report({"outcome": "finished"})
    except (BertsumError, FloatingPointError) as error:  # the same would happen again
        ray.tune.report({"outcome": "failed", "error": str(error)})


class _Reports:
    """Passes on to Ray Tune what a run reports: each score, and now and then how far it is."""

    def __init__(self) -> None:
        self._num_steps = 1
        self._reported_at = time.monotonic()

    def report(self, news: News) -> None:
        """Report a line of the run's log, if it is worth it.

        `rung` is what ASHA goes by: with the last score there is none, since the run is done.
        Ray Tune gives meaning to some names: a value called `done` would end the trial.
        """
        self._num_steps = news.get("num_steps", self._num_steps)
        values: News = {}
        if "step" in news:
            share = news["step"] / self._num_steps
            values = {"step": news["step"], "share": share}
            if "score" in news:
                values["score"] = news["score"]
                if share < 1:
                    values["rung"] = share
        if "score" in values or time.monotonic() - self._reported_at > _REPORT_SECONDS:
            ray.tune.report(values)
            self._reported_at = time.monotonic()


def _asha(config: TuningConfig, ended: Sequence[Trial]) -> ASHAScheduler:
    """Make ASHA go by shares of a run, which hold for any number of steps.

    It is told of the trials of an earlier start, to compare the next ones with them.
    """
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
