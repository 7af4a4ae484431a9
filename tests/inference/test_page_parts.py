"""What the page is made of, without a browser."""

import json
import re
import socket
import sys
from dataclasses import replace
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from espnet_ext import SpeechEmotion
from espnet_ext.bin import ser as program
from espnet_ext.errors import UserError
from espnet_ext.inference.page import answers, parts
from espnet_ext.inference.page.app import make_app
from espnet_ext.inference.server import Limits, listen


def numbers(html):
    return json.loads(unescape(re.search("<pre>(.*)</pre>", html, re.DOTALL)[1]))


def titles(html):
    return re.findall(r"<h3>([^<]*?)(?: <|<)", html)


@pytest.fixture(scope="module")
def long(recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "long.wav"
    parts = [soundfile.read(wav)[0] for wav in list(recipe.wavs.values())[:7]]
    soundfile.write(path, np.concatenate(parts), 16000)
    return path


@pytest.mark.parametrize(
    ("model", "shown", "column"),
    [
        ("baseline_c", ["Valence and arousal", "Attributes"], "valence"),
        ("baseline_d", ["Class"], "probability"),
    ],
)
def test_a_branch_that_is_missing_is_not_shown(recipe, long, model, shown, column):
    ser = SpeechEmotion.from_pretrained(recipe.experiment(model), device="cpu")
    html = answers.answer(ser, long, 3600)
    assert titles(html) == [*shown, "Where the model attends", "Timeline"]
    other = {"valence": "probability", "probability": "valence"}[column]
    assert f"<th>{column}</th>" in html
    assert f"<th>{other}</th>" not in html
    assert [s["label"] for s in numbers(html)["segments"]] == [
        s.label for s in ser.timeline(long).segments
    ]


def test_what_is_too_long_for_one_answer_is_the_mean_of_its_timeline(
    ser, long, monkeypatch
):
    monkeypatch.setattr(answers, "WHOLE", 8.5)
    html = answers.answer(ser, long, 3600)
    assert "Where the model attends" not in titles(html)
    found, mean = numbers(html), ser.timeline(long).summary()
    assert found["scores"] == mean["scores"]
    assert found["dominance"] == mean["dominance"]


@pytest.mark.parametrize("seconds", [1, 20])
def test_silence_is_doubtful(ser, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(answers, "WHOLE", 8.5)
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(seconds * 16000), 16000)
    html = answers.answer(ser, path, 3600)
    assert html.startswith('<div class="ser-box ser-warning"')
    assert "no speech" in html.lower()
    assert "Traceback" not in html


def test_a_limit_on_the_length_holds_for_all(ser, wav, tmp_path):
    told = "2 s; this page takes 1 s (see --max_seconds)"
    assert told in answers.answer(ser, wav, 1.0)
    *_, last = answers.answer_all(ser, [wav, wav], tmp_path, 1.0)
    assert last.html.count(told) == 2
    assert last.csv.read_text().count(told) == 2


def test_names_are_no_html(ser, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.wav"
    path.write_bytes(b"")
    html = answers.answer(ser, path, 3600)
    assert "&lt;img src=x" in html
    assert "<img" not in html
    *_, last = answers.answer_all(ser, [path], tmp_path, 3600)
    assert "<img" not in last.html


def test_what_the_model_was_made_of(ser):
    toy, real = (replace(ser.info, builtin=builtin) for builtin in (True, False))
    assert answers.warn_of_toy(real) == ""
    assert "This model is a toy." in answers.warn_of_toy(toy)
    made = SimpleNamespace(info=real, labels=ser.labels, scale=ser.scale)
    html = answers.about(made, "classes & more")
    low, high = ser.info.clips
    assert f"IEMOCAP; {ser.info.utterances} clips of {low:.1f} to {high:.1f} s" in html
    assert ", ".join(ser.labels) in html
    assert "valence, arousal, dominance, from 1 to 5" in html
    assert "classes &amp; more" in html
    made = SimpleNamespace(info=toy, labels=(), scale=None)
    assert "synthetic stand-in for IEMOCAP" in answers.about(made, "")


def test_attributes_without_a_scale_have_no_place():
    values = {"valence": 3.25, "arousal": 1.0, "dominance": 2.0}
    assert parts.plane(None, None) == ""
    html = parts.attributes(values, None)
    assert "3.250" in html
    assert "ser-track" not in html


def test_a_point_beyond_the_scale_stays_on_the_plane():
    html = parts.plane({"valence": 1.2, "arousal": -0.1, "dominance": 0.5}, (1, 5))
    assert "left:100.00%;bottom:0.00%" in html


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_port_in_use(recipe, capsys, command):
    model = str(recipe.experiment())
    with listen("127.0.0.1", 0) as busy:
        port = str(busy.getsockname()[1])
        with pytest.raises(SystemExit) as left:
            program.main([command, "--model", model, "--port", port])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        f"error: cannot listen on 127.0.0.1, port {port} (Address already in use); "
        "choose another --port or --host\n"
    )


def test_an_address_of_another_machine():
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1, port 7860"):
        listen("192.0.2.1", 7860)


def test_an_address_of_ipv6():
    with listen("::1", 0) as listening:
        assert listening.family == socket.AF_INET6


def test_no_gradio(ser, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'espnet_ext\[demo\]'"):
        make_app(ser, "", Limits(), tmp_path)


def test_an_upload_that_is_too_large_leaves_nothing(ser, tmp_path):
    app = make_app(ser, "", Limits(max_mb=0.01), tmp_path)
    with TestClient(app) as client:
        for size, status in ((9_000, 200), (20_000, 413)):
            file = {"files": ("a.wav", b"x" * size)}
            reply = client.post("/gradio_api/upload", files=file)
            assert reply.status_code == status, reply.text
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path.stat().st_size for path in kept] == [9_000]
    assert not any(path.exists() for path in kept)
