"""How metrics, models and classes are written in tables and figures."""

METRIC_NAMES = {
    "ccc": "CCC",
    "ccc_valence": "CCC-V",
    "ccc_arousal": "CCC-A",
    "ccc_dominance": "CCC-D",
    "accuracy": "Acc",
    "uar": "UAR",
    "macro_f1": "macro-F1",
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
