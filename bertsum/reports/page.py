"""A report as one HTML page that loads nothing: no script, style, font or image from elsewhere.

All values go into the page as JSON in a block that no browser runs, and the page's own script puts
them into the document as text, never as markup. A policy in the page allows that script and that
style alone, by their digests.
"""

import html
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Any

from bertsum import __version__
from bertsum.reports.measures import MeasuresReport
from bertsum.reports.report import Report, report_values

_RUN_SCRIPTS = ("elements.js", "frame.js", "overview.js", "reading.js", "documents.js")
_MEASURES_SCRIPTS = ("elements.js", "frame.js", "charts.js", "measures.js")
_SURROGATE = re.compile("[\ud800-\udfff]")


def render(report: Report) -> str:
    """The page of a run. Equal reports give equal pages; it can be encoded as UTF-8."""
    values = report_values(report)
    run = values["run"]
    statuses: dict[str, int] = {}
    for counts in run["statistics"]["statuses"].values():
        for status, rows in counts.items():
            statuses[status] = statuses.get(status, 0) + rows
    shown = ", ".join(f"{status} {rows:,}" for status, rows in statuses.items()) or "no row"
    state = "Complete"
    if run["limit"] is not None and not run["is_complete"]:
        state = f"A try-out of the first {run['limit']:,} rows"
    elif not run["is_complete"]:
        missing = f"{run['missing_units']:,} units of {run['missing_rows']:,} rows are missing"
        state = f"Incomplete: {missing}; this page shows what is there"
    # one sentence that says what the page is about; also for readers without scripts
    summary = f"{state}. {run['rows']:,} rows by model {run['model']['id']}: {shown}."
    return page(f"Report: {run['output']}", summary, values, _RUN_SCRIPTS, skip="documents")


def render_measures(report: MeasuresReport) -> str:
    """The page of a training run or an evaluation."""
    return page(report.title, report.summary, report.values(), _MEASURES_SCRIPTS, skip="main")


def page(
    title: str, summary: str, values: Mapping[str, Any], scripts: Sequence[str], *, skip: str
) -> str:
    """The frame with values and scripts; `skip`: the part that a keyboard leads to first."""
    style = _asset("page.css")
    script = "\n".join(["(() => {", '"use strict";', *map(_asset, scripts), "})();"])
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src '{_digest(script)}'; style-src '{_digest(style)}'"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        title=_as_html(title),
        summary=_as_html(summary),
        skip=skip,
        skip_text="Skip to the documents" if skip == "documents" else "Skip to the content",
        version=_as_html(__version__),
        style=style,
        script=script,
        data=as_script_data(values),
    )


def as_script_data(value: Any) -> str:
    """JSON that cannot end the element that it stands in, and that is valid UTF-8.

    `<` begins an end tag or a comment; half a surrogate pair is no character of UTF-8. In a string
    of JSON both may be escaped, and outside of strings neither stands.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _asset(name: str) -> str:
    return files("bertsum.reports").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _as_html(text: str) -> str:
    """Text for an element; without half surrogate pairs and NUL, which HTML cannot hold."""
    return html.escape(_SURROGATE.sub("\ufffd", text).replace("\0", "\ufffd"))
