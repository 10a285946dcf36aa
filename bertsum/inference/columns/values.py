"""What a maker of columns gives for one row."""

from collections.abc import Mapping
from typing import Any

Columns = Mapping[str, Any]
"""Values of one row, by fields of `Prediction`."""
