"""What a replica reports to the driver. Small, and JSON: no data goes through the driver."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from bertsum.checks.profile import Profile
from bertsum.runs.records import Counts, FileRecord
from bertsum.runs.times import UnitTime

# In the order of a unit's way, and of the line that shows them.
STAGES = ("read", "prepare", "forward", "finish", "write")


@dataclass(frozen=True, slots=True)
class UnitReport:
    """The outcome of one unit.

    - `record`: of its output file, or of the bigger file of a table that has its rows; None where
      there is an error.
    - `created`: whether this replica made the file; False with a record: another run was faster.
    - `seconds`: by stage, see STAGES; some stages overlap.
    - `begun`: Unix time, when the model was loaded.
    - `wall_seconds`: from then to the report.
    - `tokens`: that were read, without what lies beyond `max_windows`.
    - `error_type`: name of the error's class in bertsum.errors, or of Python's.
    - `first`: of a run with two pools, how the first one did it; all else is then of the second.

    A report with neither record nor error is one of the first pool, which has handed the unit on.
    """

    name: str
    replica: str
    record: FileRecord | None = None
    created: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    begun: float = 0.0
    wall_seconds: float = 0.0
    tokens: int = 0
    error: str | None = None
    error_type: str | None = None
    first: UnitTime | None = None

    @property
    def is_handed_on(self) -> bool:
        """Whether the unit's rows wait for the next pool."""
        return self.record is None and self.error is None

    @property
    def time(self) -> UnitTime:
        return UnitTime(self.begun, self.wall_seconds, self.replica, self.first)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        # JSON has no dataclasses: the inner ones are built from their fields
        if values["record"] is not None:
            counts = Counts(**values["record"].pop("counts"))
            profile = values["record"].pop("profile")
            values["record"] = FileRecord(
                **values["record"],
                counts=counts,
                profile=None if profile is None else Profile.from_json(profile),
            )
        if values["first"] is not None:
            values["first"] = UnitTime(**values["first"])
        return cls(**values)
