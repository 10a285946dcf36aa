"""OUTPUT of a run over given documents, made without Ray and model by the steps of a real run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bertsum.config import SummarizerConfig
from bertsum.inference.arrow import output_table, read_documents, unreadable
from bertsum.runs.columns import check_documents, output_schema
from bertsum.runs.commit import Committer
from bertsum.runs.input import Input, list_input, read_schema, stream_rows
from bertsum.runs.plan import Plan, Terms, make_plan
from bertsum.runs.records import CountedColumns, Job, encode
from bertsum.runs.units import Limits
from bertsum.schema import Document, Prediction, Status
from bertsum.storage.folder import Folder

ALL_OUTPUTS = [
    "summary",
    "sentiment",
    "language",
    "spans",
    "sentences",
    "topic",
    "keywords",
    "aspects",
]
CONFIG = SummarizerConfig.model_validate({"outputs": ALL_OUTPUTS})
JOB = Job("model-a", "digest-a", CONFIG)

Predict = Callable[[str, int], Prediction]
"""A text and its number in INPUT -> what the model says."""


def write_documents(
    root: Path, texts: Mapping[str, Sequence[str | None]], ids: Sequence[str] | None = None
) -> None:
    """A file of documents in each partition; `texts` by partition, "" is the root."""
    for partition, documents in texts.items():
        names = ids or [f"{partition or 'row'}-{i}" for i in range(len(documents))]
        table = pa.table({"id": names, "document": pa.array(documents, pa.string())})
        path = root / partition / "documents.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=500)


def predict(text: str, number: int) -> Prediction:
    """Sentences end at full stops; the first one and the third are the summary."""
    spans: list[tuple[int, int]] = []
    start = 0
    for sentence in text.split(". "):
        spans.append((start, start + len(sentence)))
        start += len(sentence) + 2
    label = ("positive", "negative", "neutral")[number % 3]
    scores = {"positive": 0.2, "negative": 0.2, "neutral": 0.2} | {label: 0.6}
    chosen = [index for index in (0, 2) if index < len(spans)]
    return Prediction(
        Status.OK,
        summary=" ".join(text[a:b] for a, b in (spans[index] for index in chosen)),
        summary_sentences=chosen,
        summary_scores=[0.9, 0.4][: len(chosen)],
        sentiment=label,
        sentiment_scores=scores,
        num_sentences=len(spans),
        num_tokens=len(text.split()),
        language="en",
        summary_spans=[span(*spans[index]) for index in chosen],
        sentences=[
            {**span(a, b), "score": 0.5, "sentiment": label, "sentiment_scores": scores}
            for a, b in spans
        ],
        topic="sport" if number % 2 else "business",
        topic_scores={"sport": 0.7, "business": 0.3},
        keywords=[{"text": text.split()[0] if text.split() else "", "score": 0.8}],
        aspects=[
            {**span(*spans[0]), "text": text[: spans[0][1]], "sentiment": label, "score": 0.5}
        ],
    )


def span(start: int, stop: int) -> dict[str, int]:
    return {"start": start, "length": stop - start}


class Run:
    """A run from `source` to `root`, which can stop anywhere."""

    def __init__(
        self,
        source: Path,
        root: Path,
        *,
        job: Job = JOB,
        predict: Predict = predict,
        rows_per_unit: int = 100,
        files: Input | None = None,
    ) -> None:
        """`files`: of INPUT, where they are a copy."""
        self.source, self.output, self.job = source, Folder(str(root)), job
        self.predict, self.limits = predict, Limits(rows_per_unit, 2**28)
        self.input = files or list_input(str(source))
        self.committer = Committer(
            output=self.output,
            job=job,
            input_uri=str(source),
            limits=self.limits,
            max_error_fraction=1,
        )

    def plan(self, limit: int | None = None) -> Plan:
        def check(shard: object) -> str | None:
            return check_documents(shard, self.job.config)  # type: ignore[arg-type]

        return make_plan(
            self.input, self.output, self.job, Terms(limits=self.limits, check=check, limit=limit)
        )

    def begin(self, plan: Plan) -> None:
        self.committer.begin(plan)

    def make(self, plan: Plan, most_units: int = 1_000_000) -> None:
        """Make the first of the missing units."""
        config, number = self.job.config, 0
        for name, unit in list(plan.missing.items())[:most_units]:
            tables = []
            for part in unit.slices:
                schema = read_schema(self.input.root, part.path)
                for table in stream_rows(
                    self.input.root, part.file, part.start, part.stop, schema.names
                ):
                    predictions = []
                    for document in read_documents(table, config):
                        predictions.append(self._prediction(document, number))
                        number += 1
                    tables.append(output_table(table, predictions, config))
            schema = read_schema(self.input.root, unit.slices[0].path)
            name_of = config.output.name_of
            counted = CountedColumns(status=name_of("status"), tokens=name_of("num_tokens"))
            written = output_schema(schema, config)
            data, _ = encode(tables, written, unit, self.job, counted=counted)
            assert self.output.create_exclusive(name, data)

    def finish(self, plan: Plan) -> None:
        self.committer.commit(plan, {})

    def run(self) -> "Run":
        plan = self.plan()
        self.begin(plan)
        self.make(plan)
        self.finish(plan)
        return self

    def _prediction(self, document: Document, number: int) -> Prediction:
        refused = unreadable(document)
        return refused if refused is not None else self.predict(document.text or "", number)
