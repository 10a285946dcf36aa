"""What a job prints as a JSON object a line, for those who collect logs.

It imports nothing of rich, which `--help` and an error before any work do not need.
"""

import json
from datetime import UTC, datetime

VARIABLE = "BERTSUM_LOG_FORMAT"
FORMATS = ("text", "json")

_format = FORMATS[0]


def set_format(name: str) -> None:
    """Print lines of JSON (`json`) from now on, or text for people (`text`)."""
    global _format
    _format = name


def is_json() -> bool:
    """Whether lines of JSON are printed."""
    return _format == "json"


def json_line(event: str, text: str, **values: float) -> str:
    """A line of JSON: `time` in UTC, `event`, `message`, and the values.

    `event`: `message`, `progress`, `error` or `end`.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    fields = {"time": now, "event": event, "message": text, **values}
    return json.dumps(fields, ensure_ascii=False)
