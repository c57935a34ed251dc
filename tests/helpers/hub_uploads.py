"""The part of the hub of the tests that takes models: repositories, branches, files and commits.

POST /api/repos/create                                 a new repository
POST /api/models/{repo}/branch/{name}                  a new branch of its main
POST /api/models/{repo}/preupload/{revision}           which files are large
POST /{repo}.git/info/lfs/objects/batch, PUT /lfs/..   large files, one after the other
POST /api/models/{repo}/commit/{revision}              a commit: small files as base64, large ones by SHA-256
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit


class Uploads(BaseHTTPRequestHandler):
    """Answers what is sent. The handler that inherits this has `hub`, `_send_json` and `_refuse`."""

    hub: Any

    def do_POST(self) -> None:
        body = self._body()
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            return self._send_json({"errors": [], "warnings": []})
        if self.hub.shut is not None:
            return self._refuse(self.hub.shut, "")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._offer(json.loads(body))
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/([^/]+)", path)
        if match is None or match[1] not in self.hub.models:
            return self._refuse(404, "RepoNotFound")
        repo, revision = self.hub.models[match[1]], unquote(match[3])
        if match[2] == "branch":
            return self._branch(repo, revision)
        if repo.commit(revision) is None:
            return self._refuse(404, "RevisionNotFound")
        if match[2] == "preupload":
            return self._preupload(json.loads(body))
        return self._commit(match[1], revision, [json.loads(line) for line in body.splitlines()])

    def do_PUT(self) -> None:
        oid, content = self.path.rpartition("/")[2], self._body()
        if hashlib.sha256(content).hexdigest() != oid:
            return self._refuse(400, "")
        self.hub.stored[oid] = content
        self._send_json({})

    def _body(self) -> bytes:
        self.hub.requests.append((self.command, self.path, None))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _create(self, asked: dict) -> None:
        from helpers.hub_server import Dataset, commit_name

        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.models:
            return self._send(409, json.dumps({"url": f"{self.hub.url}/{name}"}).encode(), {})
        self.hub.visibility[name] = asked.get("visibility") or ("private" if asked.get("private") else "public")
        self.hub.models[name] = Dataset({commit_name(100): {".gitattributes": b"*.safetensors filter=lfs\n"}})
        self._send_json({"url": f"{self.hub.url}/{name}", "id": name})

    def _branch(self, repo: Any, name: str) -> None:
        if name in repo.branches:
            return self._refuse(409, "")
        main = repo.commit("main")
        repo.branches |= {"main": main, name: main}
        self._send_json({})

    def _preupload(self, asked: dict) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in asked["files"]
        ]
        self._send_json({"files": modes})

    def _offer(self, asked: dict) -> None:
        def action(oid: str) -> dict:
            return {"upload": {"href": f"{self.hub.store}/lfs/{oid}"}}

        found = [each | {"actions": action(each["oid"])} for each in asked["objects"]]
        self._send_json({"transfer": "basic", "objects": found})

    def _commit(self, name: str, revision: str, lines: list[dict]) -> None:
        from helpers.hub_server import commit_name

        repo = self.hub.models[name]
        files = dict(repo.commits[repo.commit(revision)])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            else:
                assert line["key"] == "header", line
                self.hub.messages.append(value["summary"])
        commit = commit_name(100 + len(repo.commits))
        repo.branches |= {"main": repo.commit("main"), revision: commit}
        repo.commits[commit] = files
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._send_json({"commitUrl": url, "commitOid": commit, "pullRequestUrl": None})

    def _send_json(self, value: object, **headers: str) -> None:
        raise NotImplementedError

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        raise NotImplementedError

    def _refuse(self, status: int, code: str) -> None:
        raise NotImplementedError
