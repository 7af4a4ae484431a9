"""The page of ``ser demo`` in a real browser.

``--screenshots FOLDER`` shows the model that ./run.sh trains, and keeps pictures.
"""

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "egs2/mini/ser1"
CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--use-fake-device-for-media-stream"),
    "--use-fake-ui-for-media-stream",
]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@dataclass
class Demo:
    """A running ``ser demo``, and what it is asked about.

    Attributes:
        process: The program.
        url: Of the page.
        places: Folders that it might leave something in.
        proxy: Where it would ask another host.
        ser: The same model, in this process.
        wavs: Recordings, the last one long.
        screenshots: Folder for pictures.
    """

    process: subprocess.Popen
    url: str
    places: list
    proxy: socket.socket
    ser: object
    wavs: list
    screenshots: Path | None


def long_recording(wavs, path):
    """Recordings one behind the other, with a pause of 4 s."""
    parts = [soundfile.read(wav)[0] for wav in wavs]
    parts.insert(len(parts) // 2, np.zeros(4 * 16000))
    soundfile.write(path, np.concatenate(parts), 16000)
    return path


@pytest.fixture(scope="module")
def demo(request, tmp_path_factory):
    screenshots = request.config.getoption("--screenshots")
    if screenshots is None:
        recipe = request.getfixturevalue("recipe")
        model, wavs = recipe.experiment(), list(recipe.wavs.values())
    else:
        model = MINI / "exp/mini_paper5/iemocap_5fold_1/hierarchical_cd_seed0"
        wavs = sorted(MINI.glob("downloads/*/IEMOCAP*/Session1/sentences/wav/*/*.wav"))
        wavs = wavs[2:14]
    audio = tmp_path_factory.mktemp("audio")
    places = [tmp_path_factory.mktemp(name) for name in ("temporary", "current")]
    proxy = socket.create_server(("127.0.0.1", 0))
    asked = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(ROOT), "TMPDIR": str(places[0])},
        **{"HTTP_PROXY": asked, "HTTPS_PROXY": asked, "ALL_PROXY": asked},
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "espnet_ext.bin.ser", "demo", "--port", "0"),
            *("--model", str(model), "--device", "cpu"),
        ],
        env=environment,
        cwd=places[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        from espnet_ext import SpeechEmotion

        ser = SpeechEmotion.from_pretrained(model, device="cpu")
        wavs = [*wavs[:4], long_recording(wavs, audio / "interview.wav")]
        first = process.stdout.readline()
        assert first.startswith("http://127.0.0.1:"), first + process.stdout.read()
        folder = None if screenshots is None else Path(screenshots)
        url = first.split()[0]
        yield Demo(process, url, places, proxy, ser, wavs, folder)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        proxy.close()


@pytest.fixture(scope="module")
def context():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        made = browser.new_context(viewport=DESK)
        made.set_default_timeout(90_000)  # for busy machines
        yield made
        browser.close()


@pytest.fixture(scope="module")
def requests(context):
    """All that the browser asks for."""
    urls = []
    context.on("request", lambda request: urls.append(request.url))
    context.on("page", lambda page: page.on("websocket", lambda w: urls.append(w.url)))
    return urls


@pytest.fixture
def page(demo, context, requests):
    opened = context.new_page()
    opened.goto(demo.url)
    opened.wait_for_selector("#answer .ser-hint")
    yield opened
    opened.close()


def upload(page, *paths, place="#recording"):
    page.set_input_files(f"{place} input[type=file]", [str(path) for path in paths])


def answer(page):
    """The numbers that the page shows folded away."""
    text = page.locator("#answer pre").text_content()
    return json.loads(text)


def expected(result):
    """The same of Python; the page names a file without its folder."""
    values = result.to_dict()
    return {**values, "source": Path(values["source"]).name}


def keep(shown, demo, name):
    """Keep a picture of the page or a part of it, if one was asked for."""
    if demo.screenshots is not None:
        time.sleep(1)  # the player's waveform
        shown.screenshot(path=demo.screenshots / f"page_{name}.png")


def test_a_file_gets_the_answer_of_python(page, demo):
    upload(page, demo.wavs[0])
    found, told = answer(page), expected(demo.ser(demo.wavs[0]))
    assert found["scores"] == pytest.approx(told["scores"], abs=1e-5)
    assert found["unit"] == pytest.approx(told["unit"], abs=1e-5)
    assert found["label"] == told["label"]
    assert page.locator(".ser-label").inner_text() == told["label"]
    bars = page.locator(".ser-row").all_inner_texts()
    assert [bar.split() for bar in bars] == [
        [name, f"{score:.3f}"] for name, score in told["scores"].items()
    ]
    dots = page.locator(".ser-attribute").all_inner_texts()
    assert [re.search(r"(\w+)\s+([-.\d]+)", dot)[0].split() for dot in dots]
    for name, text in zip(("valence", "arousal", "dominance"), dots, strict=True):
        assert f"{name} {told[name]:.3f}" in text
    square = page.locator(".ser-square").bounding_box()
    point = page.locator(".ser-square b").bounding_box()
    x = (point["x"] + point["width"] / 2 - square["x"]) / square["width"]
    y = (point["y"] + point["height"] / 2 - square["y"]) / square["height"]
    assert (x, 1 - y) == pytest.approx(
        [min(max(told["unit"][name], 0), 1) for name in ("valence", "arousal")],
        abs=0.02,
    )
    (width,) = page.locator("#answer img").evaluate_all(
        "all => all.map(image => image.naturalWidth)"
    )
    assert width > 1000  # attention; a short file has no timeline
    keep(page, demo, "recording")


def test_a_long_file_has_a_timeline(page, demo):
    long = demo.wavs[-1]
    page.set_viewport_size(PHONE)
    upload(page, long)
    found = answer(page)
    timeline = demo.ser.timeline(long, 4.0, 1.0)
    assert len(timeline.segments) > 2
    for shown, segment in zip(found["segments"], timeline.segments, strict=True):
        values = segment.to_dict()
        assert shown["label"] == values["label"]
        assert (shown["start"], shown["end"]) == (values["start"], values["end"])
        assert shown["scores"] == pytest.approx(values["scores"], abs=1e-5)
    cells = page.locator("#answer tbody tr").all_inner_texts()
    assert [row.split()[2] for row in cells] == [s.label for s in timeline.segments]
    assert any("no_speech" in row for row in cells)
    assert page.locator("#answer img").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.set_viewport_size(DESK)
    keep(page.locator("#answer .ser-wide").last, demo, "timeline")


def test_the_microphone(page, demo):
    before = set(demo.places[0].rglob("*.wav"))
    page.locator("#recording").get_by_label("Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop", exact=True).click()
    found = answer(page)
    (recorded,) = set(demo.places[0].rglob("*.wav")) - before
    assert 0.5 < found["seconds"] < 10
    assert found["scores"] == pytest.approx(demo.ser(recorded).scores, abs=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no audio at all" * 50, "no audio that soundfile can read"),
        (b"", "the file has no bytes"),
        ("short", "at least 0.025 s are needed"),
    ],
    ids=["renamed text", "empty", "short"],
)
def test_a_file_that_cannot_be_used(page, demo, tmp_path, content, message):
    path = tmp_path / "broken.wav"
    if content == "short":
        soundfile.write(path, np.ones(100) / 9, 16000)
    else:
        path.write_bytes(content)
    upload(page, path)
    text = page.locator("#answer .ser-error").inner_text()
    assert text.startswith("This recording cannot be used. broken.wav: ")
    assert message in text
    assert str(demo.places[0]) not in text
    assert page.locator("#answer .ser-card").count() == 0


def test_several_files(page, demo, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all" * 50)
    page.get_by_role("tab", name="Several files").click()
    upload(page, *demo.wavs[:2], broken, demo.wavs[2], place="#files")
    with page.expect_download() as download:
        page.locator("#csv").click()
    assert download.value.suggested_filename == "emotions.csv"
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = page.locator("#rows tbody tr").all_inner_texts()
    files = [*demo.wavs[:2], broken, demo.wavs[2]]
    for row, line, path in zip(rows, shown, files, strict=True):
        assert row["id"] == path.name == line.split()[0]
        if path == broken:
            assert row["error"] == "broken.wav: no audio that soundfile can read"
            assert not row["label"]
            assert line.endswith("no audio that soundfile can read")
            continue
        told = demo.ser(path)
        scores = {name: float(row[f"prob_{name}"]) for name in told.scores}
        assert scores == pytest.approx(told.scores, abs=1e-5)
        assert float(row["dominance"]) == pytest.approx(told.dominance, abs=1e-5)
        assert line.split()[1:3] == [told.label, f"{max(told.scores.values()):.3f}"]
    keep(page, demo, "several")


def test_no_other_host_is_asked(page, demo, requests):
    """Neither by the browser nor by the program, which would ask the proxy."""
    page.wait_for_load_state("networkidle")
    hosts = {
        urlsplit(url.removeprefix("blob:")).netloc
        for url in requests
        if not url.startswith("data:")
    }
    assert hosts == {urlsplit(demo.url).netloc}
    demo.proxy.setblocking(False)
    with pytest.raises(BlockingIOError):
        demo.proxy.accept()


def test_closing_leaves_nothing(page, demo):
    """The last test here: it ends the program, while a browser shows the page."""
    upload(page, demo.wavs[0])
    answer(page)
    assert list(demo.places[0].glob("ser_demo_*/*/*.wav"))
    demo.process.send_signal(signal.SIGTERM)
    output, _ = demo.process.communicate(timeout=90)
    assert demo.process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in output
    left = [path.name for place in demo.places for path in place.iterdir()]
    # torch makes this one wherever it is imported.
    assert [name for name in left if not name.startswith("torchinductor_")] == []
