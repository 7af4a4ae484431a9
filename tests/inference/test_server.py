"""The service over a real socket."""

import base64
import http.client
import io
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import uvicorn

from espnet_ext.errors import UserError
from espnet_ext.inference.server import Limits, make_app, run


class Service:
    def __init__(self, ser, limits):
        config = uvicorn.Config(make_app(ser, limits), port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def ask(self, method, path, body=b"", kind=None, headers=None):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {**({"Content-Type": kind} if kind else {}), **(headers or {})}
        link.request(method, path, body, headers)
        response = link.getresponse()
        content = json.loads(response.read())
        link.close()
        return response.status, content

    def upload(self, path, content, name="file", **fields):
        mark = uuid.uuid4().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
            for k, v in fields.items()
        ]
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; '
            'filename="../../a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        )
        body = "".join(parts).encode() + head.encode() + content
        body += f"\r\n--{mark}--\r\n".encode()
        return self.ask("POST", path, body, f"multipart/form-data; boundary={mark}")

    def stop(self):
        self.server.should_exit = True
        self.thread.join(30)


@pytest.fixture(scope="module")
def service(ser):
    made = Service(ser, Limits(max_mb=1, max_seconds=10))
    yield made
    made.stop()


@pytest.mark.parametrize("name", ["max_mb", "max_seconds", "max_waiting"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_that_cannot_be(name, value):
    with pytest.raises(UserError, match=f"{name} must be positive"):
        Limits(**{name: value})


def test_a_port_that_cannot_be(ser):
    with pytest.raises(UserError, match="port is 99999"):
        run(ser, Limits(), "127.0.0.1", 99999)


def expected(ser, wav):
    return {**ser(wav).to_dict(), "source": "bytes"}


def test_every_way_of_asking_gives_the_same(service, ser, wav):
    content = wav.read_bytes()
    told = expected(ser, wav)
    assert service.upload("/predict", content) == (200, told)
    assert service.ask("POST", "/predict", content, "audio/wav") == (200, told)
    kind = "application/octet-stream"
    assert service.ask("POST", "/predict", content, kind) == (200, told)
    values = {"inputs": base64.b64encode(content).decode()}
    body = json.dumps(values)
    status, answer = service.ask("POST", "/predict", body, "application/json")
    assert (status, answer) == (200, ser(wav).to_hf())
    body = json.dumps({**values, "parameters": {"top_k": 2}})
    status, answer = service.ask("POST", "/predict", body, "application/json")
    assert (status, answer) == (200, ser(wav).to_hf()[:2])


def test_timeline(service, ser, wav):
    told = json.loads(json.dumps({**ser.timeline(wav, 1, 0.5).to_dict()}))
    told["source"] = "bytes"
    content = wav.read_bytes()
    assert service.upload("/timeline", content, window=1, hop=0.5) == (200, told)
    path = "/timeline?window=1&hop=0.5"
    assert service.ask("POST", path, content, "audio/wav") == (200, told)
    body = {
        "inputs": base64.b64encode(content).decode(),
        "parameters": {"window": 1, "hop": 0.5},
    }
    found = service.ask("POST", "/timeline", json.dumps(body), "application/json")
    assert found == (200, told)


def test_about_the_service(service, ser):
    assert service.ask("GET", "/health") == (200, {"status": "ok"})
    assert service.ask("GET", "/info")[1]["labels"] == list(ser.labels)
    _, schema = service.ask("GET", "/openapi.json")
    assert {"/predict", "/timeline", "/health", "/info"} <= set(schema["paths"])


def wav_bytes(samples, rate=16000, subtype="PCM_16"):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype, format="WAV")
    return stream.getvalue()


BAD = [
    ("no bytes", b"", "audio/wav", 422, "no bytes"),
    ("too large", bytes(1_000_001), "audio/wav", 413, "more than 1 MB"),
    (
        "too long",
        wav_bytes(np.zeros(20000), 1000),
        "audio/wav",
        413,
        "longer than 10 s",
    ),
    ("no audio", b"hello" * 99, "audio/wav", 422, "no audio"),
    ("short", wav_bytes(np.ones(320)), "audio/wav", 422, "0.0200 s"),
    ("no samples", wav_bytes(np.zeros(0)), "audio/wav", 422, "no samples"),
    (
        "not numbers",
        wav_bytes(np.full(9000, np.nan), subtype="FLOAT"),
        "audio/wav",
        422,
        "no numbers",
    ),
    ("cut off", wav_bytes(np.ones(9000) / 3)[:9000], "audio/wav", 422, "cut off"),
    ("a form without parts", b"x", "multipart/form-data; boundary=a", 400, "no form"),
    ("a form without edge", b"x", "multipart/form-data", 400, "no form"),
    ("no JSON", b"{", "application/json", 400, "no JSON"),
    ("a list", b"[]", "application/json", 422, "expected"),
    ("deep JSON", b"[" * 90_000, "application/json", 400, "no JSON"),
    ("no base64", b'{"inputs": "%%%"}', "application/json", 422, "base64"),
    (
        "odd parameters",
        b'{"inputs": "", "parameters": 3}',
        "application/json",
        422,
        "par",
    ),
    ("no kind", b"x", "text/plain", 415, "send a form"),
]


@pytest.mark.parametrize("case", BAD, ids=[case[0] for case in BAD])
def test_bad_requests_are_explained(service, case):
    _, body, kind, status, reason = case
    found, content = service.ask("POST", "/predict", body, kind)
    assert found == status, content
    assert reason in content["error"]
    assert "/proc" not in content["error"]


@pytest.mark.parametrize(
    "query", ["window=0", "hop=-1", "hop=nan", "window=1&hop=2", "x=1", "hop=0.00001"]
)
def test_bad_parameters_are_explained(service, wav, query):
    status, content = service.ask(
        "POST", f"/timeline?{query}", wav.read_bytes(), "audio/wav"
    )
    assert status == 422, content
    assert content["error"]


def test_a_huge_upload_is_refused_before_it_is_read(service):
    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    link.putrequest("POST", "/predict")
    link.putheader("Content-Type", "audio/wav")
    link.putheader("Content-Length", str(3 << 30))
    link.endheaders()
    link.send(bytes(1000))
    response = link.getresponse()
    assert response.status == 413
    link.close()
    assert service.ask("GET", "/health")[0] == 200


def test_a_stream_without_a_length_is_cut_off_at_the_limit(
    service, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = []

    def endless():
        for _ in range(3 << 10):  # 3 GB, if anybody reads them
            sent.append(1)
            yield bytes(1 << 20)

    link = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    headers = {"Content-Type": "audio/wav", "Transfer-Encoding": "chunked"}
    with suppress(ConnectionError):  # the service has closed its end
        link.request("POST", "/predict", endless(), headers, encode_chunked=True)
    with suppress(ConnectionError):
        assert link.getresponse().status == 413
    link.close()
    assert len(sent) < 100
    assert not list(tmp_path.iterdir())
    assert service.ask("GET", "/health")[0] == 200


def test_silence_is_answered_with_a_warning(service):
    content = wav_bytes(np.zeros(20000))
    status, answer = service.ask("POST", "/predict", content, "audio/wav")
    assert (status, answer["speech"]) == (200, 0)
    assert "no speech" in answer["warnings"][0]
    status, answer = service.ask("POST", "/timeline", content, "audio/wav")
    assert [s["label"] for s in answer["segments"]] == ["no_speech"]


def test_under_load_all_get_the_same_answer(service, ser, wav):
    content, told = wav.read_bytes(), expected(ser, wav)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(service.upload, "/predict", content) for _ in range(40)]
    assert [a.result() for a in asked] == [(200, told)] * 40


def test_more_than_it_can_hold_is_told_to_wait(ser, wav, monkeypatch):
    started, go = threading.Event(), threading.Event()

    def slow(*_, **__):
        started.set()
        go.wait(30)
        return original(wav)

    original = ser.__call__
    monkeypatch.setattr(type(ser), "__call__", slow)
    service = Service(ser, Limits(max_waiting=1))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.upload, "/predict", wav.read_bytes())
        assert started.wait(30)
        status, content = service.upload("/predict", wav.read_bytes())
        assert (status, "too many" in content["error"]) == (503, True)
        monkeypatch.undo()
        go.set()
        assert first.result()[0] == 200
    assert service.upload("/predict", wav.read_bytes())[0] == 200
    service.stop()
