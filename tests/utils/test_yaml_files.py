"""YAML mappings become dataclasses; what does not fit is named."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from espnet_ext.errors import UserError
from espnet_ext.utils.yaml_files import build, read_yaml


@dataclass(frozen=True)
class Inner:
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 1.0
    folds: tuple[int, ...] = ()
    parts: dict[str, Inner] = field(default_factory=dict)
    limit: int | None = None
    span: tuple[float, float] | None = None


def test_values_get_their_types() -> None:
    found = build(
        Outer,
        {"name": 5, "rate": 2, "folds": [1, 2], "parts": {"x": {"kind": "b"}}}
        | {"span": [1, 2.5]},
        "f.yaml",
    )

    assert found == Outer("5", 2.0, (1, 2), {"x": Inner("b")}, span=(1.0, 2.5))
    assert isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "f.yaml: name is missing"),
        ({"name": "n", "rat": 1}, "f.yaml: rat is unknown; the nearest key is rate"),
        ({"name": "n", "rate": "1e-3"}, "f.yaml: rate: expected a number, not '1e-3'"),
        ({"name": "n", "folds": 1}, "f.yaml: folds: expected a list, not 1"),
        ({"name": "n", "folds": [True]}, "folds: expected a whole number, not True"),
        ({"name": "n", "limit": "x"}, "limit: expected a whole number, not 'x'"),
        ({"name": "n", "parts": {"x": {"kind": "c"}}}, "parts: x: kind is one of a, b"),
        ({"name": "n", "span": [1]}, "f.yaml: span: expected 2 values, not [1]"),
        ({"name": None}, "name: expected a text, not None"),
        ([], "f.yaml: expected keys and values"),
    ],
)
def test_what_does_not_fit_is_named(values: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        build(Outer, values, "f.yaml")

    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: not YAML: key 'a' is written twice"),
        ("a: [1\n", ":2: not YAML"),
        ("- 1\n", "must be a mapping"),
    ],
)
def test_broken_files_are_named(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)

    with pytest.raises(UserError, match=r"x\.yaml") as error:
        read_yaml(path)

    assert message in str(error.value)


def test_missing_and_binary_files_are_named(tmp_path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_yaml(tmp_path / "b.yaml")


def test_an_empty_file_is_an_empty_mapping(tmp_path) -> None:
    (tmp_path / "e.yaml").write_text("# nothing\n")

    assert read_yaml(tmp_path / "e.yaml") == {}
