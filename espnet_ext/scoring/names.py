"""How corpora, models and classes are written in tables and figures."""

from collections import Counter
from collections.abc import Mapping, Sequence

# The four classes that most of the literature uses.
USUAL_CLASSES = ("neu", "ang", "hap", "sad")

CORPUS_NAMES = {
    "iemocap": "IEMOCAP",
    "msp_podcast": "MSP-Podcast",
    "crema_d": "CREMA-D",
    "ravdess": "RAVDESS",
    "emodb": "EmoDB",
    "meld": "MELD",
}
MODEL_NAMES = {
    "baseline_c": "Baseline C",
    "baseline_d": "Baseline D",
    "multitask": "Multi-task C,D",
    "hierarchical_dc": "Hierarchical D-C",
    "hierarchical_cd": "Hierarchical C-D",
}
CLASS_NAMES = {
    "neu": "neutral",
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "dis": "disgusted",
    "fea": "fearful",
    "sur": "surprised",
    "fru": "frustrated",
}


def model_name(name: str) -> str:
    """Name of a model as the paper prints it."""
    return MODEL_NAMES.get(name, name)


def class_name(name: str) -> str:
    """Name of a class in full."""
    return CLASS_NAMES.get(name, name)


def corpus_name(name: str) -> str:
    """Name of a corpus as it is printed."""
    return CORPUS_NAMES.get(name, name)


def code_notes(codes: Mapping[str, str]) -> list[str]:
    """Name the runs that were made by other code than most of them, if any.

    Args:
        codes: What made each run, by the run's name; empty where it is not known.
    """
    counts = Counter(code for code in codes.values() if code)
    if len(counts) < 2:
        return []
    ((most, _),) = counts.most_common(1)
    others = [name for name, code in codes.items() if code not in (most, "")]
    return [
        f"{len(others)} of {counts.total()} runs were made by other code than the "
        f"rest, which may be why they differ: {listed(others)}. `--force 5-6` makes "
        "all of them again."
    ]


def plural(number: int, word: str) -> str:
    """A number and what it counts."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """List names, not more than ten."""
    more = len(names) - 10
    return ", ".join(names[:10]) + (f" and {more} more" if more > 0 else "")
