"""Stages 8 and 9 of a recipe: pack trained models, upload a package."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from espnet_ext.classical import is_classical
from espnet_ext.jobs.recipe import Recipe, selected_model, training_config
from espnet_ext.jobs.step import Input, Step, command_line


@dataclass(frozen=True)
class Packing:
    """How models are packed."""

    seeds: tuple[int, ...] = ()  # trainings that become an ensemble; none: the recipe's
    hf_repo: str | None = None  # where the package goes; None: nowhere
    licence_ack: bool = False  # as in `inference.pack.pack_experiment`


def package_steps(recipe: Recipe, packing: Packing) -> Iterator[Step]:
    """List the packing of each model that is trained, and its upload."""
    for model in recipe.models:
        config = training_config(recipe, model)
        if is_classical(config):
            continue
        step = pack_step(recipe, model, selected_model(config), packing)
        yield step
        if packing.hf_repo is not None:
            yield upload_step(step, packing.hf_repo, packing)


def pack_step(recipe: Recipe, model: str, checkpoint: str, packing: Packing) -> Step:
    """Make the package of a training, or of several seeds together."""
    seeds = packing.seeds or (recipe.seed,)
    runs = [replace(recipe, seed=seed).run(model) for seed in seeds]
    name = f"{model}_seed{'+'.join(map(str, seeds))}"
    # The zip's own folder: a step's output holds its record.
    output = runs[0] / ("package" if len(seeds) == 1 else f"package_{name}")
    product = f"{name}.zip"
    read = [run / file for run in runs for file in ("config.yaml", checkpoint, "test")]
    return Step(
        name=f"pack {name} of {recipe.split}",
        stage=8,
        module="espnet_ext.bin.ser",
        args=(
            *("pack", *map(str, runs)),
            *command_line(output=output / product, licence_ack=packing.licence_ack),
        ),
        output=output,
        products=(product,),
        inputs=(*map(Input, read), Input(recipe.runs / "results" / "scores.json")),
    )


def upload_step(packed: Step, repo: str, packing: Packing) -> Step:
    """Upload a package to the Hugging Face Hub."""
    package = packed.output / packed.products[0]
    output = packed.output.with_name(f"{packed.output.name}_upload")
    return Step(
        name=f"upload {package.name} to {repo}",
        stage=9,
        module="espnet_ext.bin.ser",
        args=(
            *("upload", str(package)),
            *command_line(
                hf_repo=repo,
                output=output / "uploaded.json",
                licence_ack=packing.licence_ack,
            ),
        ),
        output=output,
        products=("uploaded.json",),
        inputs=(Input(package),),
        settings={"hf_repo": repo},
    )
