"""setup.py and the pinned versions."""

import ast
import email
import importlib.metadata
import importlib.util
import re
import subprocess
import sys

import pytest
from machine import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import espnet_ext


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """What setuptools writes about the package, the ``.dist-info`` of a wheel."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [
            sys.executable,
            "setup.py",
            *("-q", "egg_info", "--egg-base", str(folder)),
            *("dist_info", "--output-dir", str(folder)),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (info,) = folder.glob("*.dist-info")
    return info


@pytest.fixture(scope="module")
def message(metadata):
    return email.message_from_string((metadata / "METADATA").read_text())


def read_pins():
    lines = (ROOT / "conf/constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_version_and_python(message):
    assert message["Name"] == "espnet_ext"
    assert message["Version"] == espnet_ext.__version__
    assert sorted(message["Requires-Python"].split(",")) == ["<3.14", ">=3.12"]
    extras = {"mini", "egemaps", "audformat", "serve", "demo", "export", "onnx", "dev"}
    assert set(message.get_all("Provides-Extra")) == extras


def test_every_command_has_its_module(metadata):
    lines = (metadata / "entry_points.txt").read_text().splitlines()[1:]
    commands = dict(line.split(" = ") for line in lines if line)

    assert "ser_train" in commands
    for name, target in commands.items():
        assert target == f"espnet_ext.bin.{name}:main"
        assert importlib.util.find_spec(f"espnet_ext.bin.{name}"), name


def test_all_that_is_imported_is_required(message):
    required = {
        canonicalize_name(Requirement(line).name)
        for line in message.get_all("Requires-Dist")
    }
    distributions = importlib.metadata.packages_distributions()
    for file in (ROOT / "espnet_ext").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            else:
                continue
            for module in {name.partition(".")[0] for name in modules}:
                if module in sys.stdlib_module_names or module == "espnet_ext":
                    continue
                owners = map(canonicalize_name, distributions.get(module, [module]))
                assert required & set(owners), f"{file} imports {module}"


def test_the_plain_s3prl_is_never_asked_for(message):
    names = [Requirement(line).name for line in message.get_all("Requires-Dist")]
    pinned = [line.partition("==")[0] for line in read_pins()]

    assert "espnet-s3prl" in names
    assert "s3prl" not in [*names, *pinned]


def test_the_synthesizer_is_an_extra_of_its_own(message):
    (line,) = [x for x in message.get_all("Requires-Dist") if "espeakng" in x]

    assert re.search(r"""extra == ['"]mini['"]""", line)


def test_pins_are_versions_and_nothing_else():
    for line in read_pins():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)


def test_all_that_is_installed_is_pinned(message):
    """The whole closure of what set-up installs, not only what setup.py names."""
    pins = dict(line.split("==") for line in read_pins())
    seen = set()
    queue = [
        (requirement, {"mini", "dev"})
        for requirement in map(Requirement, message.get_all("Requires-Dist"))
        if not {"audformat", "egemaps", "serve", "demo", "export", "onnx"}
        & set(re.findall(r"\w+", str(requirement.marker)))
    ]
    while queue:
        requirement, extras = queue.pop()
        name = canonicalize_name(requirement.name)
        environments = [{"extra": extra} for extra in ({""} | extras)]
        marker = requirement.marker
        if (marker and not any(map(marker.evaluate, environments))) or name in seen:
            continue
        seen.add(name)
        assert name in pins, name
        children = importlib.metadata.requires(name) or []
        queue += [(Requirement(child), requirement.extras) for child in children]
