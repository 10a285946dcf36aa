"""An HTTP proxy in front of the object store of the tests: counts requests, breaks or holds those that a rule names.

It forwards to a real server (moto) on loopback. What it injects is what stores do: 503 SlowDown, 500, a reset before
or after the request took effect, an answer that never comes, 403.
"""

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from helpers.waiting import LIMIT_SECONDS

_ERRORS = {
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "internal": (500, "InternalError", "We encountered an internal error. Please try again."),
    "denied": (403, "AccessDenied", "Access Denied"),
}


@dataclass
class Rule:
    """What happens to requests that match, `times` times. `when`: before or after the server has answered."""

    method: str
    path: str  # a regular expression that is searched in the decoded path and query; of other services, `#Operation`
    action: str  # slow_down, internal, denied, reset, silence, hold, or drop_header
    when: str = "before"
    times: int = 1
    forward: bool = True  # of a request that was held: whether it goes on when released, or is lost
    seen: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Until a request is held."""
        assert self.held.wait(LIMIT_SECONDS), f"no {self.method} {self.path} came"


class Proxy:
    """`url` is what clients are told; `requests` is the list of (method, path, status of the server)."""

    def __init__(self, target_port: int) -> None:
        self.requests: list[tuple[str, str, int]] = []
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                proxy._handle(self, target_port)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for rule in self.rules:
            rule.release.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def rule(self, method: str, path: str, action: str, **options: Any) -> Iterator[Rule]:
        """The rule holds inside the block."""
        rule = Rule(method, path, action, **options)
        with self._lock:
            self.rules.append(rule)
        try:
            yield rule
        finally:
            rule.release.set()
            with self._lock:
                self.rules.remove(rule)

    def count(
        self, method: str, path: str, accepts: Callable[[int], bool] = lambda status: status < 300
    ) -> int:
        """How many requests the server answered so."""
        found = [r for r in self.requests if r[0] == method and re.search(path, r[1])]
        return sum(accepts(status) for _, _, status in found)

    def _take(self, method: str, path: str) -> Rule | None:
        with self._lock:
            for rule in self.rules:
                if rule.seen < rule.times and rule.method == method and re.search(rule.path, path):
                    rule.seen += 1
                    return rule
        return None

    def _handle(self, handler: Any, target_port: int) -> None:
        operation = handler.headers.get("X-Amz-Target")  # of services that are not S3
        path = unquote(handler.path) + (f"#{operation}" if operation else "")
        body = _read_body(handler)
        rule = self._take(handler.command, path)
        if rule and rule.action == "drop_header":
            del handler.headers["If-None-Match"]
        elif rule and rule.when == "before" and not _act(handler, rule):
            return
        try:
            status, headers, data = _forward(handler, body, target_port)
        except OSError:
            return
        self.requests.append((handler.command, path, status))
        if rule:
            rule.answered.set()
        if rule and rule.when == "after" and not _act(handler, rule):
            return
        _answer(handler, status, headers, data)


def _act(handler: Any, rule: Rule) -> bool:
    """Do what the rule says; False when the request ends with it."""
    if rule.action == "hold":
        rule.held.set()
        rule.release.wait(LIMIT_SECONDS)
        handler.close_connection = not rule.forward
        return rule.forward
    if rule.action == "reset":
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return False
    if rule.action == "silence":
        rule.held.set()
        rule.release.wait(LIMIT_SECONDS)
        handler.close_connection = True
        return False
    status, code, message = _ERRORS[rule.action]
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    _answer(
        handler,
        status,
        [("Content-Type", "application/xml")],
        b"" if handler.command == "HEAD" else text,
    )
    return False


def _read_body(handler: Any) -> bytes:
    """After `100 Continue`, which the base class has sent where the client waits for it."""
    return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


def _forward(handler: Any, body: bytes, port: int) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_SECONDS)
    try:
        headers = {
            k: v for k, v in handler.headers.items() if k.lower() not in ("expect", "connection")
        }
        connection.request(handler.command, handler.path, body, headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()


def _answer(handler: Any, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
    try:
        handler.send_response_only(status)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        length = lengths[0] if lengths and handler.command == "HEAD" else str(len(data))
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(data)
    except OSError:
        handler.close_connection = True  # the client was killed meanwhile
