"""The recipe as a user runs it: the real scripts, corpora, trainer and kills.

Small corpora and few epochs, in folders whose names have a space.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
EPOCHS = 3


class Workspace:
    """A place for everything that a run writes, and the command that writes it."""

    def __init__(self, folder: Path, models: str = "baseline_c hierarchical_cd"):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.models = models.split()
        overlay = yaml.safe_load((ROOT / "conf" / "mini.yaml").read_text())
        overlay |= {"max_epoch": EPOCHS, "keep_nbest_models": 2}
        self.overlay = folder / "overlay.yaml"
        self.overlay.write_text(yaml.safe_dump(overlay))

    @property
    def runs(self):
        return self.folder / "exp" / "mini_paper5" / "iemocap_5fold_1"

    def command(self, *options):
        downloads = self.folder / "downloads"
        return [
            *(str(ROOT / "run.sh"), "--model", *self.models),
            *("--corpus_root", str(downloads / "IEMOCAP_full_release")),
            *("--upstream", str(downloads / "hubert_tiny")),
            *("--mini_scale", "0.2", "--overlay", str(self.overlay)),
            *("--datadir", str(self.folder / "data")),
            *("--dumpdir", str(self.folder / "dump")),
            *("--expdir", str(self.folder / "exp"), "--resamples", "100"),
            *options,
        ]

    def run(self, *options, environment=None):
        return subprocess.run(
            self.command(*options),
            env=environment,
            cwd="/",  # a run must not depend on where it is started
            capture_output=True,
            text=True,
            timeout=600,
        )

    def predictions(self, seed=0):
        return {
            model: (
                self.runs / f"{model}_seed{seed}" / "test" / "predictions.csv"
            ).read_bytes()
            for model in self.models
        }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workspace in which the whole recipe has run, and what it printed."""
    workspace = Workspace(tmp_path_factory.mktemp("a first run"))
    result = workspace.run()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return workspace, result.stdout


def copy_up_to_features(finished, folder):
    """Start a workspace with the corpus and features of a finished one."""
    source, _ = finished
    workspace = Workspace(folder)
    for name in ("downloads", "data", "dump"):
        shutil.copytree(source.folder / name, folder / name, copy_function=shutil.copy2)
    return workspace


def test_the_table_and_the_plots_are_named(finished):
    workspace, printed = finished
    for text in ("Baseline C", "Hierarchical C-D", "CCC-V", "UAR", "macro-F1"):
        assert text in printed
    plots = [Path(x.split(maxsplit=1)[1]) for x in printed.splitlines() if ".png" in x]
    assert {"confusion_matrix.png", "valence_arousal.png", "training_curves.png"} <= {
        path.name for path in plots
    }
    for path in plots:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert (workspace.runs / "results" / "RESULTS.md").is_file()


def test_predictions_are_of_the_test_session(finished):
    workspace, _ = finished
    sets = workspace.folder / "dump" / "iemocap" / "sets" / "paper5" / "iemocap_5fold_1"
    lines = (sets / "test" / "utt2class").read_text().splitlines()
    truth = dict(line.split() for line in lines)
    classes = (sets / "test" / "classes").read_text().split()
    path = workspace.runs / "hierarchical_cd_seed0" / "test" / "predictions.csv"
    rows = list(csv.DictReader(path.open()))
    assert [row["utterance"] for row in rows] == sorted(truth)
    for row in rows:
        assert row["utterance"].startswith("Ses01")
        assert row["emotion"] == classes[int(truth[row["utterance"]])]
        assert sum(float(row[f"prob_{name}"]) for name in classes) == pytest.approx(
            1, abs=5e-6
        )


def test_the_scores_are_those_of_the_predictions(finished):
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    workspace, _ = finished
    scores = json.loads((workspace.runs / "results" / "scores.json").read_text())
    path = workspace.runs / "hierarchical_cd_seed0" / "test" / "predictions.csv"
    rows = list(csv.DictReader(path.open()))
    true = [row["emotion"] for row in rows]
    pred = [row["emotion_pred"] for row in rows]
    text = json.dumps(scores)
    for value in (accuracy_score(true, pred), balanced_accuracy_score(true, pred)):
        assert f"{value:.10g}"[:8] in text


def test_a_second_run_computes_nothing_and_shows_the_table(finished):
    workspace, _ = finished
    before = workspace.predictions()
    log = workspace.runs / "baseline_c_seed0" / "train.log"
    size = log.stat().st_size
    result = workspace.run()
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished before") == 10
    assert "Baseline C" in result.stdout
    assert log.stat().st_size == size
    assert workspace.predictions() == before


def test_a_killed_training_goes_on_to_the_same_predictions(finished, tmp_path):
    workspace = copy_up_to_features(finished, tmp_path / "killed")
    process = subprocess.Popen(
        workspace.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = workspace.runs / "hierarchical_cd_seed0" / "checkpoint.pth"
    deadline = time.monotonic() + 300
    while not checkpoint.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = workspace.run()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert workspace.predictions() == finished[0].predictions()


@pytest.mark.slow
def test_another_seed_gives_other_predictions(finished):
    workspace, _ = finished
    result = workspace.run("--seed", "1", "--stop_stage", "6")
    assert result.returncode == 0, result.stderr
    first, second = workspace.predictions(0), workspace.predictions(1)
    for model in workspace.models:
        assert first[model] != second[model]


@pytest.mark.slow
def test_a_gpu_that_nobody_asked_for_changes_nothing(finished, tmp_path, pretended_gpu):
    workspace = copy_up_to_features(finished, tmp_path)
    result = workspace.run(environment=pretended_gpu)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert workspace.predictions() == finished[0].predictions()


def test_on_a_gpu_trainings_get_to_their_first_computation(
    finished, tmp_path, pretended_gpu
):
    workspace = copy_up_to_features(finished, tmp_path)
    options = ("--ngpu", "1", "--stage", "5", "--stop_stage", "5")
    result = workspace.run(*options, environment=pretended_gpu)
    assert result.returncode == 1
    for model in workspace.models:
        log = (workspace.runs / f"{model}_seed0" / "train.log").read_text()
        assert "no kernel image is available for execution on the device" in log
        assert "forked subprocess" not in log


def test_what_another_class_map_adds_trains_nothing_again(finished):
    workspace, _ = finished
    log = workspace.runs / "baseline_c_seed0" / "train.log"
    before = log.stat().st_size
    store = workspace.folder / "dump" / "iemocap" / "mini" / "speech_shape"
    held = len(store.read_text().splitlines())
    result = workspace.run("--labels", "four", "--stop_stage", "4")
    assert result.returncode == 0, result.stderr
    assert len(store.read_text().splitlines()) > held
    result = workspace.run("--stop_stage", "6")
    assert result.returncode == 0, result.stderr
    for model in workspace.models:
        for what in (f"train {model}", f"predict with {model}"):
            line = next(x for x in result.stdout.splitlines() if f"  {what}" in x)
            assert "finished before" in line
    assert log.stat().st_size == before
    assert not list(workspace.runs.glob("*.replaced-*"))


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(finished, tmp_path):
    """Eight kills anywhere, generator and scoring included, then one run to the end."""
    workspace = Workspace(tmp_path / "killed often")
    draw = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen(
            workspace.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(draw.uniform(1, 40))
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = workspace.run()
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert workspace.predictions() == finished[0].predictions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--corpus", "iemocap", "--corpus_root", "nowhere"), "nowhere: no such fold"),
        (("--corpus", "emodb"), "where is emodb? Write its folder into db.sh"),
        (("--corpus", "nonesuch"), "there is no such recipe"),
        (("--stage", "9"), "stages go from 1 to 9"),
        (("--ngpu=-1",), "--ngpu -1: at least 0 is needed"),
        (("--resamples", "0"), "--resamples 0: at least 1 is needed"),
        (("--mini_scale", "nan"), "--mini_scale nan: a factor above 0 is needed"),
        (("--labels", "nonesuch"), "conf/labels/nonesuch.yaml"),
        (("--model", "nonesuch"), "conf/train_nonesuch.yaml"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    result = subprocess.run(
        [ROOT / "run.sh", *options, "--expdir", tmp_path / "exp"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_key_is_found_before_the_features_are_made(tmp_path):
    workspace = Workspace(tmp_path, models="multitask")
    workspace.overlay.write_text("max_epochs: 3\n")
    result = workspace.run()
    assert result.returncode == 1
    assert "max_epochs" in result.stderr
    assert "max_epoch" in result.stderr.replace("max_epochs", "")
    assert not (tmp_path / "dump").exists()


def test_a_damaged_wav_is_left_out_and_named(finished, tmp_path):
    workspace = copy_up_to_features(finished, tmp_path)
    corpus = workspace.folder / "downloads" / "IEMOCAP_full_release"
    wav = sorted(corpus.glob("Session2/sentences/wav/*/Ses*.wav"))[0]
    wav.write_bytes(b"not a wav")
    result = workspace.run("--stop_stage", "1")
    assert result.returncode == 0, result.stderr
    assert wav.stem in result.stdout
    kept = (workspace.folder / "data" / "iemocap" / "wav.scp").read_text()
    assert wav.stem not in kept


def test_through_a_symlink_and_in_a_recipe_of_ones_own(finished, tmp_path):
    link = tmp_path / "run a link"
    link.symlink_to(ROOT / "run.sh")
    shown = subprocess.run([link, "--dry_run"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "train hierarchical_dc" in shown.stdout

    recipe = tmp_path / "my espnet" / "egs2" / "mycorpus" / "ser1"
    setup = ROOT / "egs2" / "TEMPLATE" / "ser1" / "setup.sh"
    subprocess.run([setup, recipe], check=True, capture_output=True)
    again = subprocess.run([setup, recipe], capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    workspace, _ = finished
    command = workspace.command("--stop_stage", "4")
    command[0] = str(recipe / "run.sh")
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished before") == 5
    assert not os.path.islink(recipe / "conf")
