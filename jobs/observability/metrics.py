"""What a run counts for Prometheus.

Ray exports these metrics on each node, with its prefix `ray_` and labels of its own (the process is
`WorkerId`). Each has the label `output`: OUTPUT without credentials. `cluster/grafana.json` shows
them.

The share of time in which a device is busy is the rate of `bertsum_stage_seconds_total` of the
stage `forward`, in seconds a second.
"""

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge, Histogram

from bertsum.masking import mask

# Seconds of a unit: a few rows on a GPU up to a thousand long documents on a slow core.
_UNIT_SECONDS = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0]
_OUTPUT = ("output",)


class ReplicaMetrics:
    """Metrics of one replica."""

    def __init__(self, output_uri: str) -> None:
        self._documents = Counter(
            "bertsum_documents", "documents that were computed, also in tries that failed", _OUTPUT
        )
        self._tokens = Counter("bertsum_tokens", "tokens of these documents", _OUTPUT)
        self._rows = Counter(
            "bertsum_rows", "rows of files that were written, by status", (*_OUTPUT, "status")
        )
        self._unit_errors = Counter(
            "bertsum_unit_errors",
            "tries of a unit that failed, by the error's class",
            (*_OUTPUT, "error_type"),
        )
        self._unit_seconds = Histogram(
            "bertsum_unit_seconds", "from a unit's start to its file", _UNIT_SECONDS, _OUTPUT
        )
        self._stage_seconds = Counter(
            "bertsum_stage_seconds", "work in each stage of the units", (*_OUTPUT, "stage")
        )
        self._output = {"output": mask(output_uri)}

    def count_documents(self, documents: int, tokens: int) -> None:
        """Count documents that were just computed. Ray sends the sums every few seconds."""
        # Ray refuses to count zero
        if documents:
            self._documents.inc(documents, self._output)
        if tokens:
            self._tokens.inc(tokens, self._output)

    def count_unit(
        self, statuses: Mapping[str, int], stage_seconds: Mapping[str, float], seconds: float
    ) -> None:
        """Count a unit whose file this replica has written.

        - `statuses`: rows by status.
        - `stage_seconds`: by stage, see `jobs.engine.reports.STAGES`.
        - `seconds`: from its start to its file.
        """
        for status, rows in statuses.items():
            if rows:
                self._rows.inc(rows, self._output | {"status": status})
        for stage, value in stage_seconds.items():
            if value > 0:
                self._stage_seconds.inc(value, self._output | {"stage": stage})
        self._unit_seconds.observe(seconds, self._output)

    def count_error(self, error_type: str) -> None:
        """Count a try of a unit that failed."""
        self._unit_errors.inc(1, self._output | {"error_type": error_type})


class RunMetrics:
    """Metrics of a run, of the process that started it."""

    def __init__(self, output_uri: str) -> None:
        self._units_left = Gauge("bertsum_units_left", "units that are not done yet", _OUTPUT)
        self._output = {"output": mask(output_uri)}

    def set_units_left(self, number: int) -> None:
        """Set how many units of the run are not done yet; 0 at its end."""
        self._units_left.set(number, self._output)
