"""The last step of a recipe with several folds: its models over all of them.

It is a table (`jobs.table`) whose YAML follows from the recipe's options.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml

from espnet_ext.jobs.recipe import Recipe
from espnet_ext.jobs.step import Step
from espnet_ext.jobs.table import Run, Table, table_step
from espnet_ext.scoring.names import corpus_name, model_name
from espnet_ext.scoring.spec import TESTED, TableSpec, default_pairs


def folds_step(recipes: Sequence[Recipe]) -> Step:
    """Score the folds together, as far as they are finished.

    Args:
        recipes: One a fold, the same but for that.
    """
    first = recipes[0]
    content = table_content(recipes)
    name = f"{first.runs.parent.name}_{replace(first, fold=None).split}"
    table = Table(
        path=first.expdir / "tables" / "runs" / f"{name}.yaml",
        spec=TableSpec(name, content["title"], {}, (), {}),
        preset="paper",
        expdir=first.expdir,
        resamples=first.resamples,
        runs=tuple(
            Run(model, recipe.fold or 0, recipe.seed, recipe, model)
            for recipe in recipes
            for model in recipe.models
        ),
    )
    step = table_step(table)
    text = yaml.safe_dump(content, sort_keys=False)
    return replace(
        step,
        name=f"score {content['title']}",
        inputs=tuple(item for item in step.inputs if item.path != table.path),
        settings={**step.settings, "table": content},
        files=(*step.files, (table.path, text)),
    )


def table_content(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Return what ``conf/tables/README.md`` describes, for all folds of a recipe."""
    from espnet_ext.scoring.metrics import METRIC_NAMES  # late: needs numpy

    first, folds = recipes[0], [recipe.fold for recipe in recipes]
    overlay = first.corpus_overlay
    preset: dict[str, Any] = {"configs": ".", "features": first.features.stem}
    preset |= {"overlay": str(overlay)} if overlay else {}
    preset |= {"seconds": list(first.seconds)} if first.seconds else {}
    corpus = {"scheme": first.scheme, "folds": folds}
    return {
        "title": f"{corpus_name(first.corpus)}, folds {', '.join(map(str, folds))}",
        "recipe": "manifest" if first.manifest else first.corpus,
        "labels": first.labels.stem,
        "corpora": {first.corpus: corpus},
        "presets": {"paper": preset},
        "columns": [f"{first.corpus}.{metric}" for metric in METRIC_NAMES],
        "rows": {
            model: {"name": model_name(model), "config": str(path)}
            for model, path in first.models.items()
        },
        "comparisons": [
            {"rows": list(pair), "columns": [f"{first.corpus}.{m}" for m in TESTED]}
            for pair in default_pairs(list(first.models))
        ],
    }
