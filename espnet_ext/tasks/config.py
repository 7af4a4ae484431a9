"""Configuration files: their bases, merging them, and finding keys that nothing reads.

A file may say ``base: OTHER.yaml``, relative to itself: it is merged over that one.
ESPnet refuses an unknown key at the top of a YAML file, but passes whatever is inside
``*_conf`` on to a constructor, whose TypeError comes late and names no file. And it
takes values as they are: ``lr: 1e-3`` is a string in YAML 1.1.
"""

import inspect
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import UserError
from espnet_ext.utils.yaml_files import read_yaml, unknown_key

type Config = dict[str, Any]
type KeyPath = tuple[str, ...]
# A file and what it says itself, without its base.
type Layer = tuple[str, Mapping[str, Any]]

# What is in the config.yaml of an experiment and is no option.
ADDED_BY_ESPNET = ("required", "version", "distributed")
# Parameters of these classes that are not for a configuration file.
_FILLED_BY_TRAINER = {"optim": {"params"}, "scheduler": {"optimizer", "last_epoch"}}


def read_config(path: Path | str) -> Config:
    """Read one YAML file and merge it over its base, if it has one."""
    return merge_configs([path])


def merge_configs(
    paths: Sequence[Path | str], overrides: Mapping[str, Any] | None = None
) -> Config:
    """Merge YAML files, each over its base, in order, then `overrides`; the later wins.

    Mappings (``encoder_conf: ...``) are merged key by key; everything else, lists
    included, is replaced.

    Raises:
        UserError: A file is missing or no mapping, or bases go round in a circle.
    """
    return _merge_layers([*_read_layers(paths), ("", overrides or {})])


def describe_config(
    paths: Sequence[Path | str], overrides: Mapping[str, Any] | None = None
) -> str:
    """Write a merged configuration as YAML, with the source of each value beside it."""
    layers = [*_read_layers(paths), ("the recipe", overrides or {})]
    sources = {key: name for name, config in layers for key, _ in _leaves(config)}
    lines: list[tuple[str, str]] = []
    parents: KeyPath = ()
    for key, value in _leaves(_merge_layers(layers)):
        for depth in range(len(key) - 1):
            if key[: depth + 1] != parents[: depth + 1]:
                lines.append((f"{'    ' * depth}{key[depth]}:", ""))
        parents = key[:-1]
        text = yaml.safe_dump({key[-1]: value}, default_flow_style=True, width=10**6)
        lines.append(("    " * len(parents) + text.strip()[1:-1], sources[key]))
    width = max((len(text) for text, _ in lines), default=0)
    return "".join(f"{t:{width}}  # {s}\n" if s else f"{t}\n" for t, s in lines)


def check_config(config: Mapping[str, Any], paths: Sequence[Path | str] = ()) -> None:
    """Make sure that `SERTask` reads every key of a (merged) configuration.

    Args:
        config: What `merge_configs` returns.
        paths: The files it came from, to name the one at fault.

    Raises:
        UserError: Names the key, its file and the nearest valid key; or a value that
            is no choice of its option or a number that YAML takes for a string.
    """
    # Late: this imports torch and ESPnet.
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    from espnet_ext.tasks.ser import SERTask

    layers = _read_layers(paths)
    actions = {
        action.dest: action
        for action in SERTask.get_parser()._actions
        if action.dest not in ("help", "config")
    }
    known = {*actions, "config", *ADDED_BY_ESPNET}
    for key, value in config.items():
        if key not in known:
            raise unknown_key(key, known, _place((key,), layers))
        # ESPnet writes its own defaults out, which are not all choices.
        action = actions.get(key)
        if action and action.choices and value != action.default:
            choices = list(action.choices)
            if _lower(value) not in [_lower(choice) for choice in choices]:
                names = ", ".join("null" if c is None else str(c) for c in choices)
                where = _place((key,), layers)
                raise UserError(f"{where}: {key} is {value!r}; choose from {names}")
    optimization = {
        "optim": optim_classes[_lower(config.get("optim", actions["optim"].default))],
        "scheduler": scheduler_classes.get(_lower(config.get("scheduler"))),
    }
    _check_conf(config, layers, optimization, _FILLED_BY_TRAINER)
    check_model_config(config, paths)
    _check_numbers(config, layers)


def check_model_config(
    config: Mapping[str, Any], paths: Sequence[Path | str] = ()
) -> None:
    """Check as `check_config` what a model is built from, and nothing else.

    A training's own options need all of ESPnet to be checked, which takes seconds.
    """
    # Late: this imports torch.
    from espnet_ext.tasks.model import DEFAULTS, FILLED_IN, PARTS, find_class

    layers = _read_layers(paths)
    classes: dict[str, Any] = {}
    for name in PARTS:
        try:
            classes[name] = find_class(name, config.get(name, DEFAULTS[name]))
        except UserError as error:
            raise UserError(f"{_place((name,), layers)}: {error}") from None
    _check_conf(config, layers, classes, FILLED_IN)
    _check_numbers({k: v for k, v in config.items() if k in DEFAULTS}, layers)


def _check_conf(
    config: Mapping[str, Any],
    layers: Sequence[Layer],
    classes: Mapping[str, Any],
    filled: Mapping[str, set[str]],
) -> None:
    """Compare each ``*_conf`` with the parameters of the class that it goes to."""
    for name, class_ in classes.items():
        key = f"{name}_conf"
        parameters = {} if class_ is None else inspect.signature(class_).parameters
        allowed = {*parameters} - filled.get(name, set())
        conf = config.get(key) or {}
        if not isinstance(conf, Mapping):
            raise UserError(f"{_place((key,), layers)}: {key} must be a mapping")
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        for option in conf:
            if option not in allowed:
                raise unknown_key(option, allowed, _place((key, option), layers))


def _check_numbers(config: Mapping[str, Any], layers: Sequence[Layer]) -> None:
    """Refuse numbers that YAML takes for text."""
    for path, value in _leaves(config):
        if isinstance(value, str) and _is_number_in_disguise(value):
            raise UserError(
                f"{_place(path, layers)}: {path[-1]} is the text {value!r}, not a "
                "number: YAML wants a point, e.g. 1.0e-3"
            )


def _read_layers(paths: Iterable[Path | str]) -> list[Layer]:
    return [layer for path in paths for layer in _with_bases(Path(path), ())]


def _with_bases(path: Path, above: tuple[Path, ...]) -> list[Layer]:
    """Read a file and the chain of its bases, the first base first."""
    if path.resolve() in above:
        raise UserError(f"{path}: base: the files are based on each other in a circle")
    config = read_yaml(path)
    base = config.pop("base", None)
    layer = (os.path.normpath(path), config)
    if base is None:
        return [layer]
    if not isinstance(base, str) or not (path.parent / base).is_file():
        raise UserError(f"{path}: base: there is no file {base!r} beside this one")
    return [*_with_bases(path.parent / base, (*above, path.resolve())), layer]


def _merge_layers(layers: Iterable[Layer]) -> Config:
    merged: Config = {}
    for _, config in layers:
        merged = _merge(merged, config)
    if merged.get("scheduler", "") is None:
        # An overlay's warm-up says nothing to a training at a constant rate.
        merged.pop("scheduler_conf", None)
    return merged


def _merge(base: Config, update: Mapping[str, Any]) -> Config:
    merged = dict(base)
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            value = _merge(merged[key], value)
        merged[key] = value
    return merged


def _place(path: KeyPath, layers: Sequence[Layer]) -> str:
    """Return the last file that has the key, and the keys above it: FILE: encoder_conf.

    Without a file it is the merged configuration.
    """
    file = "the training configuration"
    for name, config in layers:
        if any(leaf[: len(path)] == path for leaf, _ in _leaves(config)):
            file = name
    return ": ".join([file, *path[:-1]])


def _leaves(
    config: Mapping[str, Any], path: KeyPath = ()
) -> Iterator[tuple[KeyPath, Any]]:
    """Yield every value with its path of keys; an empty mapping is a value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _is_number_in_disguise(text: str) -> bool:
    """Return whether `text` is a number in scientific notation to Python."""
    try:
        float(text)
    except ValueError:
        return False
    return "e" in text.lower()
