"""The stages of a recipe, the program of each, and the paper's models: names alone."""

# Stage 2 is part of 1.
STAGES = {
    1: "data preparation and audio check",
    3: "feature extraction",
    4: "train, valid and test sets",
    5: "training",
    6: "inference",
    7: "scoring",
    8: "packing",
    9: "upload to the Hugging Face Hub",
}
SCORING = 7  # whose results are shown at the end; a table's own stage
PACKING, UPLOAD = 8, 9  # left out unless asked for

# What the --skip_* options leave out.
SKIPPED = {"data_prep": range(1, 5), "train": range(5, 6), "eval": range(6, 8)}

# the paper's five models, in the order of its tables
MODELS = (
    "baseline_c",
    "baseline_d",
    "multitask",
    "hierarchical_dc",
    "hierarchical_cd",
)
CLASSICAL = (
    "classical"  # the baseline that needs no training (conf/train_classical.yaml)
)
