"""Sends new alarms once: what a webhook has taken is remembered beside the counts.

    OUTPUT/_bertsum/trends/sent-<digest of the address>.json

It is written after the webhook has answered: killed in between, the command sends them again.
"""

import hashlib
from collections.abc import Iterator
from urllib.parse import SplitResult

from bertsum.errors import OutputError
from bertsum.runs.records import read_json, write_json
from bertsum.storage.folder import Folder
from bertsum.trends.alarms import Alarm
from bertsum.trends.config import WebhookConfig
from bertsum.trends.state import STATE
from bertsum.trends.trends import Trends, TrendsValues, alarm_values
from bertsum.trends.webhook import json_message, send, slack_message


def _key(alarm: Alarm) -> list[str]:
    direction = "up" if alarm.is_up else "down"
    group = alarm.group
    return [
        group.column,
        group.value,
        alarm.measure.value,
        alarm.kind.value,
        direction,
        alarm.day.isoformat(),
    ]


def _name(address: SplitResult) -> str:
    return f"{STATE}/sent-{hashlib.sha256(address.geturl().encode()).hexdigest()[:16]}.json"


def deliver(
    output: Folder,
    trends: Trends,
    values: TrendsValues,
    address: SplitResult,
    config: WebhookConfig,
    form: str,
) -> Iterator[str]:
    """Send the new alarms that this webhook has not taken; yields lines that say what was done.

    `form`: `json` or `slack`. Raises IncompleteError where the webhook does not take them.
    """
    record = read_json(output, _name(address)) or {"sent": []}
    new = [alarm for alarm in trends.new_alarms if _key(alarm) not in record["sent"]]
    if not new:
        yield "webhook: no new alarm to send"
        return
    make = slack_message if form == "slack" else json_message
    message = make(values, [alarm_values(alarm, trends) for alarm in new])
    attempts = send(address, message, config)
    yield f"webhook: {len(new):,} alarm(s) sent to {address.hostname}, {attempts} try(s)"
    # what is no alarm any more, as after rows were replaced, is forgotten
    current = [_key(alarm) for alarm in trends.alarms]
    keys = [key for key in record["sent"] if key in current] + [_key(alarm) for alarm in new]
    try:
        write_json(output, _name(address), {"sent": keys})
    except OutputError as error:
        yield f"webhook: what was sent cannot be remembered, and may be sent again: {error}"
