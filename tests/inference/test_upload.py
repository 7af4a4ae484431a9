"""Upload with huggingface_hub's own client, against a small hub on this machine.

The hub holds what the client needs: repositories, large files by hash, commits.
"""

import base64
import hashlib
import json
import random
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import yaml

from espnet_ext.bin import ser as program
from espnet_ext.inference.info import ModelInfo


class Hub:
    """What a hub has, and what it was sent."""

    def __init__(self):
        self.repos, self.large, self.log = {}, {}, []
        self.broken = ""  # part of a path that is answered with 403
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                hub.answer(self)

            def do_PUT(self):
                hub.answer(self)

            def do_GET(self):
                hub.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        path = request.path.partition("?")[0]
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        status, content = 200, {}
        if (
            request.headers.get("Authorization") != "Bearer good"
            and "/blob/" not in path
        ):
            status, content = 401, {"error": "Invalid username or password."}
        elif self.broken and self.broken in path:
            status, content = 403, {"error": "cut"}
        else:
            content = self.act(path, body)
        data = json.dumps(content).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def act(self, path, body):
        if path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values.get('organization') or 'me'}/{values['name']}"
            self.repos.setdefault(name, {})
            return {"url": f"{self.url}/{name}", "name": name}
        if "/blob/" in path:
            self.large[path.rpartition("/")[2]] = body
            self.log.append("large file")
            return {}
        if path == "/api/validate-yaml":  # the card's head
            return {"errors": [], "warnings": []}
        if path.endswith("/objects/batch"):
            found = []
            for item in json.loads(body)["objects"]:
                href = f"{self.url}/blob/{item['oid']}"
                if item["oid"] not in self.large:
                    item["actions"] = {"upload": {"href": href}}
                found.append(item)
            return {"transfer": "basic", "objects": found}
        repo = self.repos[re.search(r"/api/models/([^/]+/[^/]+)", path)[1]]
        if "/preupload/" in path:
            return {"files": [self.mode(repo, f) for f in json.loads(body)["files"]]}
        if "/commit/" in path:
            self.log.append("commit")
            for line in body.decode().splitlines():
                self.change(repo, json.loads(line))
            return {"commitUrl": f"{self.url}/me/ser/commit/1", "commitOid": "1" * 40}
        files = [{"type": "file", "path": p, "oid": "0", "size": 1} for p in repo]
        if "/tree/" in path:
            return files
        return {"id": "me/ser", "siblings": [{"rfilename": p} for p in repo]}

    def mode(self, repo, file):
        large = file["path"].endswith((".pth", ".safetensors"))
        content = repo.get(file["path"])
        oid = None
        if content is not None:
            head = b"" if large else f"blob {len(content)}\0".encode()
            make = hashlib.sha256 if large else hashlib.sha1
            oid = make(head + content).hexdigest()
        upload = "lfs" if large else "regular"
        return {"path": file["path"], "uploadMode": upload, "shouldIgnore": False} | (
            {"oid": oid} if oid else {}
        )

    def change(self, repo, line):
        value = line["value"]
        if line["key"] == "file":
            repo[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            repo[value["path"]] = self.large[value["oid"]]
        elif line["key"] == "deletedFile":
            del repo[value["path"]]


@pytest.fixture
def hub(monkeypatch):
    made = Hub()
    monkeypatch.setenv("HF_TOKEN", "good")
    original = huggingface_hub.HfApi
    monkeypatch.setattr(
        huggingface_hub, "HfApi", lambda **k: original(endpoint=made.url, **k)
    )
    # Xet is another protocol for large files, which this hub does not speak.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files of a package, without a network in them: uploading builds none."""
    upstream = {"source": "huggingface", "name": "hubert_tiny"}
    info = ModelInfo(
        "m/s/x", ("ang", "hap"), {"upstream": upstream}, "ab", builtin=True
    )
    files = {"ser_model_file": "model.pth", "upstream": "upstream"}
    yaml_files = {"ser_train_config": "config.yaml", "ser_info": "ser_info.yaml"}
    meta = {"files": files, "yaml_files": yaml_files}
    path = tmp_path_factory.mktemp("made") / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.yaml", yaml.safe_dump(meta))
        archive.writestr("ser_info.yaml", yaml.safe_dump(info.as_dict()))
        archive.writestr("config.yaml", "class_list: [ang, hap]\n")
        archive.writestr("README.md", "the card")
        archive.writestr("model.pth", random.Random(0).randbytes(9000))
        archive.writestr("upstream/model.safetensors", random.Random(1).randbytes(900))
    return path


def upload(package, *more):
    with pytest.raises(SystemExit) as left:
        program.main(["upload", str(package), "--hf_repo", "me/ser", *map(str, more)])
    return left.value.code


def members(package):
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_package_becomes_a_repository(hub, package, tmp_path, capsys):
    record = tmp_path / "new" / "uploaded.json"
    assert upload(package, "--output", record) == 0
    expected = members(package)
    card = hub.repos["me/ser"].pop("README.md").decode()
    del expected["README.md"]
    assert hub.repos["me/ser"] == expected
    assert 'from_pretrained("me/ser")' in card
    assert json.loads(record.read_text())["commit"] == f"{hub.url}/me/ser/commit/1"
    assert "ser predict --model me/ser" in capsys.readouterr().out
    assert hub.log == ["large file", "large file", "commit"]


def test_a_cut_upload_goes_on_and_a_finished_one_is_not_repeated(
    hub, package, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hub.broken = "/commit/"  # all files are there, and nothing shows them
    assert upload(package) == 2
    assert "me/ser: the upload failed" in capsys.readouterr().err
    assert hub.log == ["large file"] * 2
    assert not list(tmp_path.iterdir())
    hub.broken = ""
    assert upload(package) == 0
    assert hub.log == ["large file"] * 2 + ["commit"]
    assert upload(package) == 0
    assert hub.log == ["large file"] * 2 + ["commit"]


def test_what_an_earlier_package_had_goes(hub, package):
    hub.repos["me/ser"] = {"models/1.pth": b"old", "notes.md": b"mine"}
    assert upload(package) == 0
    assert "models/1.pth" not in hub.repos["me/ser"]
    assert hub.repos["me/ser"]["notes.md"] == b"mine"
    assert "model.pth" in hub.repos["me/ser"]


def test_what_cannot_be_uploaded_is_explained(
    hub, package, tmp_path, monkeypatch, capsys
):
    def error_of(*arguments):
        assert upload(*arguments) == 2
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return text

    assert "no such package" in error_of(tmp_path / "gone.zip")
    (tmp_path / "cut.zip").write_bytes(package.read_bytes()[:-5000])
    assert "a cut one" in error_of(tmp_path / "cut.zip")
    assert "OWNER/NAME" in error_of(package, "--hf_repo", "word")
    monkeypatch.setenv("HF_TOKEN", "bad")
    assert "hf auth login" in error_of(package)
    changed = members(package)
    changed["ser_info.yaml"] = changed["ser_info.yaml"].replace(
        b"builtin: true", b"builtin: false"
    )
    licensed = tmp_path / "licensed.zip"
    with zipfile.ZipFile(licensed, "w") as archive:
        for name, content in changed.items():
            archive.writestr(name, content)
    monkeypatch.setenv("HF_TOKEN", "good")
    assert "--licence_ack true" in error_of(licensed)
    assert hub.repos == {}
    assert upload(licensed, "--licence_ack", "true") == 0
