"""OpenLineage events of a run: its start, and how it ended, with datasets and their columns.

The events are those of https://openlineage.io, made and sent by its Python client, which also reads
its variables (OPENLINEAGE_URL, OPENLINEAGE_API_KEY, OPENLINEAGE_NAMESPACE, OPENLINEAGE_CONFIG). A
run never fails because of them: what cannot be sent is said in one line.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa

from bertsum.errors import ConfigError
from bertsum.masking import describe, hide, mask

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent, RunState
    from openlineage.client.facet_v2 import DatasetFacet

_PRODUCER = "https://pypi.org/project/bertsum"
_NAMESPACE = "bertsum"
_VARIABLES = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT__TYPE")
_SEND_SECONDS = 5.0
_EXTRA = (
    "OpenLineage events need the package openlineage-python: pip install 'bertsum[openlineage]'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasets:
    """What a run reads and writes.

    - `command`: like `summarize`.
    - `input_uri`, `output_uri`: as the user gave them.
    - `read_columns`: of INPUT, that the job reads.
    - `input_schema`, `output_schema`: None where nothing of INPUT is left to read.
    """

    command: str
    input_uri: str
    output_uri: str
    read_columns: Sequence[str] = ()
    input_schema: pa.Schema | None = None
    output_schema: pa.Schema | None = None


@dataclass(slots=True, kw_only=True)
class Ending:
    """What a run tells of its end.

    - `rows`: that are published.
    - `error`: why some of it could not be done; None: all was.
    """

    rows: int = 0
    error: str | None = None


@contextmanager
def recorded(datasets: Datasets, uri: str | None, say: Callable[[str], None]) -> Iterator[Ending]:
    """Send an event at the start, and one at the end: COMPLETE, FAIL, or ABORT for a signal.

    - `uri`: of a server, or the path of a file to which lines are added. None: what OpenLineage's
      own variables say; without them nothing is sent.
    - `say`: shows what could not be sent.

    Raises ConfigError where events are asked for and the package is missing.
    """
    ending = Ending()
    client: OpenLineageClient | None = None
    try:
        client = _open(uri)
    except ConfigError:
        raise
    except Exception as problem:  # of settings that the client cannot use, of any class
        say(f"OpenLineage events are not sent: {describe(problem)}")
    if client is None:
        yield ending
        return
    from openlineage.client.event_v2 import RunState
    from openlineage.client.uuid import generate_new_uuid

    run_id = str(generate_new_uuid())

    def send(state: RunState, error: str | None = None) -> None:
        # the client raises errors of its transports, of any class
        try:
            client.emit(_event(datasets, run_id, state, ending.rows, error))
        except Exception as problem:
            say(f"OpenLineage event {state.value} was not sent: {describe(problem)}")

    send(RunState.START)
    try:
        yield ending
    except Exception as error:
        send(RunState.FAIL, str(error) or describe(error))
        raise
    except BaseException:
        send(RunState.ABORT)
        raise
    else:
        send(RunState.COMPLETE if ending.error is None else RunState.FAIL, ending.error)
    finally:
        with suppress(Exception):  # what is left to send was said to have failed above
            client.close(_SEND_SECONDS)


def _open(uri: str | None) -> "OpenLineageClient | None":
    """The client of `uri`, or of OpenLineage's variables; None where neither asks for events."""
    if uri is None and not any(os.environ.get(name) for name in _VARIABLES):
        return None
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import (
            ApiKeyTokenProvider,
            HttpConfig,
            HttpTransport,
        )
    except ImportError as error:
        raise ConfigError(f"{_EXTRA} ({error})") from error
    if uri is None:
        return OpenLineageClient()
    if not uri.startswith(("http://", "https://")):
        path = str(Path(uri.removeprefix("file://")).absolute())
        return OpenLineageClient(transport=FileTransport(FileConfig(path, append=True)))
    key = os.environ.get("OPENLINEAGE_API_KEY")
    parts = urlsplit(uri)
    hide({"password": parts.password or "", "api_key": key or ""})
    config = HttpConfig(f"{parts.scheme}://{parts.netloc}", timeout=_SEND_SECONDS)
    # a server that is silent would else hold up a run for 40 s at its start and at its end
    config.retry = {**config.retry, "total": 1}
    if parts.path.strip("/"):
        config.endpoint = parts.path.strip("/")
    if key:
        config.auth = ApiKeyTokenProvider({"api_key": key})
    return OpenLineageClient(transport=HttpTransport(config))


def _event(
    datasets: Datasets, run_id: str, state: "RunState", rows: int, error: str | None
) -> "RunEvent":
    """One event. `rows`: that are published, at the end."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import (
        error_message_run,
        job_type_job,
        output_statistics_output_dataset,
    )

    output = _output_dataset(datasets)
    run = Run(run_id)
    if error is not None:
        run.facets = {
            "errorMessage": error_message_run.ErrorMessageRunFacet(
                mask(error), programmingLanguage="python"
            )
        }
    if state == RunState.COMPLETE:
        output.outputFacets = {
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows
            )
        }
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="RAY", jobType="JOB")
    name = f"{datasets.command}.{output.name.strip('/').replace('/', '.')}"
    namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or _NAMESPACE
    return RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        producer=_PRODUCER,
        run=run,
        job=Job(namespace, name, {"jobType": kind}),
        eventType=state,
        inputs=[_input_dataset(datasets)],
        outputs=[output],
    )


def _input_dataset(datasets: Datasets) -> "InputDataset":
    from openlineage.client.event_v2 import InputDataset

    facets: dict[str, DatasetFacet] = {}
    if datasets.input_schema is not None:
        facets = {"schema": _schema(datasets.input_schema)}
    return InputDataset(*dataset_name(datasets.input_uri), facets=facets)


def _output_dataset(datasets: Datasets) -> "OutputDataset":
    from openlineage.client.event_v2 import OutputDataset

    facets: dict[str, DatasetFacet] = {}
    if datasets.output_schema is not None:
        facets = {"schema": _schema(datasets.output_schema), "columnLineage": _columns(datasets)}
    return OutputDataset(*dataset_name(datasets.output_uri), facets=facets)


def _schema(schema: pa.Schema) -> "DatasetFacet":
    """Names and Arrow types of columns; a nested type is one text."""
    from openlineage.client.facet_v2 import schema_dataset

    fields = []
    for field in schema:
        fields.append(schema_dataset.SchemaDatasetFacetFields(field.name, str(field.type)))
    return schema_dataset.SchemaDatasetFacet(fields=fields)


def _columns(datasets: Datasets) -> "DatasetFacet":
    """From which columns of INPUT each column of OUTPUT comes.

    One that passes through comes from itself; one that is made, from those that are read and do not
    pass through (the text), or from all that are read where all of them pass through.
    """
    from openlineage.client.facet_v2 import column_lineage_dataset as facet

    namespace, name = dataset_name(datasets.input_uri)
    schema = datasets.output_schema or pa.schema([])
    kept = set(schema.names) & set(datasets.read_columns)
    sources = [column for column in datasets.read_columns if column not in kept]

    def inputs(columns: Sequence[str], subtype: str) -> facet.Fields:
        how = facet.Transformation("DIRECT", subtype, masking=False)
        return facet.Fields([facet.InputField(namespace, name, one, [how]) for one in columns])

    fields = {}
    for column in schema.names:
        if column in kept:
            fields[column] = inputs([column], "IDENTITY")
        else:
            fields[column] = inputs(sources or datasets.read_columns, "TRANSFORMATION")
    return facet.ColumnLineageDatasetFacet(fields=fields, dataset=[])


def dataset_name(uri: str) -> tuple[str, str]:
    """Namespace and name of a dataset, by OpenLineage's rules: `s3://bucket` and the key.

    A local path has the namespace `file` and an absolute name. Credentials are masked.
    """
    parts = urlsplit(uri)
    if len(parts.scheme) < 2 or parts.scheme == "file":  # one letter is a drive of Windows
        return "file", str(Path(uri.removeprefix("file://")).absolute())
    return mask(f"{parts.scheme}://{parts.netloc}"), mask(parts.path.strip("/")) or "/"
