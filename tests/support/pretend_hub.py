"""A stand-in of Hugging Face's server for the real client: repositories in memory, commits, files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """Within its context ``files`` are those of each repository, and ``address`` is where it is."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, dict[str, bytes]] = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Answers(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *_: Any) -> None: ...

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(parts)

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body, files = self.body(), self.server.files
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            files.setdefault(name, {})
            self.answer({"url": f"{self.server.address}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            wanted = json.loads(body)["files"]
            self.answer({"files": [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in wanted]})
        elif found := re.match(r"/api/models/(.+)/commit/", self.path):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    files[found[1]][item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            at = f"{self.server.address}/{found[1]}/commit/{COMMIT}"
            self.answer({"commitOid": COMMIT, "commitUrl": at, "hookOutput": ""})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.match(r"/api/models/([^/]+/[^/]+)(/revision/.+)?$", path):
            held = self.server.files.get(found[1])
            if held is None:
                self.answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})
            else:
                names = [{"rfilename": name} for name in held]
                self.answer({"id": found[1], "sha": COMMIT, "siblings": names, "private": False, "tags": []})
        elif found := re.match(r"/api/models/([^/]+/[^/]+)/tree/", path):
            held = self.server.files[found[1]]
            rows = [{"type": "file", "path": n, "size": len(c), "oid": tag(c)} for n, c in held.items()]
            self.answer(rows)
        elif found := re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)$", path):
            held = self.server.files.get(found[1], {})
            if found[2] in held:
                content = held[found[2]]
                self.answer(content, ETag=f'"{tag(content)}"')
            else:
                self.answer({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
        else:
            self.answer({"error": path}, 404)

    do_HEAD = do_GET


def tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
