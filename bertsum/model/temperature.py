"""The temperature of a head: what its logits are divided by before the softmax.

Long texts are right more often than their probabilities say, short ones less often: a long text
repeats what it means. So the temperature of a head over documents may depend on their length. The
most likely class stays the most likely one, whatever the temperature.

Nothing here needs torch, which a driver does not load.
"""

from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bertsum.config_base import Config

if TYPE_CHECKING:
    from torch import Tensor

Lengths = TypeVar("Lengths", npt.NDArray[np.float64], "Tensor")

# A wider range than training fits; beyond it probabilities would all be equal, or 0 and 1.
Temperature = Annotated[float, Field(ge=0.01, le=100)]

# Tokens of a text that is halfway between the two temperatures: one window of the model that ships.
# With 64 or 256 the calibration error of its validation rows is the same.
_HALFWAY = 128


class TemperatureByLength(Config):
    """A mix of two temperatures by the number of tokens."""

    short: Temperature = Field(description="of a text without tokens")
    long: Temperature = Field(description="of a text without end")

    def inverse(self, lengths: Lengths) -> Lengths:
        """1 / T of texts of [N] tokens.

        With `short` 1 and `long` 0.5, a text of 128 tokens has 1 / T = 1/2 * 1 + 1/2 * 2 = 1.5.
        """
        share = share_of_short(lengths)
        return share / self.short + (1 - share) / self.long


def share_of_short(lengths: Lengths) -> Lengths:
    """[N] between 0 and 1: 1 of a text without tokens, 1/2 of one of `_HALFWAY` tokens."""
    return _HALFWAY / (_HALFWAY + lengths)
