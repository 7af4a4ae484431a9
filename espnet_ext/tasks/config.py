"""Configuration files: merging them, and finding every key that nothing would read.

ESPnet refuses an unknown key at the top of a YAML file, but passes whatever is inside
``*_conf`` on to a constructor, whose TypeError comes late and names no file. And it
takes values as they are: ``lr: 1e-3`` is a string in YAML 1.1.
"""

import argparse
import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import UserError

type Config = dict[str, Any]
type KeyPath = tuple[str, ...]

# What is in the config.yaml of an experiment and is no option.
ADDED_BY_ESPNET = ("required", "version", "distributed")


def read_config(path: Path | str) -> Config:
    """Read one YAML file.

    Raises:
        UserError: there is no such file, or it is no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no configuration file {path}")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise UserError(f"{path} must be a mapping of options to values")
    return config


def merge_configs(
    paths: Sequence[Path | str], overrides: Mapping[str, Any] | None = None
) -> Config:
    """Merge files in order, then `overrides`; the later value wins.

    Mappings (``encoder_conf: ...``) are merged key by key; everything else, lists
    included, is replaced.

    Args:
        paths: YAML files.
        overrides: nested as the files are.
    """
    merged: Config = {}
    for config in [*(read_config(path) for path in paths), dict(overrides or {})]:
        merged = _merge(merged, config)
    return merged


def check_config(config: Mapping[str, Any], paths: Iterable[Path | str] = ()) -> None:
    """Make sure that `SERTask` reads every key of a (merged) configuration.

    Args:
        config: what `merge_configs` returns.
        paths: the files it came from, to name the one at fault.

    Raises:
        UserError: names the key, its file and the nearest valid key; or a value that
            is no choice of its option or a number that YAML takes for a string.
    """
    # Late: this imports torch and ESPnet.
    from espnet_ext.tasks.ser import SERTask

    files = [Path(path) for path in paths]
    actions = {
        action.dest: action
        for action in SERTask.get_parser()._actions
        if action.dest not in ("help", "config")
    }
    known = {*actions, "config", *ADDED_BY_ESPNET}
    for key, value in config.items():
        if key not in known:
            raise _unknown_key((key,), known, config, files)
        _check_choice(key, value, actions.get(key), config, files)
    for key, allowed in _constructor_keys(config, actions).items():
        conf = config.get(key) or {}
        if not isinstance(conf, Mapping):
            where = _describe((key,), config, files)
            raise UserError(f"{where} must be a mapping")
        for inner in conf:
            if inner not in allowed:
                raise _unknown_key((key, inner), allowed, config, files)
    for path, value in _leaves(config):
        if isinstance(value, str) and _is_number_in_disguise(value):
            raise UserError(
                f"{_describe(path, config, files)} is the text {value!r}, not a "
                f"number: YAML wants a point, e.g. 1.0e-3"
            )


def _merge(base: Config, update: Mapping[str, Any]) -> Config:
    merged = dict(base)
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _constructor_keys(
    config: Mapping[str, Any], actions: Mapping[str, argparse.Action]
) -> dict[str, set[str]]:
    """Return, for each ``*_conf`` option, the parameters of the class it goes to."""
    from espnet2.tasks.abs_task import optim_classes, scheduler_classes

    from espnet_ext.tasks.ser import FILLED_BY_TASK, SERTask

    chosen: dict[str, tuple[Any, frozenset[str]]] = {
        choices.name: (
            choices.get_class(_selected(choices.name, config, actions)),
            FILLED_BY_TASK.get(choices.name, frozenset()),
        )
        for choices in SERTask.class_choices_list
    }
    optim = _selected("optim", config, actions)
    scheduler = _selected("scheduler", config, actions)
    chosen["optim"] = (optim_classes[optim], frozenset({"params"}))
    chosen["scheduler"] = (
        None if scheduler is None else scheduler_classes[scheduler],
        frozenset({"optimizer", "last_epoch"}),
    )
    keys: dict[str, set[str]] = {}
    for name, (class_, filled) in chosen.items():
        parameters = {} if class_ is None else inspect.signature(class_).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            keys[f"{name}_conf"] = set(parameters) - filled
    return keys


def _selected(
    name: str, config: Mapping[str, Any], actions: Mapping[str, argparse.Action]
) -> str | None:
    value = config.get(name, actions[name].default)
    return value.lower() if isinstance(value, str) else value


def _check_choice(
    key: str,
    value: Any,
    action: argparse.Action | None,
    config: Mapping[str, Any],
    paths: Sequence[Path],
) -> None:
    if action is None or value == action.default:
        return  # ESPnet writes its own defaults out, which are not all choices
    choices = list(action.choices or [])
    wanted = value.lower() if isinstance(value, str) else value
    known = [c.lower() if isinstance(c, str) else c for c in choices]
    if choices and wanted not in known:
        names = ", ".join("null" if c is None else str(c) for c in choices)
        raise UserError(
            f"{_describe((key,), config, paths)} is {value!r}; choose from {names}"
        )


def _unknown_key(
    path: KeyPath,
    allowed: Iterable[str],
    config: Mapping[str, Any],
    files: Sequence[Path],
) -> UserError:
    names = sorted(allowed)
    near = difflib.get_close_matches(path[-1], names, n=1, cutoff=0.0)
    hint = f"the nearest key is {near[0]}" if near else "nothing is read there"
    return UserError(f"{_describe(path, config, files)} is unknown; {hint}")


def _describe(path: KeyPath, config: Mapping[str, Any], files: Sequence[Path]) -> str:
    """Return ``FILE: key.inner``, FILE being the last that has the key."""
    name = ".".join(path)
    for file in reversed(files):
        value: Any = read_config(file)
        for key in path:
            value = value.get(key, _NOTHING) if isinstance(value, dict) else _NOTHING
        if value is not _NOTHING:
            return f"{file}: {name}"
    return name


_NOTHING = object()


def _leaves(config: Mapping[str, Any], path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    leaves: list[tuple[KeyPath, Any]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, (*path, key))
        else:
            leaves.append(((*path, key), value))
    return leaves


def _is_number_in_disguise(text: str) -> bool:
    """Say whether Python reads `text` as a number in scientific notation."""
    if "e" not in text.lower():
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True
