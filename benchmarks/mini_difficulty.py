"""How hard the built-in IEMOCAP tree is, with features and models from outside.

Run: python benchmarks/mini_difficulty.py DIR [--upstream]
DIR is as ser_make_mini wrote it.

Utterance statistics (mean, standard deviation and mean absolute delta over time of 40
log-mel bands; with --upstream, mean and deviation of every hidden state of DIR/
hubert_tiny) go to scikit-learn's logistic regression over the paper's five classes
and to ridge regression on V, A, D; leave one session out, as in the paper. Aims:
log-mel UAR about .6 and CCC about .6-.8, the tiny upstream UAR over .40 and mean CCC
over .45 on session 1.
"""

import argparse
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import stft
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from espnet_ext.corpora import iemocap
from espnet_ext.corpora.utterance import Utterance
from espnet_ext.scoring.metrics import ccc

CLASSES = ("neu", "ang", "hap", "sad", "dis")


def log_mel_statistics(path: str) -> np.ndarray:
    """Return mean, deviation and mean absolute delta of 40 log-mel bands, (120,)."""
    wave, rate = soundfile.read(path)
    _, _, spectrum = stft(wave, rate, nperseg=400, noverlap=240, nfft=512)
    mel = np.log(_mel_filters() @ np.abs(spectrum) ** 2 + 1e-10)  # (40, T)
    delta = np.abs(np.diff(mel, axis=1))
    return np.concatenate([mel.mean(1), mel.std(1), delta.mean(1)])


def _mel_filters(bands: int = 40, bins: int = 257, rate: int = 16000) -> np.ndarray:
    """Return triangular filters (bands, bins) between 50 and 8000 Hz."""
    low, high = 2595 * np.log10(1 + np.array([50, rate / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, bins)[None, :]
    left, center, right = (edges[i : i + bands, None] for i in range(3))
    rise = (hertz - left) / (center - left)
    fall = (right - hertz) / (right - center)
    return np.maximum(0, np.minimum(rise, fall))


def upstream_statistics(folder: Path, paths: list[str]) -> np.ndarray:
    """Return mean and deviation of all hidden states, (utterances, 2 * L * D)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    rows = []
    for path in paths:
        wave, rate = soundfile.read(path)
        inputs = extractor(wave, sampling_rate=rate, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs, output_hidden_states=True).hidden_states
        stacked = torch.stack(states)[:, 0]  # (L, T, D)
        pooled = torch.cat([stacked.mean(1), stacked.std(1)])  # (2 L, D)
        rows.append(pooled.flatten().numpy())
    return np.stack(rows)


def leave_sessions_out(utterances: list[Utterance], features: np.ndarray) -> None:
    """Print accuracy, UAR, each class' recall and each CCC for each session."""
    sessions = np.array([u.split for u in utterances])
    labels = np.array([u.emotion for u in utterances])
    vad = np.array([(u.valence, u.arousal, u.dominance) for u in utterances])
    print("session   acc    UAR   " + "    ".join(CLASSES) + "  CCC-V  CCC-A  CCC-D")
    rows = []
    for session in sorted(set(sessions)):
        test = sessions == session
        classifier = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=0.02, max_iter=2000, class_weight="balanced"),
        ).fit(features[~test], labels[~test])
        regression = make_pipeline(
            StandardScaler(), RidgeCV(alphas=np.logspace(0, 5, 11))
        ).fit(features[~test], vad[~test])
        said, guess = (
            classifier.predict(features[test]),
            regression.predict(features[test]),
        )
        recall = recall_score(
            labels[test], said, labels=CLASSES, average=None, zero_division=0
        )
        correlation = [ccc(vad[test][:, i], guess[:, i]) for i in range(3)]
        accuracy = np.mean(said == labels[test])
        rows.append([accuracy, recall.mean(), *recall, *correlation])
        print(session, "", "  ".join(f"{x:.3f}" for x in rows[-1]))
    print("mean     ", "  ".join(f"{x:.3f}" for x in np.mean(rows, axis=0)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what ser_make_mini wrote")
    parser.add_argument("--upstream", action="store_true", help="also hubert_tiny")
    args = parser.parse_args()
    reading = iemocap.read(args.folder / "IEMOCAP_full_release")
    utterances = [u for u in reading.utterances.values() if u.emotion in CLASSES]
    paths = [u.wav for u in utterances]
    print(f"{len(paths)} utterances; log-mel statistics")
    leave_sessions_out(utterances, np.stack([log_mel_statistics(p) for p in paths]))
    if args.upstream:
        print("tiny upstream, mean and deviation of all states")
        features = upstream_statistics(args.folder / "hubert_tiny", paths)
        leave_sessions_out(utterances, features)


if __name__ == "__main__":
    main()
