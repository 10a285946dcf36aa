"""Which rows each optimizer step learns from: the same for any number of workers, and known without the rows.

Workers tell each other only how long their documents are. From that each makes the same plan, and takes from each step
the rows that it has; a worker without any takes part with none. So no row is dropped or seen twice, whatever the number
of workers, and a run goes on at any step, also with another number of workers.
"""

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bertsum.errors import InputError
from bertsum.training.config import TrainingConfig
from bertsum.training.data import LabelledBatch, labelled_batch
from bertsum.training.distributed import gather, rank
from bertsum.training.examples import Example, token_counts


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step as one worker sees it."""

    batches: list[LabelledBatch]  # this worker's; none where it has no rows of the step
    num_tokens: int  # of all workers


class Plan:
    """The steps of a run."""

    def __init__(
        self, sources: Sequence[tuple[float, Sequence[Example]]], config: TrainingConfig
    ) -> None:
        """`sources`: passes an epoch, and this worker's examples. Every worker must make its plan at the same time.

        Raises InputError where there is nothing to train on.
        """
        self._config = config
        self._own: list[
            tuple[range, Sequence[Example]]
        ] = []  # places of this worker's examples of each source
        self._weights = [weight for weight, _ in sources]
        self._lengths: list[np.ndarray] = []
        first = 0
        for _, examples in sources:
            parts = gather(token_counts(examples))
            start = first + sum(map(len, parts[: rank()]))
            self._own.append((range(start, start + len(examples)), examples))
            self._lengths.append(np.concatenate(parts))
            first += len(self._lengths[-1])
        self.steps_a_repeat = config.max_steps or self._count_steps()
        self.num_steps = config.repeats * self.steps_a_repeat

    @property
    def digest(self) -> str:
        """Hex digest of what the plan is made from, to find out whether the sources changed under a run."""
        digest = hashlib.sha256(repr(self._weights).encode())
        for lengths in self._lengths:
            digest.update(len(lengths).to_bytes(8, "big") + lengths.tobytes())
        return digest.hexdigest()

    def steps(self, first_step: int = 0) -> Iterator[Step]:
        """The steps from `first_step` on."""
        lengths = np.concatenate(self._lengths)
        step = epoch = 0
        while step < self.num_steps:
            for places in islice(self.epoch(epoch), self.num_steps - step):
                if step >= first_step:
                    yield Step(self._batches(self._read(places)), int(lengths[places].sum()))
                step += 1
            epoch += 1

    def epoch(self, number: int) -> "Iterator[array[int]]":
        """Places of the rows of each step, in random order, under the token budget.

        A source of weight w is gone through w times, fractions drawn at random. Places count through the sources.
        """
        generator = random.Random(self._config.seed + number)
        order = array("q")  # 8 bytes a row
        first = 0
        for weight, lengths in zip(self._weights, self._lengths, strict=True):
            places = range(first, first + len(lengths))
            for _ in range(int(weight)):
                order.extend(places)
            order.extend(generator.sample(places, round((weight % 1) * len(places))))
            first += len(lengths)
        if not order:
            raise InputError("the sources have no rows to train on")
        generator.shuffle(order)
        groups = _cut(np.concatenate(self._lengths)[order], self._config.max_batch_tokens)
        return (order[group.start : group.stop] for group in groups)

    def _read(self, places: Sequence[int]) -> list[Example]:
        """Those of the examples that this worker has."""
        return [
            examples[place - own.start]
            for place in places
            for own, examples in self._own
            if place in own
        ]

    def _batches(self, examples: list[Example]) -> list[LabelledBatch]:
        lengths = [len(example.document.input_ids) for example in examples]
        budget = self._config.max_micro_batch_tokens or self._config.max_batch_tokens
        return [
            labelled_batch(examples[group.start : group.stop]) for group in _cut(lengths, budget)
        ]

    def _count_steps(self) -> int:
        whole, rest = divmod(self._config.epochs, 1)
        counts = [sum(1 for _ in self.epoch(number)) for number in range(int(whole) + bool(rest))]
        return max(1, sum(counts[: int(whole)]) + (round(rest * counts[-1]) if rest else 0))


def _cut(lengths: Iterable[int], max_tokens: int) -> Iterator[range]:
    """Consecutive places in groups of at most `max_tokens`; one that is longer is a group of its own."""
    start, stop, room = 0, 0, max_tokens
    for length in lengths:
        if length > room and stop > start:
            yield range(start, stop)
            start, room = stop, max_tokens
        stop += 1
        room -= length
    if stop > start:
        yield range(start, stop)
