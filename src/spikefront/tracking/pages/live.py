"""The report while a sweep runs: a page on this machine's own address that asks for news."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from spikefront.analysis.schema import StudyRecord
from spikefront.errors import UserError
from spikefront.tracking.pages.page import encode, page, payload

HOST = "127.0.0.1"


class LiveReport(ThreadingHTTPServer):
    """Serves the page at ``/`` and its data at ``/data.json``, to this machine only.

    Args:
        read: the studies' records as they are now; called every ``every`` seconds while ``serve`` runs.
        port: 0 for any free one; ``url`` says which.

    Raises:
        UserError: the port is taken.
    """

    daemon_threads = True

    def __init__(
        self, read: Callable[[], Sequence[StudyRecord]], published: str = "auto", port: int = 8600, every: float = 3.0
    ) -> None:
        self._read, self._published, self._every = read, published, every
        self._stopped = threading.Event()
        self.snapshot: Mapping[str, Any] = {}
        self.refresh()
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"can't serve the report on port {port}: {error}; choose another with port=…") from error
        self.url = f"http://{HOST}:{self.server_address[1]}/"

    def refresh(self) -> None:
        """Read the studies again."""
        data = payload(self._read(), self._published, live=True)
        news = encode({**data, "made": ""}).encode()
        tag = f'"{hashlib.sha256(news).hexdigest()[:16]}"'
        if not self.snapshot or tag != self.snapshot["tag"]:
            self.snapshot = {"data": data, "body": encode(data).encode(), "tag": tag}

    def serve(self) -> None:
        """Serve and refresh until ``stop`` or Ctrl-C."""
        threading.Thread(target=self._follow, daemon=True).start()
        try:
            self.serve_forever(poll_interval=0.2)
        finally:
            self._stopped.set()
            self.server_close()

    def stop(self) -> None:
        self._stopped.set()
        self.shutdown()

    def _follow(self) -> None:
        said = None
        while not self._stopped.wait(self._every):
            try:
                self.refresh()
                said = None
            except Exception as error:  # a storage that is busy now may answer later: the page keeps what it has
                if said != (said := " ".join(str(error).split())):
                    print(f"spikefront: the study can't be read just now: {said}", file=sys.stderr, flush=True)


class _Handler(BaseHTTPRequestHandler):
    server: LiveReport
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):  # DNS rebinding
            return self._answer(403, b"only for this machine\n", "text/plain")
        now = self.server.snapshot
        path = self.path.partition("?")[0]
        if path == "/":
            return self._answer(200, page(now["data"]).encode(), "text/html")
        if path != "/data.json":
            return self._answer(404, b"not here\n", "text/plain")
        if self.headers.get("If-None-Match") == now["tag"]:
            return self._answer(304, b"", "application/json", now["tag"])
        return self._answer(200, now["body"], "application/json", now["tag"])

    def _answer(self, status: int, body: bytes, kind: str, tag: str | None = None) -> None:
        self.send_response(status)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...
