"""The values that the next trial of a search tries: at random, or by Optuna."""

import math
import random
from typing import TYPE_CHECKING, Protocol

from bertsum.tuning.config import TuningConfig, Value
from bertsum.tuning.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Sampler(Protocol):
    """Chooses the values of each trial."""

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Draw the values of a trial.

        Another `attempt` gives other values, for a trial whose first ones were tried before.
        """

    def learn(self, trial: Trial) -> None:
        """Take into account what came of a trial that has ended."""


def make_sampler(config: TuningConfig, ended: list[Trial]) -> Sampler:
    """Make the sampler that the configuration names; it learns from the trials that have ended."""
    sampler: Sampler = RandomSampler(config)
    if config.searcher == "optuna":
        sampler = OptunaSampler(config, len(ended))
    for trial in ended:
        sampler.learn(trial)
    return sampler


class RandomSampler:
    """Draws each value evenly from its choices or its range.

    What is drawn depends on seed, number and attempt alone, so a search that goes on draws as if it
    had never been interrupted.
    """

    def __init__(self, config: TuningConfig) -> None:
        self._config = config

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Draw the values of a trial."""
        generator = random.Random(f"{self._config.seed} {number} {attempt}")
        drawn: dict[str, Value] = {}
        for key, values in self._config.space.items():
            if isinstance(values, tuple):
                drawn[key] = generator.choice(values)
                continue
            # Whole numbers are rounded down: from [1, 4) comes 1, 2 or 3, each as often.
            high = values.high + 1 if values.whole else values.high
            if values.log:
                value = math.exp(generator.uniform(math.log(values.low), math.log(high)))
            else:
                value = generator.uniform(values.low, high)
            # exp(log(x)) may be a little beyond x
            value = min(max(value, values.low), values.high)
            drawn[key] = int(value) if values.whole else value
        return drawn

    def learn(self, trial: Trial) -> None:
        """Learn nothing: every draw is independent."""


class OptunaSampler:
    """Draws values that resemble the best trials until now.

    By the tree-structured Parzen estimator of Optuna (Bergstra et al. 2011).
    """

    def __init__(self, config: TuningConfig, num_known: int) -> None:
        """`num_known`: trials that have ended before."""
        import optuna  # which a search at random does without

        optuna.logging.disable_default_handler()
        # The estimator compares trials, so the first quarter is random: at least 2, at most
        # 10 trials, which is Optuna's default.
        first_random = min(10, max(2, config.num_trials // 4))
        # The generator begins anew with each start: with the same seed it would repeat its draws.
        sampler = optuna.samplers.TPESampler(
            seed=config.seed + num_known, n_startup_trials=first_random
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        # choices and ranges in Optuna's words
        self._space: dict[str, BaseDistribution] = {}
        for key, values in config.space.items():
            if isinstance(values, tuple):
                self._space[key] = optuna.distributions.CategoricalDistribution(values)
            elif values.whole:
                self._space[key] = optuna.distributions.IntDistribution(
                    int(values.low), int(values.high), log=values.log
                )
            else:
                self._space[key] = optuna.distributions.FloatDistribution(
                    values.low, values.high, log=values.log
                )

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Draw the values of a trial; each call gives others."""
        return dict(self._study.ask(self._space).params)

    def learn(self, trial: Trial) -> None:
        """Add a trial that has ended to what the estimator knows, unless it has no score."""
        import optuna

        if trial.best is not None:
            known = optuna.trial.create_trial(
                params=trial.values, distributions=self._space, value=trial.best.score
            )
            self._study.add_trial(known)
