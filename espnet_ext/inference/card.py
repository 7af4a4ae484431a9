"""The model card (``README.md``) of a package."""

from collections.abc import Sequence

from espnet_ext.inference.info import ModelInfo, format_score

_LANGUAGES = {
    "iemocap": "English",
    "msp_podcast": "English",
    "crema_d": "English",
    "ravdess": "English",
    "meld": "English",
    "emodb": "German",
}

_USE = """
## Use

```bash
ser predict --model {file} speech.wav
```

```python
from espnet_ext import SpeechEmotion

ser = SpeechEmotion.from_pretrained("{file}")
result = ser("speech.wav")
```

Meant for research on how emotion is perceived in speech. Not for judging or deciding
about people (hiring, schools, police, borders, health, credit, surveillance): it
predicts how annotators rated acted or recorded speech, not what somebody feels. Expect
other numbers with other microphones, languages, ages and cultures than those of the
training corpora. It knows no silence, noise or music: it answers on anything that is
loud enough, and `speech` and `warnings` only tell levels and lengths apart.
"""


def model_card(info: ModelInfo, labels: Sequence[str], file: str = "model.zip") -> str:
    """Write the card.

    Args:
        info: Of the model, without paths.
        labels: Names of the classes in full.
        file: Name of the package in the examples.
    """
    parts = [_front_matter(info), f"# Speech emotion recognition: {info.name}\n"]
    if info.builtin:
        parts.append(
            "**A toy.** Trained on the built-in corpora: synthetic speech with drawn "
            "labels. It shows how the software works and knows nothing of people.\n"
        )
    parts += [_about(info, labels), _ensemble(info), _results(info)]
    parts += [_USE.format(file=file), _licenses(info)]
    return "\n".join(part for part in parts if part)


def _front_matter(info: ModelInfo) -> str:
    license_ = "apache-2.0" if info.builtin else "other"
    return (
        f"---\nlicense: {license_}\npipeline_tag: audio-classification\ntags:\n"
        "- espnet\n- speech-emotion-recognition\n---\n"
    )


def _about(info: ModelInfo, labels: Sequence[str]) -> str:
    corpora = ", ".join(info.corpora) or "not known"
    if info.builtin:
        corpora = f"built-in, synthetic, in the layout of {corpora}"
    languages = sorted({_LANGUAGES.get(c, "not known") for c in info.corpora})
    upstream = info.features["upstream"]
    scale = "none or not known"
    if info.scale is not None:
        scale = f"{info.scale[0]:g} to {info.scale[1]:g}"
    clips = "not known"
    if info.clips is not None:
        clips = f"{info.utterances}, {info.clips[0]:.1f} to {info.clips[1]:.1f} s"
    rows = {
        "classes": ", ".join(labels),
        "valence, arousal, dominance": f"scale {scale}; low is unpleasant, calm, weak",
        "corpora": corpora,
        "language": ", ".join(languages) or "not known",
        "training clips": clips,
        "upstream": f"{upstream['name']} ({upstream['source']}), weights "
        f"`{info.weights[:16]}`",
    }
    return "| | |\n|-|-|\n" + "".join(f"| {k} | {v} |\n" for k, v in rows.items())


def _ensemble(info: ModelInfo) -> str:
    if not info.members:
        return ""
    lines = [
        f"## Ensemble of {len(info.members)} trainings\n",
        "Each answer is the mean over them; `spread` is their standard deviation.\n",
    ]
    if info.folds:
        lines.append(
            "**They were trained on different splits (folds).** Each was tested on "
            "speakers that it had not seen, but together they have seen them all: the "
            "mean has no honest score on this corpus. The scores are each member's "
            "own, on the test set of its own split.\n"
        )
    names = list(dict.fromkeys(k for m in info.members for k in m.results))
    lines.append("| member | seed | clips | " + "".join(f"{n} | " for n in names))
    lines.append("|-|-|-|" + "-|" * len(names))
    for m in info.members:
        cells = [m.name, str(m.seed), str(m.utterances)]
        cells += [format_score(m.results[n]) if n in m.results else "" for n in names]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _results(info: ModelInfo) -> str:
    lines = []
    if info.results:
        lines += ["## Scores on the test set of its split\n", "| metric | |", "|-|-|"]
        lines += [f"| {k} | {format_score(v)} |" for k, v in info.results.items()]
        lines.append("\nIn brackets: 95 % bootstrap interval.\n")
    if info.calibration is not None:
        c = info.calibration
        of_mean = " of the mean" if info.members else ""
        unseen = ""
        if info.folds:
            unseen = (
                " Each clip was answered by the members that had it to validate (below:"
                " to test), not by those trained on it: the errors are of few members, "
                "not of the mean."
            )
        lines += [
            "## Meaning of the probabilities\n",
            f"Temperature {c.temperature:.3f}{of_mean}, fitted on {c.utterances} "
            f'validation clips (`scores="calibrated"`).{unseen} Expected calibration '
            "error, in 15 bins of equally many clips:\n",
            "| set | as it is | with the temperature |\n|-|-|-|",
            f"| validation | {c.ece_before:.3f} | {c.ece_after:.3f} |",
        ]
        if c.test:
            before, after = c.test["ece_before"], c.test["ece_after"]
            lines.append(f"| test | {before:.3f} | {after:.3f} |")
    else:
        lines.append(
            "## Meaning of the probabilities\n\nWhere the model gives any, they are "
            "not calibrated: there were no validation clips with classes when it was "
            "packed. Do not read them as frequencies.\n"
        )
    return "\n".join(lines)


def _licenses(info: ModelInfo) -> str:
    if info.builtin:
        return "## License\n\nApache-2.0, model and tiny upstream alike.\n"
    return (
        "## License\n\nThe corpora have license terms of their own, which bind who "
        f"hands out or uses this model ({', '.join(info.corpora) or 'not known'}). Who "
        "packed it has confirmed that they allow it. The upstream has its own license "
        "too.\n"
    )
