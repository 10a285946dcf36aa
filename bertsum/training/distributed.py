"""Several processes that train the same model: sums and gathers of `torch.distributed`.

With a single process they return what they are given.
"""

from typing import TypeVar

import torch.distributed
from torch import Tensor

Value = TypeVar("Value")


def world_size() -> int:
    """Number of workers; 1 without a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """This worker's number, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def part(num_rows: int) -> tuple[int, int]:
    """[start, stop) of this worker's rows: consecutive, and every row belongs to one worker."""
    # 10 rows of 3 workers: [0, 3), [3, 6), [6, 10)
    return num_rows * rank() // world_size(), num_rows * (rank() + 1) // world_size()


def sum_over_workers(values: Tensor) -> Tensor:
    """The sum of each element over all workers, in place; every worker must call it."""
    if world_size() > 1:
        torch.distributed.all_reduce(values)
    return values


def gather(value: Value) -> list[Value]:
    """The values of all workers, by rank; every worker must call it, and gets all of them."""
    if world_size() == 1:
        return [value]
    values: list[Value | None] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # all are filled now
