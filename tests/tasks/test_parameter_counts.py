"""The table of parameters in espnet_ext/ser/README.md is what the configs build."""

from pathlib import Path

import pytest

from espnet_ext.tasks.config import merge_configs
from espnet_ext.tasks.ser import SERTask

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["neu", "ang", "hap", "sad", "dis"]


def table():
    text = (ROOT / "espnet_ext" / "ser" / "README.md").read_text()
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip().replace(",", "") for cell in line.strip("|").split("|")]
        if len(cells) == 6 and all(cell.isdigit() for cell in cells[1:]):
            rows[cells[0]] = [int(cell) for cell in cells[1:]]
    return rows


def count(paths, num_layers):
    args = SERTask.get_parser().parse_args([])
    for name, value in merge_configs(paths).items():
        setattr(args, name, value)
    args.class_list = CLASSES
    args.frontend_conf = {"input_size": 1024, "num_layers": num_layers}
    model = SERTask.build_model(args)
    parts = (model.frontend, model.preencoder, model.encoder, model.decoder, model)
    return [sum(p.numel() for p in part.parameters()) if part else 0 for part in parts]


@pytest.mark.parametrize("name", sorted(table()))
def test_table(name):
    paths = [ROOT / "conf" / f"{name}.yaml"]
    if name.startswith("tuning/"):
        paths = [ROOT / "conf" / "train_hierarchical_dc.yaml", *paths]
    expected = table()[name]
    assert count(paths, expected[0] or 1) == expected


def test_every_config_is_in_the_table():
    conf = ROOT / "conf"
    files = [*conf.glob("train_*.yaml"), *conf.glob("released/*/train_*.yaml")]
    names = {str(path.relative_to(conf).with_suffix("")) for path in files}
    names -= {"train_classical"}  # no network
    assert names == {name for name in table() if not name.startswith("tuning/")}
