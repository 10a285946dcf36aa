"""What a training run or an evaluation measured, as plain values for a page.

Read from the files that lie in its directory, so that the page can be made again at any time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bertsum.config_base import Config
from bertsum.errors import ConfigError, OutputError
from bertsum.evaluation.worst_examples import WORST_FILE
from bertsum.masking import mask, mask_values
from bertsum.reports.readings import to_utf16
from bertsum.reports.report import flat
from bertsum.runs.records import MANIFEST, read_json
from bertsum.storage.folder import Folder
from bertsum.training.config import TrainingConfig
from bertsum.training.curves import LogLine, label_of, make_panels, smooth
from bertsum.training.results.files import LOG_FILE, MEASURES_FILE, REPORT_FILE, RUN_FILE
from bertsum.training.tracking import numbers

PAGE_FILE = "report.html"
METRICS_DIRECTORY = "_report"  # a name that readers of Parquet directories pass over
METRICS_FILE = f"{METRICS_DIRECTORY}/metrics.json"
_MOST_POINTS = 600  # of a curve: as many as a screen can show
_MOST_LABELS = 50  # of a confusion matrix that is shown

Values = dict[str, Any]  # of JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuresReport:
    """What a page shows.

    - `facts`: names and values.
    - `config`: keys, values, and whether that is the default.
    - `panels`: curves over steps.
    - `reports`: of each labelled set, in the form of `evaluation_report`; one named "" of an
      evaluation.
    - `measures`: all numbers, by name.
    - `worst`: examples, as `bertsum.evaluation.worst_examples` writes them; their `spans` are in
      UTF-16 code units.
    """

    title: str
    summary: str
    facts: Sequence[tuple[str, str]]
    config: Sequence[tuple[str, Any, bool]]
    panels: Sequence[Values]
    reports: Mapping[str, Values]
    measures: Sequence[tuple[str, float]]
    worst: Sequence[Values]

    def values(self) -> Values:
        """The report as JSON has it, with all credentials masked."""
        return {
            "facts": [[name, mask(value)] for name, value in self.facts],
            "config": self.config,
            "panels": self.panels,
            "reports": {name: _shown(report) for name, report in self.reports.items()},
            "measures": self.measures,
            "worst": self.worst,
        }


def kind_of(output: Folder) -> Literal["training", "evaluation"] | None:
    """What made the files of a directory; None: neither."""
    if output.info(METRICS_FILE) is not None:
        return "evaluation"
    return "training" if output.info(RUN_FILE) is not None else None


def read_measures(output: Folder) -> MeasuresReport:
    """What lies in the directory of a training run or an evaluation.

    A run may still be at work, or be of a version that wrote fewer files: then parts are missing.
    Raises ConfigError for another directory, and OutputError for a damaged file.
    """
    kind = kind_of(output)
    if kind is None:
        raise ConfigError(
            f"{output} holds neither a training run ({RUN_FILE}) nor an evaluation ({METRICS_FILE})"
        )
    return _read_training(output) if kind == "training" else _read_evaluation(output)


def _read_training(output: Folder) -> MeasuresReport:
    record = read_json(output, RUN_FILE) or {}
    log = _read_log(output)
    measures = read_json(output, MEASURES_FILE)
    step = max((line["step"] for line in log), default=0)
    facts = [
        ("Output", str(output)),
        ("Begins from", str(record.get("start_from") or record.get("encoder"))),
        ("Trained", str(record.get("trained"))),
        ("Steps", f"{step:,}"),
    ]
    for source in record.get("sources", ()):
        uris = [source.get("train_uri"), source.get("validation_uri")]
        facts.append((f"Source {source['name']}", " · ".join(filter(None, uris))))
    summary = f"{step:,} steps"
    if measures is None:
        summary += "; the run is at work or was stopped, and has no measures of its end yet"
    else:
        rows = sum(result.get("rows", 0) for result in measures.values())
        summary += (
            f"; measured on {rows:,} validation rows of {_number_of(len(measures), 'source')}"
        )
    return MeasuresReport(
        title=f"Training: {output}",
        summary=f"{summary}.",
        facts=facts,
        config=_config(record, TrainingConfig),
        panels=_panels(log),
        reports=read_json(output, REPORT_FILE) or {},
        measures=list(numbers(measures or {})),
        worst=_read_worst(output, WORST_FILE),
    )


def _read_evaluation(output: Folder) -> MeasuresReport:
    # it imports torch, which the page of a run does not need
    from bertsum.evaluation.config import EvaluationConfig

    report = read_json(output, METRICS_FILE) or {}
    manifest = read_json(output, MANIFEST) or {}
    models = report.pop("models")
    facts = [("Output", str(output)), ("Input", str(manifest.get("input", "not recorded")))]
    for name, uri in models.items():
        facts.append((f"Model {name}", uri or "the one that ships with bertsum"))
    facts.append(("Rows", f"{report['rows']:,}"))
    facts += [(f"Rows: {status}", f"{rows:,}") for status, rows in report["statuses"].items()]
    for head, rows in report["labelled_rows"].items():
        if rows:
            facts.append((f"Rows with a label: {head}", f"{rows:,}"))
    config = manifest.get("job", {}).get("config", {})
    return MeasuresReport(
        title=f"Evaluation: {output}",
        summary=f"{report['rows']:,} rows; {'model' if len(models) == 1 else 'models'}: "
        f"{', '.join(models)}.",
        facts=facts,
        config=_config(config, EvaluationConfig),
        panels=[],
        reports={"": report},
        measures=list(numbers(report)),
        worst=_read_worst(output, f"{METRICS_DIRECTORY}/{WORST_FILE}"),
    )


def _number_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _config(record: Mapping[str, Any], kind: type[Config]) -> list[tuple[str, Any, bool]]:
    defaults: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            defaults[name] = value.model_dump(mode="json") if isinstance(value, Config) else value
    flat_defaults = dict(flat(json.loads(json.dumps(defaults, default=str))))
    rows: list[tuple[str, Any, bool]] = []
    for key, value in flat(record):
        rows.append((key, mask_values(value), key in flat_defaults and flat_defaults[key] == value))
    return rows


def _read_log(output: Folder) -> list[LogLine]:
    """Lines of the log; a last one that a crash has cut off is left out."""
    lines: list[LogLine] = []
    if output.info(LOG_FILE) is not None:
        for text in output.read_bytes(LOG_FILE).decode("utf-8", "replace").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def _panels(log: Sequence[LogLine]) -> list[Values]:
    panels: list[Values] = []
    for panel in make_panels(log):
        lines: list[Values] = []
        for name, (steps, raw) in panel.points.items():
            values = smooth(raw) if panel.is_loss else raw
            # every n-th point, and the last one
            kept = sorted({*range(0, len(steps), -(-len(steps) // _MOST_POINTS)), len(steps) - 1})
            lines.append(
                {
                    "name": label_of(name),
                    "steps": [steps[index] for index in kept],
                    "values": [float(f"{values[index]:.5g}") for index in kept],
                    "is_baseline": name.startswith("lead."),
                }
            )
        panels.append({"title": panel.title, "unit": panel.unit, "lines": lines})
    return panels


def _read_worst(output: Folder, name: str) -> list[Values]:
    if output.info(name) is None:
        return []
    try:
        values: list[Values] = json.loads(output.read_bytes(name))
    except ValueError as error:
        raise OutputError(f"{output}/{name} is damaged ({error}); remove it") from error
    for example in values:
        if "spans" in example and "text" in example:
            example["spans"] = to_utf16(example["text"])(example["spans"])
    return values


def _shown(report: Values) -> Values:
    """A report without what the page does not draw, such as very large matrices."""
    heads: Values = {}
    for head in ("sentiment", "topic", "words", "targets"):
        heads[head] = {}
        for model, figures in report.get(head, {}).items():
            is_small = len(figures["labels"]) <= _MOST_LABELS
            heads[head][model] = figures if is_small else {**figures, "confusion": None}
    return {"rows": report["rows"], "rouge": report["rouge"], **heads}
