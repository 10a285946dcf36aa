"""Messages, tries and secrets of the webhook, against a real server."""

import json
from urllib.parse import urlsplit

import pytest
from helpers.webhook_server import Answer, webhook

from bertsum.errors import ConfigError, IncompleteError
from bertsum.masking import mask
from bertsum.trends import webhook as module
from bertsum.trends.config import WebhookConfig
from bertsum.trends.trends import AlarmValues, TrendsValues
from bertsum.trends.webhook import json_message, send, slack_message, webhook_address

ALARM: AlarmValues = {
    "column": "topic",
    "group": "<!channel> & co",
    "measure": "share",
    "kind": "day",
    "direction": "up",
    "day": "2024-05-30",
    "last_day": "2024-05-30",
    "begin": "2024-05-30",
    "value": 0.47,
    "usual": 0.2,
    "z": 4.3,
    "threshold": 3.9,
    "rows": 83,
    "is_new": True,
    "text": "topic=<!channel> & co: 47.0% negative",
}
VALUES: TrendsValues = {
    "output": "s3://lake/out",
    "label": "negative",
    "first_day": "2024-01-01",
    "last_day": "2024-05-30",
    "days": 151,
    "missing_days": 0,
    "rows": 12_000,
    "without_day": 0,
    "unpublished_partitions": 0,
    "new_since": "2024-05-30",
    "groups_watched": 3,
    "false_alarms": 1.0,
    "alarms": [ALARM],
    "groups": [],
}
CONFIG = WebhookConfig(timeout_seconds=0.3, max_attempts=3)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([], 1),
        ([(503, {}), (500, {})], 3),
        ([(429, {"Retry-After": "0"})], 2),
        ([(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})], 2),
        ([None], 2),
    ],
)
def test_what_may_pass_is_tried_again(answers: list[Answer], tries: int) -> None:
    with webhook(answers) as hook:
        assert send(urlsplit(hook.url), b'{"a": 1}', CONFIG) == tries
        assert [body for _, body in hook.requests] == [b'{"a": 1}'] * tries


@pytest.mark.parametrize(
    ("answers", "reason", "tries"),
    [
        ([(404, {})], "status 404", 1),
        ([(403, {})], "status 403", 1),
        ([(302, {"Location": "/elsewhere"})], "status 302", 1),
        ([(500, {})] * 3, "status 500", 3),
        ([None] * 3, "TimeoutError", 3),
    ],
)
def test_what_cannot_be_sent_is_an_error_without_the_address(
    answers: list[Answer], reason: str, tries: int
) -> None:
    with webhook(answers) as hook:
        with pytest.raises(
            IncompleteError, match=f"127.0.0.1.*{reason}, after {tries} try"
        ) as raised:
            send(urlsplit(hook.url), b"{}", CONFIG)
        assert "SECRET" not in str(raised.value)
        assert [path for path, _ in hook.requests] == [urlsplit(hook.url).path] * tries


def test_a_server_that_is_not_there() -> None:
    with webhook() as hook:
        pass
    with pytest.raises(IncompleteError, match="ConnectionRefusedError, after 3 try"):
        send(urlsplit(hook.url), b"{}", CONFIG)


def test_the_environment_may_have_the_address_and_the_file_comes_first() -> None:
    address = webhook_address(WebhookConfig(), "https://hooks.example.org/services/T1/SECRET1")
    assert address.hostname == "hooks.example.org"
    config = WebhookConfig(url="https://other.example.org/services/T2/SECRET2")
    assert webhook_address(config, "https://hooks.example.org/x").hostname == "other.example.org"
    assert "SECRET" not in mask(f"posting to {address.geturl()} and to {config.url}")
    assert "SECRET" not in mask("cannot post to /services/T1/SECRET1: no route")
    assert "SECRET" not in repr(config)


@pytest.mark.parametrize(
    "url",
    [
        *(None, "", "file:///etc/passwd", "hooks.example.org/SECRET", "https://"),
        *("https://[hooks/SECRET", "https://hooks:x/SECRET", "https://a..b/SECRET"),
        *("https://hooks/S\u00c9CRET", "https://hooks/a SECRET"),
    ],
)
def test_a_wrong_address_is_not_shown(url: str | None) -> None:
    with pytest.raises(ConfigError, match="BERTSUM_WEBHOOK_URL") as raised:
        webhook_address(WebhookConfig(url=url), None)
    assert "SECRET" not in str(raised.value) and "passwd" not in str(raised.value)
    # an address without a host hides no scheme, which would let a user through
    assert mask("https://name:word@host/model") == "https://***@host/model"


def test_messages() -> None:
    message = json.loads(json_message(VALUES, [ALARM]))
    assert message["alarms"] == [ALARM]
    assert message["output"] == "s3://lake/out"
    slack = json.loads(slack_message(VALUES, [ALARM] * 30))
    assert slack["mrkdwn"] is False
    lines = slack["text"].splitlines()
    assert lines[0] == "30 new alarm(s) in s3://lake/out"
    assert lines[1] == "\u25b2 topic=&lt;!channel&gt; &amp; co: 47.0% negative"
    assert lines[-1] == "and 10 more"
    assert len(lines) == 22
