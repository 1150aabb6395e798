"""An S3 server on this machine (moto's) that is slow, fails, or drops connections when it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http import HTTPStatus

SECRET, KEY = "s3cr3t-that-nobody-may-see", "AKIAOFTHETESTSALONE"  # of the environment that the fixture sets


class PretendS3:
    """``faults`` are taken one by one, each by the next request that it is for: ``(of which, what it does)``.

    What it does: seconds to wait, a status to answer with, or ``"drop"``, to close the connection in the middle.
    """

    def __init__(self):
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.faults, self.seen = [], []
        self._app, self._lock = DomainDispatcherApplication(create_backend_app), threading.Lock()
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.address = f"http://127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()

    def __call__(self, environ, start_response):
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self._lock:
            self.seen.append(asked)
            fault = next((f for f in self.faults if f[0](asked)), (None, None))
            if fault in self.faults:
                self.faults.remove(fault)
        _, does = fault
        if isinstance(does, float):
            time.sleep(does)
        elif does == "drop":
            environ["wsgi.input"].read(min(1000, int(environ.get("CONTENT_LENGTH") or 0)))
            with contextlib.suppress(Exception):
                environ["werkzeug.socket"].shutdown(socket.SHUT_WR)
                environ["wsgi.input"].read()  # until the other side has noticed; nothing is done with it
            return []
        elif isinstance(does, tuple):
            status, code = does
            start_response(f"{status} {HTTPStatus(status).phrase}", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{code} for {KEY}</Message></Error>".encode()]
        return self._app(environ, start_response)
