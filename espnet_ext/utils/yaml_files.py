"""YAML files with errors that name the file, the line and the key."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from espnet_ext.errors import UserError


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is written twice: the later one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is written twice",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty one.

    A UserError says that it is not UTF-8 or no mapping, or has a key twice.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8-sig"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a mapping of keys to values")
    return content


def unknown_key(key: object, known: Iterable[str], where: object) -> UserError:
    """Make the error of a key that nobody reads; it names the nearest that exists."""
    near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.0)
    hint = f"the nearest key is {near[0]}" if near else "nothing is read there"
    return UserError(f"{where}: {key} is unknown; {hint}")


def build[T](target: type[T], values: object, where: str) -> T:
    """Make a dataclass from what YAML read, checking names and types on the way.

    Types may be scalars, ``Literal``, ``X | None``, ``tuple[X, ...]``,
    ``dict[str, X]`` and dataclasses; anything else is passed on as it is. A field
    without a default must be given.

    Raises:
        UserError: Names the key that is missing, unknown or of the wrong type; begins
            with `where`, the file and the key in it.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected keys and values, not {values!r}")
    fields = {f.name: f for f in dataclasses.fields(target) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(target)
    for key in values:
        if key not in fields:
            raise unknown_key(key, fields, where)
    for name, field in fields.items():
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if name not in values and not optional:
            raise UserError(f"{where}: {name} is missing")
    return target(
        **{k: _convert(v, hints[k], f"{where}: {k}") for k, v in values.items()}
    )


def _convert(value: Any, kind: Any, where: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if origin in (typing.Union, types.UnionType) and type(None) in parts:
        others = [part for part in parts if part is not type(None)]
        if value is None or len(others) > 1:
            return value
        return _convert(value, others[0], where)
    if origin is Literal:
        if value not in parts:
            choices = ", ".join(map(str, parts))
            raise UserError(f"{where} is one of {choices}, not {value!r}")
        return value
    if origin is tuple and parts[1:] == (...,):
        if not isinstance(value, list):
            raise UserError(f"{where}: expected a list, not {value!r}")
        return tuple(_convert(v, parts[0], where) for v in value)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}: expected names and values, not {value!r}")
        kind = parts[1]
        return {str(k): _convert(v, kind, f"{where}: {k}") for k, v in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    if kind in names and type(value) is not kind:
        raise UserError(f"{where}: expected {names[kind]}, not {value!r}")
    if kind is str and (value is None or isinstance(value, list | Mapping)):
        raise UserError(f"{where}: expected a text, not {value!r}")
    return str(value) if kind is str else value
