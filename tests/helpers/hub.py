"""A hub on this machine: the part of the Hugging Face Hub's protocol that its client speaks to us.

Repositories are kept in memory, as a list of commits. Small files travel inside of a commit and are
named by their git blob; ``.safetensors`` and pictures are stored beside it by their SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_test"
LARGE = (".safetensors", ".png")


class Hub:
    """Repositories by name, each with its commits and branches.

    Attributes:
        url: where it listens.
        requests: methods and paths that were asked for.
        damage: what is done to the content of a file before it is sent, by its name.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, bytes] = {}
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.damage: dict[str, Any] = {}

    def create(self, repo: str, private: bool = False) -> None:
        self.commits[repo], self.branches[repo] = {}, {}
        self.private[repo] = private
        self.commit(repo, "main", {})

    def commit(self, repo: str, branch: str, changes: dict[str, bytes]) -> str:
        """Add a commit, and return its name."""
        head = self.branches[repo].get(branch) or self.branches[repo].get("main")
        files = {**(self.commits[repo][head] if head else {}), **changes}
        number = f"{repo} {branch} {len(self.commits[repo])}"
        sha = hashlib.sha1(number.encode()).hexdigest()
        self.commits[repo][sha] = files
        self.branches[repo][branch] = sha
        return sha

    def resolve(self, repo: str, revision: str) -> str | None:
        """Return the commit of a revision; None if there is none."""
        if revision in self.commits[repo]:
            return revision
        return self.branches[repo].get(revision)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[repo][self.branches[repo][revision]]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        body = self._body()
        for method, pattern, answer in ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                answer(self, body, **found.groupdict())
                return
        self._answer(404, {"error": f"no such route: {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _known(self, repo: str, revision: str = "main") -> str | None:
        """Return the commit of a revision, or answer that there is none."""
        if repo not in self.hub.commits or (self.hub.private[repo] and not self._may_write()):
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        sha = self.hub.resolve(repo, revision)
        if sha is None:
            self._answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return sha

    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self) -> bool:
        if not self._may_write():
            self._answer(401, {"error": "Invalid username or password."})
        return not self._may_write()

    # ------------------------------------------------------------------ routes

    def create(self, body: bytes) -> None:
        if self._refuse():
            return
        asked = json.loads(body)
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.commits:
            self._answer(409, {"error": "You already created this model repo", "url": repo})
            return
        self.hub.create(repo, bool(asked.get("private") or asked.get("visibility") == "private"))
        self._answer(200, {"url": f"{self.hub.url}/{repo}", "id": repo, "name": repo})

    def card(self, body: bytes) -> None:
        """Check the head of a card, as the hub does before a commit."""
        head = yaml.safe_load(json.loads(body)["content"].split("---")[1])
        results = [r for model in head.get("model-index", []) for r in model["results"]]
        whole = all(
            {"task", "dataset", "metrics"} <= set(r) and {"name", "type"} <= set(r["dataset"])
            for r in results
        )
        errors = [] if whole else [{"message": "model-index is not complete"}]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def branch(self, body: bytes, repo: str, branch: str) -> None:
        if not self._refuse() and (sha := self._known(repo)):
            status = 409 if branch in self.hub.branches[repo] else 200
            self.hub.branches[repo].setdefault(branch, sha)
            self._answer(status, {"error": "Reference already exists"} if status == 409 else {})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        if not self._refuse() and self._known(repo, revision):
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": modes})

    def batch(self, body: bytes, repo: str) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.hub.url}/objects/{o['oid']}"}}}
            for o in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.objects[oid] = body
        self._answer(200)

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        if self._refuse() or not self._known(repo, revision):
            return
        changes = {}
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif item["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                changes[value["path"]] = self.hub.objects[value["oid"]]
        sha = self.hub.commit(repo, revision, changes)
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        self._answer(200, {"commitUrl": url, "commitOid": sha})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        if (sha := self._known(repo, revision)) is None:
            return
        siblings = []
        for name, content in self.hub.commits[repo][sha].items():
            entry = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
            if name.endswith(LARGE):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        found = {"id": repo, "modelId": repo, "sha": sha, "private": False, "siblings": siblings}
        self._answer(200, found)

    def file(self, body: bytes, repo: str, revision: str, name: str) -> None:
        if (sha := self._known(repo, revision)) is None:
            return
        content = self.hub.commits[repo][sha].get(name)
        if content is None:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
            return
        large = name.endswith(LARGE)
        tag = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        sent = self.hub.damage.get(name, bytes)(content)
        self._answer(200, sent, ETag=f'"{tag}"', X_Repo_Commit=sha)


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
ROUTES = (
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", "/api/validate-yaml", _Handler.card),
    ("POST", rf"/api/models/{_REPO}/branch/(?P<branch>.+)", _Handler.branch),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", _Handler.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/objects/(?P<oid>[0-9a-f]+)", _Handler.put),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>.+)", _Handler.commit),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>.+)", _Handler.info),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.file),
    ("HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler.file),
)


@contextmanager
def serving() -> Iterator[Hub]:
    """Yield a hub that listens on this machine until the block ends."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
