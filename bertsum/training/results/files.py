"""Names of the files that a run leaves in OUTPUT beside the checkpoint, and how JSON stands in them."""

import json

from bertsum.training.tracking import finite_values

RUN_FILE = "training_config.json"
LOG_FILE = "training_log.jsonl"
MEASURES_FILE = "validation.json"
REPORT_FILE = "validation_report.json"
CURVES_FILE = "curves.png"
PICTURES_DIRECTORY = "pictures"


def dump(values: object) -> bytes:
    """JSON as people read it, with null for what is not finite."""
    return (json.dumps(finite_values(values), indent=1) + "\n").encode()
