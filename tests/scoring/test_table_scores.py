"""The numbers of a table, against scikit-learn and arithmetic by hand."""

import numpy as np
import pytest
from scipy.stats import binom, norm, t
from sklearn.metrics import accuracy_score, f1_score, recall_score

from espnet_ext.errors import UserError
from espnet_ext.scoring.runs import RunKey, read_all_predictions, read_runs
from espnet_ext.scoring.scores import score_table
from espnet_ext.scoring.spec import Column, load_table
from scoring import table_data

ROWS, FOLDS, SEEDS = ("one", "two"), (1, 2), (0, 1)


def score(made, resamples=300, seed=0):
    spec = load_table(made.table)
    records = read_runs(made.runs, spec)
    keys = [record.key for record in records]
    return score_table(spec, read_all_predictions(records), keys, resamples, seed)


def class_scores(true, said):
    """What scikit-learn says, over the classes present in the truth."""
    labels = np.unique(true)
    usual = true < 4
    return {
        "accuracy": accuracy_score(true, said),
        "uar": recall_score(true, said, labels=labels, average="macro"),
        "macro_f1": f1_score(
            true, said, labels=labels, average="macro", zero_division=0
        ),
        "uar4": recall_score(
            true[usual], said[usual], labels=[0, 1, 2, 3], average="macro"
        ),
    }


def all_scores(true, said, rated, guessed):
    each = table_data.ccc_by_hand(rated, guessed)
    names = [f"ccc_{name}" for name in table_data.ATTRIBUTES]
    return {
        "ccc": np.mean(each),
        **dict(zip(names, each, strict=True)),
        **class_scores(true, said),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return table_data.make(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def result(made):
    return score(made)


def by_fold_and_seed(made, row):
    return {
        (fold, seed): all_scores(
            made.true[fold],
            made.said[row, fold, seed],
            made.rated[fold],
            made.guessed[row, fold, seed],
        )
        for fold in FOLDS
        for seed in SEEDS
    }


@pytest.mark.parametrize("row", ROWS)
def test_means_over_folds_and_seeds(made, result, row):
    single = by_fold_and_seed(made, row)
    assert len(result.cells[row]) == 8
    for column, cell in result.cells[row].items():
        value = {key: scores[column.metric] for key, scores in single.items()}
        by_fold = {f: np.mean([value[f, s] for s in SEEDS]) for f in FOLDS}
        by_seed = {s: np.mean([value[f, s] for f in FOLDS]) for s in SEEDS}
        assert cell.mean.estimate == pytest.approx(np.mean(list(by_fold.values())))
        assert cell.by_fold == pytest.approx(by_fold)
        assert cell.by_seed == pytest.approx(by_seed)
        deviation = abs(by_seed[0] - by_seed[1]) / np.sqrt(2)
        assert cell.seed_deviation == pytest.approx(deviation)
        assert (cell.runs, cell.expected) == (4, 4)
        if np.isfinite(cell.mean.low):
            assert cell.mean.low <= cell.mean.estimate <= cell.mean.high


@pytest.mark.parametrize("row", ROWS)
def test_pooled_folds_are_scored_together(made, result, row):
    true = np.concatenate([made.true[f] for f in FOLDS])
    rated = np.concatenate([made.rated[f] for f in FOLDS])
    each = [
        all_scores(
            true,
            np.concatenate([made.said[row, f, seed] for f in FOLDS]),
            rated,
            np.concatenate([made.guessed[row, f, seed] for f in FOLDS]),
        )
        for seed in SEEDS
    ]
    for column, cell in result.cells[row].items():
        expected = np.mean([scores[column.metric] for scores in each])
        assert cell.pooled.estimate == pytest.approx(expected)
    uar = result.cells[row][Column("iemocap", "uar")]
    assert uar.pooled.estimate != pytest.approx(uar.mean.estimate)


def test_intervals_are_those_of_resampling_each_fold(tmp_path):
    """Variances by hand: binomial for accuracy, a plain loop for CCC."""
    made = table_data.make(tmp_path, seeds=(0,), sizes={1: 500, 2: 300})
    cells = score(made, resamples=3000).cells["two"]
    accuracy = cells[Column("iemocap", "accuracy")].mean
    shares = {f: np.mean(made.said["two", f, 0] == made.true[f]) for f in FOLDS}
    variance = sum(p * (1 - p) / len(made.true[f]) for f, p in shares.items()) / 4
    assert accuracy.low == pytest.approx(
        accuracy.estimate - 1.96 * variance**0.5, abs=3e-3
    )
    assert accuracy.high == pytest.approx(
        accuracy.estimate + 1.96 * variance**0.5, abs=3e-3
    )
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):
        folds = []
        for f in FOLDS:
            rows = rng.integers(0, len(made.true[f]), len(made.true[f]))
            values = (made.rated[f][rows], made.guessed["two", f, 0][rows])
            folds.append(np.mean(table_data.ccc_by_hand(*values)))
        drawn.append(np.mean(folds))
    ccc = cells[Column("iemocap", "ccc")].mean
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (ccc.low, ccc.high) == pytest.approx((low, high), abs=3e-3)


def test_mcnemar_by_seed(made, result):
    (found,) = [c for c in result.comparisons if c.pair.column.metric == "accuracy"]
    assert (found.pair.first, found.pair.second) == ("two", "one")
    more = []
    for test in found.by_seed:
        true = np.concatenate([made.true[f] for f in FOLDS])
        two, one = (
            np.concatenate([made.said[row, f, test.seed] for f in FOLDS]) == true
            for row in ("two", "one")
        )
        b, c = int((two & ~one).sum()), int((one & ~two).sum())
        assert (test.result.only_first, test.result.only_second) == (b, c)
        mid = 2 * binom.cdf(min(b, c), b + c, 0.5) - binom.pmf(min(b, c), b + c, 0.5)
        assert test.result.p_mid == pytest.approx(min(1.0, mid))
        more.append(two.astype(int) - one)
    assert [test.seed for test in found.by_seed] == [0, 1]
    assert found.basis == "trainings"


def test_the_test_is_of_the_mean_of_folds(made, result):
    """Swaps of whole utterances, all seeds at once: moments by hand, p by a normal."""
    for found in result.comparisons:
        metric = found.pair.column.metric
        if metric == "ccc":
            continue
        difference = found.tests["utterances"].difference
        if metric == "macro_f1":
            continue
        variance = 0.0
        for fold in FOLDS:
            true = made.true[fold]
            sizes = np.bincount(true)[true]
            weight = 1 / len(true) * np.ones(len(true))
            if metric == "uar":
                weight = 1 / (len(np.unique(true)) * sizes)
            hits = [
                np.mean([made.said[row, fold, s] == true for s in SEEDS], axis=0)
                for row in ("two", "one")
            ]
            variance += np.sum((weight * (hits[0] - hits[1]) / len(FOLDS)) ** 2)
        expected = 2 * norm.sf(difference / variance**0.5)
        assert found.tests["utterances"].p == pytest.approx(expected, abs=0.02)


def test_one_fold_and_seed_is_mcnemars_test(tmp_path):
    made = table_data.make(tmp_path, seeds=(0,))
    table_data.write_runs(made, [key for key in made.said if key[1] == 1])
    (found,) = [
        c for c in score(made).comparisons if c.pair.column.metric == "accuracy"
    ]
    assert found.result.p == found.by_seed[0].result.p_mid
    assert (found.how, found.basis) == ("McNemar (mid-p)", "utterances")


def test_seeds_make_the_verdict_one_over_trainings(made, result):
    """A t test of the seeds, wider by the test set's error."""
    for found in result.comparisons:
        cells = [result.cells[row][found.pair.column] for row in ("two", "one")]
        two, one = ([cell.by_seed[s] for s in SEEDS] for cell in cells)
        verdict, seeds_only = found.result, np.var(one, ddof=1) + np.var(two, ddof=1)
        assert found.basis == "trainings"
        assert found.p_holm >= verdict.p
        assert verdict.error**2 > seeds_only / 2
        assert verdict.p == pytest.approx(
            2 * t.sf(abs(verdict.difference) / verdict.error, verdict.freedom)
        )
        assert verdict.freedom >= 1  # of two seeds of one model alone
        if found.pair.column.metric == "ccc":  # a t test as well, not answers swapped
            assert verdict.p > found.tests["utterances"].p


def test_differences_and_holm(result):
    p_values = [c.result.p for c in result.comparisons]
    # One claim: accuracy of one is not higher than of two, which is two minus one.
    (bound,) = result.not_higher.values()
    accuracy = result.comparisons[1].result
    gap = -accuracy.difference - 0.02
    p_values.append(t.cdf(gap / accuracy.error, accuracy.freedom))
    assert result.tests == 5
    order = np.argsort(p_values, kind="stable")
    running, expected = 0.0, [0.0] * len(p_values)
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        expected[place] = running
    assert [*(c.p_holm for c in result.comparisons), bound] == pytest.approx(expected)
    for found in result.comparisons:
        two, one = (result.cells[row][found.pair.column] for row in ("two", "one"))
        difference = two.mean.estimate - one.mean.estimate
        assert found.result.difference == pytest.approx(difference)
        pooled = two.pooled.estimate - one.pooled.estimate
        assert found.pooled.difference == pytest.approx(pooled)
        low, high = found.result.low, found.result.high
        assert low < found.result.difference < high


def test_paired_resamples_make_the_interval_of_equal_models_a_point(tmp_path):
    made = table_data.make(tmp_path, seeds=(0,))
    for fold in FOLDS:
        source = table_data.prediction_path(made, ("one", fold, 0))
        target = table_data.prediction_path(made, ("two", fold, 0))
        target.write_text(source.read_text())
    for found in score(made).comparisons:
        if found.pair.column.metric in ("ccc", "accuracy"):
            assert (found.result.low, found.result.high) == (0.0, 0.0)
        assert found.result.p == 1.0


def test_a_class_of_few_rows_leaves_uar_without_an_interval(tmp_path):
    """One disgusted row; UAR (4) does not count it, and differences are tested."""
    made = table_data.make(tmp_path, seeds=(0,), sizes={1: 400, 2: 400})
    result = score(made, 1000)
    cells = result.cells["two"]
    for metric, there in (("uar", False), ("macro_f1", False), ("uar4", True)):
        interval = cells[Column("iemocap", metric)].mean
        assert np.isfinite(interval.estimate)
        assert np.isfinite(interval.low) == np.isfinite(interval.high) == there
    for found in result.comparisons:
        assert found.p_holm < 0.05


@pytest.mark.parametrize("size", [2, 19, 20])
def test_few_rows_have_no_interval(tmp_path, size):
    made = table_data.make(tmp_path, seeds=(0,), sizes={1: size, 2: 100})
    result = score(made)
    ccc = result.cells["two"][Column("iemocap", "ccc")]
    assert np.isfinite(ccc.mean.low) == (size >= 20)
    found = result.comparisons[0]
    assert (found.finding == "not tested") == (size < 20)


def test_speakers_are_drawn_where_there_are_enough(tmp_path):
    few = score(table_data.make(tmp_path, speakers=2))
    assert all("speakers" not in found.tests for found in few.comparisons)
    (tmp_path / "many").mkdir()
    many = score(table_data.make(tmp_path / "many", speakers=40))
    for found in many.comparisons:
        assert found.basis == "trainings"
        assert found.tests["speakers"].freedom == 78
    assert many.test_sets["iemocap"].speakers == 80
    (tmp_path / "one").mkdir()
    one = score(table_data.make(tmp_path / "one", seeds=(0,), speakers=40))
    for found in one.comparisons:
        assert found.basis == "speakers"
        assert found.result == found.tests["speakers"]
        assert found.words.endswith(" (these models, other speakers)")


def test_a_speaker_an_utterance_gives_the_same_interval(tmp_path):
    """Drawing speakers of one utterance each is drawing utterances."""
    made = table_data.make(tmp_path, speakers=500, sizes={1: 400, 2: 400}, seeds=(0,))
    for found in score(made, 4000).comparisons:
        if found.pair.column.metric in ("ccc", "accuracy"):
            ends = (found.tests["speakers"].low, found.tests["speakers"].high)
            rows = found.tests["utterances"]
            assert ends == pytest.approx((rows.low, rows.high), abs=8e-3)


def test_missing_runs_leave_the_rest(made, tmp_path):
    missing = {("two", 2, 0), ("two", 2, 1), ("one", 1, 1)}
    made = table_data.make(tmp_path)
    table_data.write_runs(made, list(made.said), missing)
    result = score(made)
    assert set(result.missing) == {RunKey(*key) for key in missing}
    accuracy = Column("iemocap", "accuracy")
    two = result.cells["two"][accuracy]
    assert (two.runs, two.expected) == (2, 4)
    right = [np.mean(made.said["two", 1, s] == made.true[1]) for s in SEEDS]
    assert two.mean.estimate == pytest.approx(np.mean(right))
    one = result.cells["one"][accuracy]
    first = np.mean(made.said["one", 1, 0] == made.true[1])
    second = np.mean([np.mean(made.said["one", 2, s] == made.true[2]) for s in SEEDS])
    assert one.mean.estimate == pytest.approx((first + second) / 2)
    (found,) = [c for c in result.comparisons if c.pair.column == accuracy]
    assert found.folds == (1,)  # and the one seed that both rows have there
    assert found.result.difference == pytest.approx(right[0] - first)
    assert [test.seed for test in found.by_seed] == [0]


def test_without_any_run_there_is_no_table(tmp_path):
    made = table_data.make(tmp_path)
    table_data.write_runs(made, list(made.said), made.said)
    with pytest.raises(UserError, match="no run has made predictions"):
        score(made)


def test_runs_of_a_fold_must_share_their_test_set(tmp_path):
    made = table_data.make(tmp_path)
    path = table_data.prediction_path(made, ("two", 1, 0))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="1 utterances missing"):
        score(made)


def test_the_same_seed_gives_the_same_numbers(made, result):
    assert score(made).cells == result.cells
    assert score(made, seed=1).cells != result.cells


def test_another_test_set_than_the_papers_is_told(tmp_path, made, result):
    assert result.incomparable("iemocap") is None
    other = score(table_data.make(tmp_path, sizes={1: 60, 2: 41}))
    assert "101 utterances, not on the 100" in other.incomparable("iemocap")
    same = result.test_sets["iemocap"].fingerprint
    assert other.test_sets["iemocap"].fingerprint != same
    assert score(made).test_sets["iemocap"].fingerprint == same


def test_chance_is_that_of_a_constant_answer(made, result):
    each = [class_scores(made.true[f], np.full_like(made.true[f], 0)) for f in FOLDS]
    assert all(np.bincount(made.true[f]).argmax() == 0 for f in FOLDS)
    for metric in ("accuracy", "uar", "macro_f1", "uar4"):
        expected = np.mean([scores[metric] for scores in each])
        assert result.chance[Column("iemocap", metric)] == pytest.approx(expected)
