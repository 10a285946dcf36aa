"""New alarms to a webhook, with tries, pauses and a limit for each; its address is a secret.

Whoever knows the address can write to the channel behind it, so it stands in no message: errors
name its host alone. An answer that leads elsewhere is an error, since that other host is nobody
the user has named.
"""

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from http.client import HTTPException
from typing import IO, Literal
from urllib.parse import SplitResult, urlsplit

from bertsum import __version__
from bertsum.errors import ConfigError, IncompleteError
from bertsum.masking import hide
from bertsum.trends.config import WebhookConfig
from bertsum.trends.trends import AlarmValues, TrendsValues

VARIABLE = "BERTSUM_WEBHOOK_URL"
Form = Literal["json", "slack"]
_FIRST_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 60.0
_MOST_LINES = 20  # of a message for people


def webhook_address(config: WebhookConfig, environment: str | None) -> SplitResult:
    """The address, of the configuration or of the `environment` variable; it is hidden from now on.

    Raises ConfigError, which does not show it.
    """
    url = config.url or environment or ""
    if not url:
        raise ConfigError(
            f"--webhook: set {VARIABLE}, or webhook.url in the configuration file, to the address"
        )
    hide({"webhook_secret": url})
    try:
        parts = urlsplit(url)
        # both raise for what no request can be made of
        is_address = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # UnicodeError is one
        parts, is_address = urlsplit(""), False
    # the path alone is the secret of most webhooks, and libraries may name it without the host
    hide({"webhook_secret": [parts.path, parts.query]})
    is_writable = url.isascii() and url.strip().isprintable() and " " not in url.strip()
    if parts.scheme not in ("http", "https") or not is_address or not is_writable:
        raise ConfigError(
            f"the address of the webhook ({VARIABLE} or webhook.url) is not https:// or http://, "
            "a host and a path, in ASCII"
        )
    return parts


def json_message(values: TrendsValues, alarms: Sequence[AlarmValues]) -> bytes:
    """What a program reads: the new alarms, and of what they are."""
    return json.dumps(
        {
            "source": "bertsum monitor",
            "output": values["output"],
            "label": values["label"],
            "last_day": values["last_day"],
            "alarms": list(alarms),
        }
    ).encode()


def slack_message(values: TrendsValues, alarms: Sequence[AlarmValues]) -> bytes:
    """A message of Slack, without its formats, and with its control characters replaced."""
    lines = [f"{len(alarms)} new alarm(s) in {values['output']}"]
    for alarm in alarms[:_MOST_LINES]:
        sign = "\u25b2" if alarm["direction"] == "up" else "\u25bc"
        lines.append(f"{sign} {' '.join(alarm['text'].split())}")
    if len(alarms) > _MOST_LINES:
        lines.append(f"and {len(alarms) - _MOST_LINES} more")
    text = "\n".join(lines)
    # `<` begins a link, or a mention that wakes a whole channel
    for character, replacement in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, replacement)
    return json.dumps({"text": text, "mrkdwn": False}).encode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Follow nothing: the error of the answer's status then says so."""


def send(address: SplitResult, message: bytes, config: WebhookConfig) -> int:
    """Post a message; returns the number of tries.

    Silence, refused connections, status 408, 425, 429 and those from 500 on are tried again, after
    pauses that double, or that the answer asks for (`Retry-After`, at most a minute). Raises
    IncompleteError when all tries failed, or the answer is final.
    """
    # an environment's proxies are used, as by all else; no redirect is
    opener = urllib.request.build_opener(_NoRedirects())
    headers = {"Content-Type": "application/json", "User-Agent": f"bertsum/{__version__}"}
    reason = ""
    for attempt in range(1, config.max_attempts + 1):
        request = urllib.request.Request(address.geturl(), message, headers, method="POST")
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _MOST_PAUSE_SECONDS)
        pause *= random.uniform(0.75, 1.25)  # so that many senders do not come together again
        try:
            with opener.open(request, timeout=config.timeout_seconds):
                return attempt
        except urllib.error.HTTPError as error:
            with error:
                reason = f"status {error.code}"
                if error.code < 500 and error.code not in (408, 425, 429):
                    break
                asked = error.headers.get("Retry-After", "")
                if asked.isdecimal():  # a date there is left to our own pauses
                    pause = min(float(asked), _MOST_PAUSE_SECONDS) or pause
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            cause = getattr(error, "reason", error)
            reason = type(cause).__name__ if isinstance(cause, Exception) else "no connection"
        if attempt < config.max_attempts:
            time.sleep(pause)
    raise IncompleteError(
        f"the webhook at {address.hostname} did not take the alarms: {reason}, after {attempt} "
        "try(s); the same command sends them again"
    )
