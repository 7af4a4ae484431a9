"""The command line: outputs, sameness, start-up, and each refusal."""

import json
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from scipy.io import wavfile

from espnet_ext.bin.ser_score import main
from espnet_ext.corpora.datadir import read_wav_scp
from espnet_ext.errors import UserError
from espnet_ext.scoring.attention import choose_examples
from espnet_ext.scoring.predictions import read_predictions

CLASSES = ("neu", "ang", "hap")
LOG = "[h] INFO: {e}epoch results: [train] loss=2.{e}, [valid] loss=3.{e}, uar=0.{e}\n"


@pytest.fixture
def inputs(tmp_path):
    """Two models on 60 utterances, with logs, attention and waveforms."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    vad = np.round(rng.normal(3, 1, (60, 3)), 3)
    head = "utterance,corpus,speaker,gender,emotion,emotion_pred,"
    head += ",".join(f"prob_{name}" for name in CLASSES)
    head += ",valence,arousal,dominance,valence_pred,arousal_pred,dominance_pred\n"
    for model in ("multitask", "hierarchical_dc"):
        said = np.where(rng.random(60) < 0.6, truth, rng.integers(0, 3, 60))
        values = vad + rng.normal(0, 0.7, vad.shape)
        text = head
        for i in range(60):
            shares = ["0.2"] * 3
            shares[said[i]] = "0.6"
            text += (
                f"u{i:02d},mini,s{i % 2},f,{CLASSES[truth[i]]},{CLASSES[said[i]]},"
                + ",".join([*shares, *map(str, vad[i]), *map(str, values[i])])
                + "\n"
            )
        (tmp_path / f"{model}.csv").write_text(text)
    (tmp_path / "train.log").write_text("".join(LOG.format(e=e) for e in range(1, 6)))
    weights = {}
    for i in range(20):
        for branch in ("discrete", "continuous"):
            w = rng.random(40 + i)
            weights[f"u{i:02d}/{branch}"] = (w / w.sum()).astype(np.float32)
    np.savez(tmp_path / "attention.npz", **weights)
    samples = (1000 * rng.normal(size=16000)).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", 16000, samples)
    (tmp_path / "wav.scp").write_text(
        "".join(f"u{i:02d} {tmp_path / 'a.wav'}\n" for i in range(60))
    )
    return tmp_path


def command(inputs, output="out", **changes):
    options = {
        "predictions": [
            f"multitask={inputs / 'multitask.csv'}",
            f"hierarchical_dc={inputs / 'hierarchical_dc.csv'}",
        ],
        "train_log": [f"multitask={inputs / 'train.log'}"],
        "attention": [f"hierarchical_dc={inputs / 'attention.npz'}"],
        "wav_scp": [inputs / "wav.scp"],
        "title": ["Two models"],
        "output": [inputs / output],
        "resamples": [200],
    }
    options |= {name: [value] for name, value in changes.items()}
    return [
        text
        for name, values in options.items()
        for value in values
        for text in (f"--{name}", str(value))
    ]


def without_environment(text):
    return re.sub(r"## Environments.*?\n\n", "", text, flags=re.DOTALL)


def test_outputs_and_sameness(inputs, capsys):
    main(command(inputs))
    printed = capsys.readouterr().out
    out = inputs / "out"
    plots = sorted(path.name for path in (out / "plots").iterdir())
    assert plots == [
        "attention_hierarchical_dc.png",
        "calibration.png",
        "confusion_matrix.png",
        "scores.png",
        "training_curves.png",
        "valence_arousal.png",
    ]
    results = (out / "RESULTS.md").read_text()
    assert printed.startswith("Two models\n")
    for name in plots:
        assert f"plot     {out}/plots/{name}" in printed
        assert f"](plots/{name})" in results
        png = (out / "plots" / name).read_bytes()
        # the header's width and height, and 150 dots an inch (5906 a metre)
        width, height = struct.unpack(">II", png[16:24])
        assert 600 < width < 3000
        assert 300 < height < 3000
        assert struct.pack(">IIB", 5906, 5906, 1) in png
    assert f"table    {out}/RESULTS.md" in printed
    scores = json.loads((out / "scores.json").read_text())["scores"]
    assert f"{scores['multitask']['ccc']['estimate']:.3f}" in printed

    main(command(inputs, output="again"))
    again = inputs / "again"
    assert without_environment(results) == without_environment(
        (again / "RESULTS.md").read_text()
    )
    for name in ["scores.csv", "scores.tex", *(f"plots/{name}" for name in plots)]:
        assert (out / name).read_bytes() == (again / name).read_bytes(), name
    assert not list(inputs.glob("**/.tmp-*"))


def test_no_plots_is_quick_and_imports_nothing_heavy(inputs):
    code = (
        "import sys; from espnet_ext.bin.ser_score import main; main(sys.argv[1:]);"
        "print(sorted({'torch', 'espnet2', 'matplotlib', 'pandas', 'sklearn'}"
        " & set(sys.modules)))"
    )
    arguments = command(inputs, plots="false")
    cut = arguments.index("--train_log")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments[:cut], *arguments[cut + 6 :]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("[]\n")
    assert not (inputs / "out" / "plots").exists()


def test_models_of_other_code_are_told(inputs, capsys):
    options = []
    for model, codes in (("multitask", "ab"), ("hierarchical_dc", "ac")):
        for folder, code in zip((model, f"{model}/test"), codes, strict=True):
            (inputs / folder).mkdir()
            (inputs / folder / ".done.json").write_text(json.dumps({"code": [code]}))
        path = inputs / model / "test" / "predictions.csv"
        path.write_text((inputs / f"{model}.csv").read_text())
        options += ["--predictions", f"{model}={path}"]
    options += ["--resamples", "100", "--plots", "false"]
    said = "1 of 2 runs were made by other code than the rest, which may be why they"
    main([*options, "--output", str(inputs / "out")])
    assert said in capsys.readouterr().out
    text = (inputs / "out" / "RESULTS.md").read_text()
    assert f"> **{said} differ: Hierarchical D-C. `--force 5-6` makes" in text
    # made again by the same code
    record = inputs / "hierarchical_dc" / "test" / ".done.json"
    record.write_text(json.dumps({"code": ["b"]}))
    main([*options, "--output", str(inputs / "out")])
    assert "other code" not in capsys.readouterr().out
    assert "other code" not in (inputs / "out" / "RESULTS.md").read_text()


def test_corpus_option(inputs, capsys):
    text = (inputs / "multitask.csv").read_text().replace(",mini,s1", ",maxi,s1")
    (inputs / "multitask.csv").write_text(text)
    arguments = [
        "--predictions", f"m={inputs / 'multitask.csv'}", "--output",
        str(inputs / "out"), "--plots", "false",
    ]  # fmt: skip
    main(arguments)
    assert "note: Scores are over maxi + mini together" in capsys.readouterr().out
    assert "**Scores are over maxi + mini" in (inputs / "out/RESULTS.md").read_text()
    main([*arguments, "--corpus", "maxi"])
    assert "30 utterances of maxi, 1 speaker;" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments, "--corpus", "other"])
    assert "no utterance of corpus 'other'; there are maxi, mini" in (
        capsys.readouterr().err
    )


def test_a_class_that_is_never_annotated_is_told(tmp_path, capsys):
    """Without prob_ columns or a reference nobody can know that it is misspelled."""
    rows = ["u1,neu,neut", "u2,ang,ang", "u3,neu,neu"]
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(["utterance,emotion,emotion_pred", *rows]) + "\n")
    arguments = ["--predictions", f"m={path}", "--output", str(tmp_path / "out")]
    main([*arguments, "--plots", "false"])
    assert "note: m predicts 'neut', which no utterance" in capsys.readouterr().out
    path.write_text(path.read_text().replace("neut", "ang"))
    main([*arguments, "--plots", "false"])
    assert "note: m predicts" not in capsys.readouterr().out


def test_two_spellings_of_a_class_are_refused(tmp_path, capsys):
    """As a sixth class `Neu` would have a recall of its own, in one file or in two."""
    header = "utterance,emotion,emotion_pred"
    for number, (first, second) in enumerate(
        [
            (["a,neu,neu", "b,Neu,neu", "c,ang,ang"], None),
            (["a,neu,neu", "b,neutral,neu"], None),
            (["a,neu,neu", "b,ang,Neu"], None),
            (["a,neu,neu", "b,,ang"], ["a,,Neu", "b,Neu,Neu"]),
        ]
    ):
        arguments = ["--output", str(tmp_path / "out"), "--plots", "false"]
        for name, rows in (("x", first), ("y", second)):
            if rows is not None:
                path = tmp_path / f"{name}{number}.csv"
                path.write_text("\n".join([header, *rows]) + "\n")
                arguments += ["--predictions", f"{name}={path}"]
        with pytest.raises(SystemExit):
            main(arguments)
        error = capsys.readouterr().err
        other = "neutral" if number == 1 else "Neu"
        assert "'neu'" in error
        assert f"'{other}'" in error
        assert f"x{number}.csv" in error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictions": "x.csv"}, "--predictions 'x.csv': expected NAME=PATH"),
        ({"predictions": "a/b=x.csv"}, "--predictions 'a/b=x.csv': expected NAME=PATH"),
        ({"train_log": "x=train.log"}, "--train_log: no --predictions x=...; there ar"),
        ({"attention": "x=a.npz"}, "--attention: no --predictions x=...; there are m"),
        ({"train_log": "multitask=none.log"}, "none.log: no such training log"),
        ({"attention": "multitask=none.npz"}, "none.npz: no such attention file"),
        ({"wav_scp": "none.scp"}, "none.scp: No such file"),
        ({"reference": "none"}, "none: no such reference"),
        ({"resamples": 5}, "--resamples 5: take at least 100"),
        ({"seed": -1}, "--seed -1: must not be negative"),
        ({"compare": "multitask"}, "--compare 'multitask': expected two names"),
        ({"compare": "multitask,x"}, "cannot compare 'x': no predictions of that na"),
    ],
)
def test_refused(inputs, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        main(command(inputs, **changes))
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert not (inputs / "out" / "RESULTS.md").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give either --predictions, or --table and --runs"),
        (["--table", "t.yaml"], "--table and --runs go together"),
        (
            ["--table", "t.yaml", "--runs", "r.csv", "--predictions", "a=a.csv"],
            "give either --predictions, or --table and --runs",
        ),
        (["--table", "t.yaml", "--runs", "r.csv"], "t.yaml: there is no such table"),
    ],
)
def test_one_set_or_a_table(tmp_path, capsys, given, message):
    with pytest.raises(SystemExit):
        main([*given, "--output", str(tmp_path)])
    assert message in capsys.readouterr().err


def test_same_name_twice(inputs, capsys):
    name = f"a={inputs / 'multitask.csv'}"
    with pytest.raises(SystemExit):
        main(["--predictions", name, "--predictions", name, "--output", "x"])
    assert "--predictions: 'a' is given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"u01": [1.0]}, "key 'u01' is not '<utterance>/<branch>'"),
        ({"zzz/discrete": [1.0]}, "no utterance of "),
        ({"u01/discrete": [0.2, 0.2]}, r"that sum to 1, got shape \(2,\) and sum 0.4"),
        ({"u01/discrete": [[0.5, 0.5]]}, r"expected weights of shape \(T,\)"),
    ],
)
def test_malformed_attention(inputs, arrays, message):
    system = read_predictions(inputs / "multitask.csv")
    path = inputs / "attention.npz"
    np.savez(path, **{key: np.array(value) for key, value in arrays.items()})
    with pytest.raises(UserError, match=message):
        choose_examples(path, system, {})
    path.write_text("x")
    with pytest.raises(UserError, match=r"attention\.npz: not a readable npz file"):
        choose_examples(path, system, {})


def test_examples_are_one_a_class_of_median_length(inputs):
    system = read_predictions(inputs / "hierarchical_dc.csv")
    wavs = read_wav_scp(inputs / "wav.scp")
    examples = choose_examples(inputs / "attention.npz", system, wavs)
    found = [re.match(r"(u\d+):  annotated (\w+)", e.title) for e in examples]
    assert [match[2] for match in found] == ["neutral", "angry", "happy"]
    for index, match in enumerate(found):
        # weights of u00..u19 have 40..59 frames, so the median id is the median length
        members = [u for u, c in zip(system.ids[:20], system.true_class, strict=False)
                   if c == index]  # fmt: skip
        assert match[1] == members[len(members) // 2]
    assert set(examples[0].weights) == {"discrete", "continuous"}
    assert len(examples[0].waveform) == 16000


def test_wavs_that_are_missing_or_of_another_format(inputs):
    system = read_predictions(inputs / "multitask.csv")
    path, scp = inputs / "attention.npz", inputs / "wav.scp"
    (inputs / "a.wav").write_bytes(b"fLaC")
    assert choose_examples(path, system, read_wav_scp(scp))[0].waveform is None
    (inputs / "a.wav").unlink()
    with pytest.raises(
        UserError, match=r"a\.wav: no such wav file \(named in wav\.scp"
    ):
        choose_examples(path, system, read_wav_scp(scp))
