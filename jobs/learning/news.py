"""What a training run reports while it goes on."""

from typing import Any

# A line of the run's log (`step`, `num_steps`, `tokens_per_second`, losses; at a validation also
# `validation` and `score`), or `message`, `markdown` or `error` for the driver. A trial adds the
# `share` of its steps that is done, `rung` for ASHA, and in the end its `outcome`.
News = dict[str, Any]
