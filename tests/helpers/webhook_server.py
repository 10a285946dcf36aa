"""A webhook on loopback that answers as it is told, and keeps what it was sent."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str]] | None
"""Status and headers; None: no answer at all."""


class Webhook:
    """`url`: of a secret path; `requests`: path and body of each."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}/services/T0SECRET/B0SECRET"
        self.requests: list[tuple[str, bytes]] = []


@contextmanager
def webhook(answers: Sequence[Answer] = ()) -> Iterator[Webhook]:
    """Gives these answers one after the other, then status 200."""
    left = list(answers)
    silent = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hook.requests.append((self.path, body))
            answer = left.pop(0) if left else (200, {})
            if answer is None:
                silent.wait(60)
                return
            self.send_response(answer[0])
            for name, value in answer[1].items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        silent.set()
        server.shutdown()
        server.server_close()
        thread.join()
