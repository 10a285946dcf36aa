"""The values that the next trial of a search tries: at random, or by Optuna."""

import math
import random
from typing import Any, Protocol

from bertsum.tuning.config import RangeConfig, TuningConfig, Value
from bertsum.tuning.trials import Trial


class Draws(Protocol):
    """Where values come from."""

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Values of the trial with this number; another attempt, where they were tried before, gives others."""

    def learn(self, trial: Trial) -> None:
        """What came of a trial that has ended."""


def make_draws(config: TuningConfig, ended: list[Trial]) -> Draws:
    """As the configuration says, with what the trials that have ended teach."""
    draws: Draws = OptunaDraws(config, len(ended)) if config.searcher == "optuna" else RandomDraws(config)
    for trial in ended:
        draws.learn(trial)
    return draws


class RandomDraws:
    """Values for one trial after the other, each even over its choices or its range. A function of seed and number."""

    def __init__(self, config: TuningConfig) -> None:
        self._config = config

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Values of a trial; another `attempt` gives others."""
        generator = random.Random(f"{self._config.seed} {number} {attempt}")
        return {key: _draw(values, generator) for key, values in self._config.space.items()}

    def learn(self, trial: Trial) -> None:
        """Nothing is learned."""


class OptunaDraws:
    """The same by Optuna's tree-structured Parzen estimator, which prefers what resembles the best trials until now."""

    def __init__(self, config: TuningConfig, num_known: int) -> None:
        import optuna

        optuna.logging.disable_default_handler()
        first_random = min(10, max(2, config.num_trials // 4))
        sampler = optuna.samplers.TPESampler(seed=config.seed + num_known, n_startup_trials=first_random)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._space = {key: _distribution(optuna.distributions, values) for key, values in config.space.items()}

    def draw(self, number: int, attempt: int) -> dict[str, Value]:
        """Values of a trial."""
        return dict(self._study.ask(self._space).params)

    def learn(self, trial: Trial) -> None:
        """What came of a trial that has ended; one without a score teaches nothing."""
        import optuna

        if trial.best is not None:
            known = optuna.trial.create_trial(params=trial.values, distributions=self._space, value=trial.best.score)
            self._study.add_trial(known)


def _draw(values: RangeConfig | tuple[Value, ...], generator: random.Random) -> Value:
    if isinstance(values, tuple):
        return generator.choice(values)
    high = values.high + 1 if values.whole else values.high
    if values.log:
        number = math.exp(generator.uniform(math.log(values.low), math.log(high)))
    else:
        number = generator.uniform(values.low, high)
    number = min(max(number, values.low), values.high)  # rounding may lead out of the range
    return int(number) if values.whole else number


def _distribution(kinds: Any, values: RangeConfig | tuple[Value, ...]) -> Any:
    if isinstance(values, tuple):
        return kinds.CategoricalDistribution(values)
    if values.whole:
        return kinds.IntDistribution(int(values.low), int(values.high), log=values.log)
    return kinds.FloatDistribution(values.low, values.high, log=values.log)
