"""A hub on the loopback interface: datasets and models in the hub's protocol, with faults where a test wants them.

GET /api/datasets/{repo}/revision/{revision}          the commit of a revision
GET /api/datasets/{repo}/tree/{commit}?recursive=..   the files with sizes and checksums, PAGE of them at a time
HEAD, GET /datasets/{repo}/resolve/{commit}/{path}    the bytes; large files by way of a redirect, as from a store
The same for models, whose files are at /{repo}/resolve/..; `hub_uploads.py` has what takes files.
"""

import dataclasses
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.hub_uploads import Uploads

PAGE = 4  # files of a page of a listing
LARGE = 8192  # bytes from which on a file is large: listed with its SHA-256


@dataclasses.dataclass
class Dataset:
    """A repository, of data or of a model.

    commits: files by path, by commit; the last one is `main`, unless `branches` (commits by name) says otherwise.
    gate: status and error code that keep bytes away.

    sizes, checksums: what is listed instead of the truth.  missing: listed, but not there.
    """

    commits: dict[str, dict[str, bytes]]
    gate: tuple[int, str] | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    checksums: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: set[str] = dataclasses.field(default_factory=set)
    branches: dict[str, str] = dataclasses.field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        if revision in self.branches:
            return self.branches[revision]
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


@dataclasses.dataclass
class Hub:
    """The datasets and models by OWNER/NAME, and what was asked for: (method, path, Range header) in order.

    tokens: (path, Authorization header) of requests that carried one.
    cuts: the numbers of bytes after which the next answers with bytes are cut, in order.
    refusals: the statuses that the next requests for bytes are answered with, in order.
    slow: bytes of a block, and s to wait after each; None: at once.  ranges: whether the Range header is heeded.
    page: what is answered in place of any description, as by a network that wants a log-in first.
    shut: the status that everything which is sent to the hub is answered with.
    stored: large files that were sent, by SHA-256.  messages: of commits.  visibility: of new repositories.
    """

    datasets: dict[str, Dataset]
    models: dict[str, Dataset] = dataclasses.field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = dataclasses.field(default_factory=list)
    tokens: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)
    refusals: list[int] = dataclasses.field(default_factory=list)
    slow: tuple[int, float] | None = None
    ranges: bool = True
    page: bytes | None = None
    shut: int | None = None
    stored: dict[str, bytes] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)
    visibility: dict[str, str] = dataclasses.field(default_factory=dict)
    url: str = ""
    store: str = ""  # the same at another port, as a store is another host

    def bytes_asked(self) -> list[tuple[str, str | None]]:
        """(file, Range header) of every request for bytes of a file."""
        found = [(path, sent) for method, path, sent in self.requests if method == "GET" and "/resolve/" in path]
        return [(unquote(path).split("/resolve/")[1].partition("/")[2], sent) for path, sent in found]


def commit_name(number: int) -> str:
    """A commit of 40 hexadecimal digits."""
    return hashlib.sha1(b"commit %d" % number).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(Uploads):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append((self.command, self.path, self.headers.get("Range")))
        if token := self.headers.get("Authorization"):
            self.hub.tokens.append((self.path, token))
        parts = urlsplit(self.path)
        if match := re.fullmatch(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", parts.path):
            place, repo, what, revision = match.groups()
            self._describe(place, repo, what or "revision", unquote(revision or "main"), parse_qs(parts.query))
        elif match := re.fullmatch(r"/(datasets|store)/([^/]+/[^/]+)/(?:resolve/)?([0-9a-f]{40})/(.+)", parts.path):
            self._send_file(match[1], match[2], match[3], unquote(match[4]))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", parts.path):
            self._send_file("models", match[1], unquote(match[2]), unquote(match[3]))
        else:
            self._refuse(404, "")

    def _describe(self, place: str, repo: str, what: str, revision: str, query: dict[str, list[str]]) -> None:
        if self.hub.page is not None:
            return self._send(200, self.hub.page, {"Content-Type": "text/html"})
        dataset = getattr(self.hub, place).get(repo)
        if dataset is None:
            return self._refuse(401, "RepoNotFound")
        commit = dataset.commit(revision)
        if commit is None:
            return self._refuse(404, "RevisionNotFound")
        files = dataset.commits[commit]
        if what == "revision":
            listed = [{"rfilename": path} for path in sorted(files)]
            return self._send_json({"id": repo, "sha": commit, "siblings": listed, "private": False, "tags": []})
        first = int(query.get("cursor", ["0"])[0])
        entries = [{"type": "directory", "path": "data", "oid": "0" * 40, "size": 0}] if first == 0 else []
        for path in sorted(files)[first : first + PAGE]:
            size = dataset.sizes.get(path, len(files[path]))
            entry = {"type": "file", "path": path, "size": size, "oid": git_sha1(files[path])}
            if len(files[path]) >= LARGE:
                digest = dataset.checksums.get(path, hashlib.sha256(files[path]).hexdigest())
                entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
            entries.append(entry)
        links = {}
        if first + PAGE < len(files):
            links["Link"] = f'<{self.hub.url}{urlsplit(self.path).path}?cursor={first + PAGE}>; rel="next"'
        self._send_json(entries, **links)

    def _send_file(self, place: str, repo: str, revision: str, path: str) -> None:
        dataset = (self.hub.models if place == "models" else self.hub.datasets).get(repo)
        commit = None if dataset is None else dataset.commit(revision)
        if dataset is None or commit is None:
            return self._refuse(404, "RepoNotFound" if dataset is None else "RevisionNotFound")
        content = dataset.commits[commit].get(path)
        if dataset.gate is not None:
            return self._refuse(*dataset.gate)
        if content is None or path in dataset.missing:
            return self._refuse(404, "EntryNotFound")
        if self.hub.refusals:
            return self._refuse(self.hub.refusals.pop(0), "")
        large = len(content) >= LARGE
        etag = hashlib.sha256(content).hexdigest() if large else git_sha1(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if large and place == "datasets":
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{etag}"'}
            place = self.path.replace("/datasets/", "/store/").replace("/resolve/", "/")
            return self._send(302, b"", headers | {"Location": f"{self.hub.store}{place}"})
        start, stop, status = 0, len(content), 200
        if self.hub.ranges and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")):
            start, stop, status = int(match[1]), int(match[2] or len(content) - 1) + 1, 206
            if start >= len(content):
                return self._refuse(416, "")
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self._send(status, content[start:stop], headers, cut=self.hub.cuts.pop(0) if self.hub.cuts else None)

    def _send_json(self, value: object, **headers: str) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"} | headers)

    def _refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._send(status, b"", headers | ({"Retry-After": "3"} if status == 429 else {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        block, wait = self.hub.slow or (len(body) or 1, 0.0)
        sent = body if cut is None else body[:cut]
        try:
            for first in range(0, len(sent), block):
                self.wfile.write(sent[first : first + block])
                time.sleep(wait)
        except OSError:
            self.close_connection = True  # the client has gone
        if cut is not None and cut < len(body):
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: object) -> None:
        """Clients that go away in mid transfer are what is tested."""


@contextmanager
def serve(datasets: dict[str, Dataset]) -> Iterator[Hub]:
    """A hub that answers on the loopback interface while it is entered."""
    hub = Hub(datasets)
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.store = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
