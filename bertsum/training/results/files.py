"""Names of the files that a run leaves in OUTPUT beside the checkpoint."""

RUN_FILE = "training_config.json"
LOG_FILE = "training_log.jsonl"
MEASURES_FILE = "validation.json"
REPORT_FILE = "validation_report.json"
CURVES_FILE = "curves.png"
PICTURES_DIRECTORY = "pictures"
