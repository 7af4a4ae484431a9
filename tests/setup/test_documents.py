"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *sorted(ROOT.glob("espnet_ext/*/README.md")),
    *sorted(ROOT.glob("conf/*/README.md")),
    *sorted(ROOT.glob("egs2/*/ser1/README.md")),
]
FOLDERS = "espnet_ext|conf|tests|benchmarks|local|egs2/TEMPLATE"
NAMES = {p.name for top in FOLDERS.split("|") for p in (ROOT / top).rglob("*.*")}
NAMES |= {p.name for p in ROOT.glob("*.*")}


def named(text):
    """Files and folders of the repository in a text, without placeholders."""
    paths = re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*(?![\w./<*{{-])", text)
    return [path for path in paths if not re.search("NAME|[.]{3}", path)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_document_names_exists(path):
    text = path.read_text()
    links = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [n for n in named(text) if not (ROOT / n.rstrip(".")).exists()]
    alone = re.findall(r"`([\w-]+\.(?:py|sh))`", text)
    missing += [name for name in alone if name not in NAMES]
    modules = re.findall(r"python -m (espnet_ext[\w.]+)", text)
    missing += [m for m in modules if not (ROOT / f"{m.replace('.', '/')}.py").exists()]
    assert missing == []


def test_the_way_of_an_utterance_is_ten_steps_each_in_a_file():
    text = (ROOT / "README.md").read_text()
    way = text.partition("## The way of an utterance")[2].partition("\n## ")[0]
    steps = re.findall(r"^\| (\d+)\. .* \| `([\w/]+\.py)`.* \|$", way, re.M)
    assert [int(number) for number, _ in steps] == [*range(1, 11)]
    assert all((ROOT / file).is_file() for _, file in steps)
