"""Tables as YAML: the shipped ones are right, and errors name the key."""

from pathlib import Path

import pytest
import yaml

from espnet_ext.attributes import ATTRIBUTES
from espnet_ext.errors import UserError
from espnet_ext.scoring.spec import Column, Kind, Pair, load_table
from scoring.table_data import TABLE

ROOT = Path(__file__).parents[2]
SHIPPED = ("table1", "table2", "table3", "sanity", "cross_corpus")


def shipped(name):
    return load_table(ROOT / "conf" / "tables" / f"{name}.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_name_what_exists(name):
    spec = shipped(name)
    assert (ROOT / "conf" / "labels" / f"{spec.labels}.yaml").is_file()
    assert (ROOT / "egs2" / spec.recipe / "ser1" / "run.sh").is_file()
    for preset in spec.presets.values():
        assert (ROOT / "conf" / "features" / f"{preset.features}.yaml").is_file()
        assert preset.overlay is None or (ROOT / preset.overlay).is_file()
        for row in spec.rows.values():
            assert (ROOT / preset.configs / row.config).is_file()
    # run.sh reads this line without a YAML parser
    lines = (ROOT / "conf" / "tables" / f"{name}.yaml").read_text().splitlines()
    assert f"recipe: {spec.recipe}" in lines


@pytest.mark.parametrize(
    ("name", "corpus"), [("table1", "iemocap"), ("table3", "msp_podcast")]
)
def test_the_papers_values_agree_with_each_other(name, corpus):
    """CCC is the mean of V, A and D, or is corrected to it."""
    rows = shipped(name).rows
    assert len(rows) == 5
    wrong = set()
    for key, row in rows.items():
        each = [row.paper.get(Column(corpus, f"ccc_{dim}")) for dim in ATTRIBUTES]
        if None in each:
            continue
        mean, column = sum(each) / 3, Column(corpus, "ccc")
        value = row.corrected.get(column, row.paper[column])
        assert abs(mean - value) < 0.0011, key
        if abs(mean - row.paper[column]) >= 0.0007:
            wrong.add(key)
            assert column in row.corrected
    assert (
        wrong
        == {
            "table1": {"baseline_c"},
            "table3": {"hierarchical_dc", "hierarchical_cd"},
        }[name]
    )


def test_table2_trains_each_row_on_other_labels():
    spec = shipped("table2")
    modes = [tuple(row.train.values()) for row in spec.rows.values()]
    assert modes == [
        ("none", "continuous"),
        ("continuous", "none"),
        ("none", "discrete"),
        ("discrete", "none"),
        ("continuous", "continuous"),
        ("discrete", "discrete"),
        ("continuous", "discrete"),
        ("discrete", "continuous"),
    ]
    assert len(set(modes)) == 8
    assert spec.folds == (5,)


def test_claims_of_the_paper_hold_in_the_paper():
    """A misread claim would contradict the values that it was read from."""
    for name in ("table1", "table2", "table3"):
        spec = shipped(name)
        for claim in spec.claims:
            for condition in claim.conditions:
                pair = condition.pair
                first, second = (
                    spec.rows[row].paper[pair.column]
                    for row in (pair.first, pair.second)
                )
                said = {
                    Kind.HIGHER: first > second,
                    Kind.NOT_HIGHER: first <= second,
                    Kind.LOWER: first < second,
                }
                assert said[condition.kind], claim.says


@pytest.fixture
def load(tmp_path):
    def write_and_load(**changes):
        content = yaml.safe_load(TABLE) | changes
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_table(path)

    return write_and_load


def test_pairs_of_claims_are_tested_once(load):
    column = Column("iemocap", "ccc")
    spec = load(
        comparisons=[],
        claims=[
            {"says": "a", "if": [{"higher": ["two", "one"], "in": "iemocap.ccc"}]},
            {"says": "b", "if": [{"not_higher": ["one", "two"], "in": "iemocap.ccc"}]},
        ],
    )
    assert spec.comparisons == (Pair("two", "one", column),)


ROW = {"name": "x", "config": "train_x.yaml"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": {}}, "row is unknown; the nearest key is rows"),
        ({"title": None}, "title: expected a text, not None"),
        ({"columns": ["iemocap.wer"]}, "columns: iemocap.wer: no metric 'wer'"),
        ({"columns": ["meld.uar"]}, "no corpus 'meld'; there are iemocap"),
        ({"rows": {"a": {"name": "x"}}}, "rows: a: config is missing"),
        (
            {"rows": {"a": ROW | {"paper": {"iemocap.uar": "high"}}}},
            "iemocap.uar: expected a number",
        ),
        (
            {"rows": {"a": ROW | {"train": {"iemocap": "some"}}}},
            "train: iemocap is one of both, .*not 'some'",
        ),
        (
            {"presets": {"p": {"configs": "c", "features": "f", "seconds": [1]}}},
            "presets: p: seconds: expected 2 values",
        ),
        ({"seeds": 0}, "seeds: expected whole numbers above 0"),
        (
            {"corpora": {"iemocap": {"scheme": "s", "folds": [0]}}},
            "iemocap: folds: expected whole",
        ),
        (
            {"comparisons": [{"rows": ["one", "three"], "columns": ["iemocap.ccc"]}]},
            "no row 'three'; there are one, two",
        ),
        (
            {"comparisons": [{"rows": ["one", "one"], "columns": ["iemocap.ccc"]}]},
            "expected two rows",
        ),
        (
            {"claims": [{"says": "x", "if": [{"above": ["one", "two"], "in": "a"}]}]},
            "claims: 1: if: expected .*got .*above",
        ),
    ],
)
def test_what_is_wrong_is_named(load, changes, message):
    with pytest.raises(UserError, match=message) as error:
        load(**changes)
    assert "mine.yaml" in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: there is no such table"):
        load_table(tmp_path / "nowhere.yaml")
