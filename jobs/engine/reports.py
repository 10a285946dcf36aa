"""What a replica tells the driver of a unit: small, and JSON, so that no data goes through the driver."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Self

from bertsum.runs.records import Counts, FileRecord

STAGES = ("read", "prepare", "forward", "finish", "write")


@dataclass(frozen=True, slots=True)
class UnitReport:
    """The outcome of one unit: a record of its output file, or of the bigger one of a table that has its rows, or an
    error."""

    name: str
    replica: str
    record: FileRecord | None = None
    created: bool = False  # False with a record: somebody else had made the file
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage, see STAGES; some stages overlap
    begun: float = 0.0  # Unix time, when the model was loaded
    wall_seconds: float = 0.0
    tokens: int = 0  # that were read, without what lies beyond `max_windows`
    error: str | None = None
    error_type: str | None = None  # name of its class in bertsum.errors, or of Python's

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        if values["record"] is not None:
            counts = Counts(**values["record"].pop("counts"))
            values["record"] = FileRecord(**values["record"], counts=counts)
        return cls(**values)
