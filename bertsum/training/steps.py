"""Which rows each optimizer step learns from, for any number of workers.

Workers tell each other only how long their documents are. From that each makes the same plan, and
takes from each step the rows that it has; a worker without any takes part with none. So no row is
dropped or seen twice, and a run can resume at any step, also with another number of workers.
"""

import hashlib
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

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


class StepPlan:
    """The steps of a run.

    A row's index counts through the sources, and in each source through the workers: with two
    sources of 10 and 5 rows, the rows of the second have the indices 10 to 14.
    """

    def __init__(
        self, sources: Sequence[tuple[float, Sequence[Example]]], config: TrainingConfig
    ) -> None:
        """Make the plan. Every worker must make its own at the same time.

        - `sources`: of each, its passes an epoch and this worker's examples.

        Raises InputError where there is nothing to train on.
        """
        self._config = config
        self._held: list[tuple[range, Sequence[Example]]] = []  # this worker's indices, examples
        self._weights = [weight for weight, _ in sources]
        self._lengths: list[np.ndarray] = []  # tokens of each row of all workers, by source
        first = 0
        for _, examples in sources:
            lengths = gather(token_counts(examples))
            start = first + sum(map(len, lengths[: rank()]))
            self._held.append((range(start, start + len(examples)), examples))
            self._lengths.append(np.concatenate(lengths))
            first += len(self._lengths[-1])
        self.steps_a_repeat = config.max_steps or 0
        if not self.steps_a_repeat:
            # of 2.5 epochs, the steps of two and half of those of the third
            whole, rest = divmod(config.epochs, 1)
            num_steps = 0
            for number in range(int(whole)):
                num_steps += sum(1 for _ in self.epoch(number))
            if rest:
                num_steps += round(rest * sum(1 for _ in self.epoch(int(whole))))
            self.steps_a_repeat = max(1, num_steps)
        self.num_steps = config.repeats * self.steps_a_repeat

    @property
    def digest(self) -> str:
        """Hex digest of what the plan is made from: it tells whether the sources have changed."""
        digest = hashlib.sha256(repr(self._weights).encode())
        for lengths in self._lengths:
            digest.update(len(lengths).to_bytes(8, "big") + lengths.tobytes())
        return digest.hexdigest()

    def steps(self, first_step: int = 0) -> Iterator[Step]:
        """The steps from `first_step` on."""
        lengths = np.concatenate(self._lengths)
        # Steps before the first are counted and not read, so that resuming is quick.
        for indices in islice(self._rows(), first_step, None):
            yield Step(self._batches(indices), int(lengths[indices].sum()))

    def drawn(self) -> list[npt.NDArray[np.bool_]]:
        """[N] of each source: from which of this worker's rows some step learns."""
        is_drawn = np.zeros(sum(map(len, self._lengths)), np.bool_)
        for indices in self._rows():
            is_drawn[indices] = True
        return [is_drawn[held.start : held.stop] for held, _ in self._held]

    def _rows(self) -> "Iterator[array[int]]":
        """Indices of the rows of each step."""
        step = epoch = 0
        while step < self.num_steps:
            for indices in islice(self.epoch(epoch), self.num_steps - step):
                yield indices
                step += 1
            epoch += 1

    def epoch(self, number: int) -> "Iterator[array[int]]":
        """Indices of the rows of each step, in random order, under the token budget.

        A source of weight 2.3 is gone through twice, and 3 of 10 of its rows are drawn beside that.
        """
        # the same on every worker, and in a run that resumes: no state of a generator to save
        generator = random.Random(self._config.seed + number)
        order = array("q")  # 8 bytes a row
        first = 0
        for weight, lengths in zip(self._weights, self._lengths, strict=True):
            indices = range(first, first + len(lengths))
            for _ in range(int(weight)):
                order.extend(indices)
            order.extend(generator.sample(indices, round((weight % 1) * len(indices))))
            first += len(lengths)
        if not order:
            if first:
                raise InputError(f"of {first} training rows the sources draw none: raise weight")
            raise InputError("the sources have no rows to train on")
        generator.shuffle(order)
        groups = _cut(np.concatenate(self._lengths)[order], self._config.max_batch_tokens)
        return (order[group.start : group.stop] for group in groups)

    def _batches(self, indices: Iterable[int]) -> list[LabelledBatch]:
        """Batches, that each fit on the device at once, of the examples that this worker holds."""
        examples = []
        for index in indices:
            for held, source_examples in self._held:
                if index in held:
                    examples.append(source_examples[index - held.start])

        lengths = [len(example.document.input_ids) for example in examples]
        budget = self._config.max_micro_batch_tokens or self._config.max_batch_tokens
        groups = _cut(lengths, budget)
        return [labelled_batch(examples[group.start : group.stop]) for group in groups]


def _cut(lengths: Iterable[int], max_tokens: int) -> Iterator[range]:
    """Cut consecutive rows into groups of at most `max_tokens`.

    A row that is longer is a group alone. With 5 tokens, lengths of 2, 2, 9, 1 give [0, 2), [2, 3)
    and [3, 4).
    """
    start, stop, capacity = 0, 0, max_tokens
    for length in lengths:
        if length > capacity and stop > start:
            yield range(start, stop)
            start, capacity = stop, max_tokens
        stop += 1
        capacity -= length
    if stop > start:
        yield range(start, stop)
