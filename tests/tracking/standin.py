"""A stand-in for the W&B server: enough of its GraphQL, file stream and file storage that the real client is content.

It keeps what it is sent (``runs``, ``artifacts``), and misbehaves when told: ``mode`` is ``well``, ``refuse`` (503),
``limit`` (429), ``forbid`` (401), ``stall`` (takes the request and never answers) or ``drop`` (cuts the connection).
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

ENTITY = "someone"
STATUS = {"refuse": 503, "limit": 429, "forbid": 401}


class StandIn(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.mode = "well"
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.unknown: list[str] = []
        self.charts: dict[str, Any] = {}
        self.ended = threading.Event()
        self.lock = threading.RLock()

    def __enter__(self) -> StandIn:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None: ...

    def run(self, name: str) -> dict[str, Any]:
        fresh = {"id": f"id-{name}", "name": name, "config": {}, "summary": {}, "tags": [], "history": [], "files": {}}
        return self.runs.setdefault(name, {**fresh, "state": "running", "displayName": name, "exit": None})

    def graphql(self, operation: str, v: dict[str, Any], query: str) -> Any:
        answer = getattr(self, f"on_{operation}", None)
        if answer is None:
            self.unknown.append(f"{operation} {query}")
            return {}
        return answer(**({"input": v["input"]} if set(v) == {"input"} else {"v": v}))

    # ---- the client that logs

    def on_ServerFeaturesQuery(self, v: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def on_Viewer(self, v: Any) -> Any:
        return {"viewer": {"id": "v", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"} | _no("teams")}

    def on_RunResumeStatus(self, v: Any) -> Any:
        bucket = None
        if v["name"] in self.runs:
            r = self.runs[v["name"]]
            last = r["history"][-1:] if r["history"] else []
            bucket = {
                **{k: r[k] for k in ("id", "name", "displayName", "tags")},
                "config": json.dumps(r["config"]),
                "summaryMetrics": json.dumps(r["summary"]),
                "historyTail": json.dumps([json.dumps(x) for x in last]),
                "eventsTail": "[]",
                "historyLineCount": len(r["history"]),
                "logLineCount": 0,
                "eventsLineCount": 0,
                "notes": "",
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {"id": "m", "name": v["project"], "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def on_UpsertBucket(self, v: Any) -> Any:
        with self.lock:
            name = v.get("name") or (v.get("id") or "").removeprefix("id-")
            inserted = name not in self.runs
            r = self.run(name)
            r["project"] = v.get("project") or r.get("project")
            keys = {"groupName": "group", "jobType": "job_type", "displayName": "displayName", "tags": "tags"}
            r |= {to: v[key] for key, to in keys.items() if v.get(key) is not None}
            if v.get("config"):
                r["config"] = json.loads(v["config"])
            if v.get("summaryMetrics"):
                r["summary"] = json.loads(v["summaryMetrics"])
            if v.get("state"):
                r["state"] = v["state"]
        bucket = {k: r[k] for k in ("id", "name", "displayName")} | {"description": "", "sweepName": None}
        project = {"id": "p", "name": r["project"], "entity": {"id": "e", "name": ENTITY}}
        bucket |= {"config": json.dumps(r["config"]), "project": project, "historyLineCount": len(r["history"])}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    on_GetDefaultEntity = on_Viewer

    def on_OrganizationCoreWeaveOrganizationID(self, v: Any) -> Any:
        return {"entity": {"organization": None}}

    def on_CreateCustomChart(self, v: Any) -> Any:
        self.charts[v["chartName"]] = json.loads(v["spec"])
        return {"createCustomChart": {"chart": {"id": f"{v['entity']}/{v['chartName']}"}}}

    def on_CreateRunFiles(self, v: Any) -> Any:
        files = [{"name": f, "uploadUrl": f"{self.url}/put/runs/{v['run']}/{f}"} for f in v["files"]]
        return {"createRunFiles": {"runID": f"id-{v['run']}", "uploadHeaders": [], "files": files}}

    def on_MarkRunFilesUploaded(self, v: Any) -> Any:
        return {"markRunFilesUploaded": {"success": True}}

    def stream(self, run: str, body: dict[str, Any]) -> None:
        with self.lock:
            r = self.run(run)
            for name, part in (body.get("files") or {}).items():
                lines = [json.loads(x) for x in part["content"]] if name.endswith((".jsonl", ".json")) else []
                if name == "wandb-history.jsonl":
                    r["history"][part["offset"] :] = lines
                elif name == "wandb-summary.json" and lines:
                    r["summary"] = lines[-1]
            if body.get("complete"):
                r["exit"], r["state"] = body.get("exitcode"), "finished" if not body.get("exitcode") else "failed"

    # ---- artifacts

    def on_XXHashDigestsEnabled(self, v: Any) -> Any:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_FetchArtifactDigestAlgorithm(self, v: Any) -> Any:
        return {"project": {"artifactType": None}}

    def on_ArtifactType(self, v: Any) -> Any:
        return {"project": None}

    def on_CreateArtifact(self, input: Any) -> Any:
        number = len(self.artifacts)
        name = input["artifactCollectionName"]
        aliases = [a["alias"] for a in input.get("aliases") or []]
        version = sum(a["collection"] == name for a in self.artifacts.values())
        for other in self.artifacts.values():
            if other["collection"] == name:
                other["aliases"] = [a for a in other["aliases"] if a not in aliases]
        a = {"id": f"artifact-{number}", "collection": name, "type": input["artifactTypeName"], "aliases": aliases}
        a |= {"version": version, "digest": input["digest"], "metadata": input.get("metadata"), "files": {}}
        a |= {"project": input["projectName"], "run": input.get("runName"), "state": "PENDING"}
        self.artifacts[a["id"]] = a
        sequence = {"id": f"sequence-{name}", "state": "READY", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": a["id"], "state": "PENDING", "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, v: Any) -> Any:
        address = f"{self.url}/put/manifests/{v['artifactID']}"
        file = {"id": "f", "uploadUrl": address, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"manifest-{v['artifactID']}", "file": file}}}

    def on_UpdateArtifactManifest(self, v: Any) -> Any:
        artifact = v["artifactManifestID"].removeprefix("manifest-")
        file = {"id": "f", "uploadUrl": f"{self.url}/put/manifests/{artifact}", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": v["artifactManifestID"], "file": file}}}

    def on_CreateArtifactFiles(self, input: Any) -> Any:
        nodes = []
        for f in input["artifactFiles"]:
            path = f"artifacts/{f['artifactID']}/{f['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/put/{path}", "uploadHeaders": []}
            nodes.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def on_CommitArtifact(self, v: Any) -> Any:
        a = self.artifacts[v["artifactID"]]
        a["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": a["id"], "digest": a["digest"]}}}

    def find(self, collection: str, version: str) -> dict[str, Any] | None:
        own = [a for a in self.artifacts.values() if a["collection"] == collection]
        return next((a for a in reversed(own) if version == f"v{a['version']}" or version in a["aliases"]), None)

    # ---- the client that asks

    def on_Run(self, v: Any) -> Any:
        return {"project": {"internalId": "1", "run": self._whole(v["name"]) if v["name"] in self.runs else None}}

    def on_Runs(self, v: Any) -> Any:
        wanted = json.loads(v.get("filters") or "{}").get("group")
        found = [r for r in self.runs.values() if r["project"] == v["project"] and wanted in (None, r.get("group"))]
        edges = [{"node": {"projectId": "1", **self._whole(r["name"])}, "cursor": ""} for r in found]
        page = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {
            "project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": page} if found else None
        }

    def _whole(self, name: str) -> dict[str, Any]:
        r = self.runs[name]
        whole = {**{k: r[k] for k in ("id", "name", "displayName", "tags", "state")}, "group": r.get("group")}
        whole |= {"jobType": r.get("job_type"), "config": json.dumps(r["config"]), "sweepName": None, "notes": ""}
        whole |= {"summaryMetrics": json.dumps(r["summary"]), "historyLineCount": len(r["history"]), "commit": ""}
        whole |= {"readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:01:00"}
        user = {"name": ENTITY, "username": ENTITY}
        return whole | {"description": "", "systemMetrics": "{}", "user": user, "historyKeys": {}, "projectId": "1"}

    def on_RunOutputArtifacts(self, v: Any) -> Any:
        own = [{"node": self._artifact(a)} for a in self.artifacts.values() if a["run"] == v["run"]]
        page = {"totalCount": len(own), "edges": own, "pageInfo": _END}
        return {"project": {"run": {"artifacts": page}}}

    def on_ArtifactMembershipByName(self, v: Any) -> Any:
        a = self.find(*v["name"].split(":"))
        membership = None
        if a:
            membership = {"__typename": "ArtifactCollectionMembership", "id": "m", "versionIndex": a["version"]}
            membership |= {"createdAt": "2026-01-01T00:00:00", "artifactCollection": _collection(a)}
            membership |= {"aliases": _aliases(a), "artifact": self._artifact(a)}
        return {"project": {"artifactCollectionMembership": membership}}

    def _artifact(self, a: dict[str, Any]) -> dict[str, Any]:
        whole = {"__typename": "Artifact", "artifactSequence": _collection(a), "versionIndex": a["version"]}
        whole |= {"artifactType": {"name": a["type"]}, "description": None, "metadata": a["metadata"], "tags": []}
        whole |= {"ttlDurationSeconds": -1, "ttlIsInherited": True, "historyStep": None, "size": 1, "fileCount": 1}
        whole |= {"digestAlgorithm": "MANIFEST_MD5", "commitHash": "c", "createdAt": "2026-01-01T00:00:00"}
        whole |= {"updatedAt": None, "aliases": _aliases(a)}
        return whole | {k: a[k] for k in ("id", "state", "digest")}

    def on_FetchArtifactManifest(self, v: Any) -> Any:
        address = f"{self.url}/get/manifests/{v['id']}"
        return {"artifact": {"currentManifest": {"__typename": "ArtifactManifest", "file": {"directUrl": address}}}}

    def on_ArtifactManifest(self, v: Any) -> Any:
        return self.on_FetchArtifactManifest({"id": v["artifact_id"]})

    def on_GetArtifactMembershipFileUrls(self, v: Any) -> Any:
        a = self.find(v["collection"], v["alias"])
        nodes = [{"node": node} for node in self._files(a["id"])]  # type: ignore[index]
        membership = {"files": {"pageInfo": _END, "edges": nodes}}
        return {"project": {"artifactCollection": {"__typename": "ArtifactSequence", "artifactMembership": membership}}}

    def on_ArtifactFileURLsByManifestEntries(self, v: Any) -> Any:
        nodes = [{"node": node} for node in self._files(v["id"])]
        return {"artifact": {"filesByManifestEntries": {"pageInfo": _END, "edges": nodes}}}

    def _files(self, artifact: str) -> list[dict[str, str]]:
        begin = f"artifacts/{artifact}/"
        own = [f.removeprefix(begin) for f in self.files if f.startswith(begin)]
        return [{"__typename": "File", "name": f, "directUrl": f"{self.url}/get/{begin}{f}"} for f in own]

    def on_AddAliases(self, input: Any) -> Any:
        self.artifacts[input["artifactID"]]["aliases"] += [a["alias"] for a in input["aliases"]]
        return {"result": {"success": True}}

    def on_DeleteAliases(self, input: Any) -> Any:
        gone = [a["alias"] for a in input["aliases"]]
        a = self.artifacts[input["artifactID"]]
        a["aliases"] = [x for x in a["aliases"] if x not in gone]
        return {"result": {"success": True}}

    def on_UpdateArtifact(self, v: Any) -> Any:
        return {"result": {"artifact": self._artifact(self.artifacts[v["input"]["artifactID"]])}}


_END = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}


def _collection(a: dict[str, Any]) -> dict[str, Any]:
    project = {"id": "p", "internalId": "1", "name": a["project"], "entity": {"name": ENTITY}}
    return {"__typename": "ArtifactSequence", "name": a["collection"], "project": project}


def _aliases(a: dict[str, Any]) -> list[dict[str, Any]]:
    names = enumerate(a["aliases"])
    return [
        {"__typename": "ArtifactAlias", "id": str(i), "alias": n, "artifactCollection": _collection(a)}
        for i, n in names
    ]


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        s = self.server
        s.asked.append(f"{self.command} {self.path}")
        if s.mode == "stall":
            s.ended.wait()
        if s.mode in ("drop", "stall"):
            self.close_connection = True
            self.connection.close()
            return
        if s.mode in STATUS:
            self.reply({"error": s.mode}, STATUS[s.mode])
            return
        path = unquote(self.path.partition("?")[0])
        if path == "/graphql":
            ask = json.loads(body)
            query = ask["query"]
            operation = ask.get("operationName") or next(iter(re.findall(r"(?:query|mutation)\s+(\w+)", query)), "")
            s.asked[-1] += f" {operation}"
            self.reply({"data": s.graphql(operation, ask.get("variables") or {}, query)})
        elif m := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            s.stream(m[1], json.loads(body))
            self.reply({"exitcode": None, "limits": {}})
        elif m := re.fullmatch(r"/put/runs/([^/]+)/(.+)", path):
            s.run(m[1])["files"][m[2]] = body
            self.reply({})
        elif m := re.fullmatch(r"/put/(.+)", path):
            s.files[m[1]] = body
            self.reply({})
        elif m := re.fullmatch(r"/get/(.+)", path):
            self.reply(s.files[m[1]])
        else:
            s.unknown.append(self.path)
            self.reply({}, 404 if path != "/" else 200)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def reply(self, content: Any, status: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


def _no(connection: str) -> dict[str, Any]:
    return {connection: {"edges": []}}
