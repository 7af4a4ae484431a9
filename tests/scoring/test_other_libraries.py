"""Every test and interval against statsmodels and scipy, on many random inputs.

Where a library has the same procedure the numbers must agree to rounding; where it has
another one for the same question (a chi-square, a sandwich estimator, a permutation
test), to what both promise.
"""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from espnet_ext.scoring import bootstrap, metrics
from espnet_ext.scoring.spec import Column
from scoring.simulated_table import (
    CORPUS,
    Model,
    Population,
    draw_runs,
    make_spec,
    pairs_of,
    score_draw,
)

# Resamples for comparisons of two random procedures, and room for both their errors.
RESAMPLES = 4000


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def right_of(table):
    """Two models' rights and wrongs with this 2 x 2 table."""
    (both, first), (second, neither) = table
    one = [True] * (both + first) + [False] * (second + neither)
    two = [True] * both + [False] * first + [True] * second + [False] * neither
    return np.array(one, dtype=bool), np.array(two, dtype=bool)


# ---------------------------------------------------------------------------- McNemar


def test_mcnemar_exact_is_that_of_statsmodels(rng):
    tables = [rng.integers(0, size, (2, 2)) for size in [2, 6, 40, 700] * 100]
    tables += [
        np.array(t) for t in ([[5, 0], [0, 5]], [[0, 3], [3, 0]], [[9, 7], [0, 1]])
    ]
    for table in tables:
        if table.sum() == 0:
            continue
        found = bootstrap.mcnemar(*right_of(table))
        assert (found.only_first, found.only_second) == (table[0, 1], table[1, 0])
        theirs = mcnemar(table, exact=True).pvalue
        assert found.p_exact == pytest.approx(min(1.0, theirs), rel=1e-9)
        # mid-p: the observed table counts half
        point = stats.binom.pmf(
            min(table[0, 1], table[1, 0]), table[0, 1] + table[1, 0], 0.5
        )
        tie = table[0, 1] == table[1, 0]
        assert found.p_mid == pytest.approx(1.0 if tie else theirs - point, rel=1e-9)


def test_mcnemar_of_many_rows_is_the_chi_square(rng):
    for _ in range(200):
        table = rng.integers(150, 400, (2, 2))
        found = bootstrap.mcnemar(*right_of(table))
        plain = mcnemar(table, exact=False, correction=False).pvalue
        corrected = mcnemar(table, exact=False, correction=True).pvalue
        assert found.p_mid == pytest.approx(plain, abs=2e-3)
        if abs(found.only_first - found.only_second) > 1:  # below, exact is 1
            assert found.p_exact == pytest.approx(corrected, abs=3e-3)


def test_mcnemar_is_the_permutation_test_of_the_difference(rng):
    for _ in range(20):
        first, second = rng.random(10) < 0.7, rng.random(10) < 0.5
        theirs = stats.permutation_test(
            (first.astype(float), second.astype(float)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
            vectorized=True,
        ).pvalue
        assert bootstrap.mcnemar(first, second).p_exact == pytest.approx(theirs)


def test_mcnemar_of_a_table_is_on_the_rows_whose_class_is_known(rng):
    population = Population(
        {
            (row, fold, seed): Model()
            for row in "ab"
            for fold in (1, 2)
            for seed in (0, 1)
        },
        {1: 90, 2: 60},
    )
    pairs = pairs_of([("a", "b")], ["accuracy"])
    from espnet_ext.scoring.runs import RunKey
    from espnet_ext.scoring.scores import score_table

    runs = draw_runs(population, rng)
    for fold in (1, 2):
        hidden = rng.random(population.sizes[fold]) < 0.2
        for key in [key for key in runs if key.fold == fold]:
            runs[key].true_class[hidden] = -1  # one array for all runs of a fold
    (found,) = score_table(
        make_spec(population, pairs), runs, list(runs), 200
    ).comparisons
    for seed in (0, 1):
        counts = np.zeros((2, 2), dtype=int)
        for fold in (1, 2):
            a, b = runs[RunKey("a", fold, seed)], runs[RunKey("b", fold, seed)]
            for row in np.flatnonzero(a.true_class >= 0):
                hits = [int(x.pred_class[row] != x.true_class[row]) for x in (a, b)]
                counts[*hits] += 1
        result = found.by_seed[seed].result
        assert (result.only_first, result.only_second) == (counts[0, 1], counts[1, 0])
        assert result.p_exact == pytest.approx(min(1.0, mcnemar(counts).pvalue))


# ------------------------------------------------------------------------------- Holm


def test_holm_is_that_of_statsmodels(rng):
    families = [rng.random(size) ** power for size in (1, 2, 7, 40) for power in (1, 4)]
    families += [np.round(rng.random(12), 1) for _ in range(10)]  # ties
    families += [np.zeros(3), np.ones(4), np.array([0.0, 1.0, 0.5, 0.5])]
    families += [rng.random(rng.integers(1, 30)) ** 6 for _ in range(20)]
    for p_values in families:
        reject, theirs, *_ = multipletests(p_values, alpha=0.05, method="holm")
        ours = np.array(bootstrap.holm(p_values.tolist()))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        # A value on the level itself may round to either side.
        clear = np.abs(theirs - 0.05) > 1e-9
        np.testing.assert_array_equal((ours < 0.05)[clear], reject[clear])


def test_holm_of_a_table_is_over_all_its_comparisons(rng):
    population = Population(
        {(row, 1, 0): Model(slope=0.6 + 0.1 * n) for n, row in enumerate("abc")},
        {1: 120},
    )
    pairs = pairs_of([("b", "a"), ("c", "a")], ["ccc", "accuracy", "uar", "macro_f1"])
    found = score_draw(population, pairs, rng, 400).comparisons
    assert len(found) == 8
    _, theirs, *_ = multipletests([c.result.p for c in found], method="holm")
    assert [c.p_holm for c in found] == pytest.approx(theirs)


@pytest.mark.parametrize("wrong", [float("nan"), -0.1, 1.1])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match="outside"):
        bootstrap.holm([0.5, wrong])


# -------------------------------------------------------------------------- intervals


def scipy_interval(data, statistic, estimate, method="percentile"):
    """Ends of scipy's interval; `data` are rows of the strata, drawn one by one."""
    return stats.bootstrap(
        data,
        statistic,
        paired=False,
        vectorized=False,
        n_resamples=RESAMPLES,
        method=method,
        rng=np.random.default_rng(1),
    ).confidence_interval


def near(ours, theirs, spread):
    """Whether two intervals differ by no more than resampling explains."""
    tolerance = 5 * spread / RESAMPLES**0.5 + 1e-12  # a 2.5 % quantile has 2.7 se
    return (ours.low, ours.high) == pytest.approx(
        (theirs.low, theirs.high), abs=tolerance
    )


def test_intervals_of_a_table_are_scipys(rng):
    """Two folds and two seeds; scipy draws rows of each fold, and of each class."""
    models = {
        (row, fold, seed): Model(slope=0.6 + 0.1 * fold + 0.05 * seed)
        for row in "ab"
        for fold in (1, 2)
        for seed in (0, 1)
    }
    population = Population(models, {1: 150, 2: 110})
    runs = draw_runs(population, rng)
    from espnet_ext.scoring.runs import RunKey
    from espnet_ext.scoring.scores import score_table

    pairs = pairs_of([("a", "b")], ["ccc", "uar", "macro_f1"])
    result = score_table(make_spec(population, pairs), runs, list(runs), RESAMPLES)

    def mean_of_folds(score, row):
        def statistic(*folds):
            return np.mean(
                [
                    score(runs[RunKey(row, fold, seed)], rows)
                    for fold, rows in zip((1, 2), folds, strict=True)
                    for seed in (0, 1)
                ]
            )

        return statistic

    def ccc(run, rows):
        return np.mean(
            [metrics.ccc(run.true[d][rows], run.pred[d][rows]) for d in run.true]
        )

    def accuracy(run, rows):
        return metrics.class_scores(run.true_class[rows], run.pred_class[rows])[
            "accuracy"
        ]

    folds = [np.arange(150), np.arange(110)]
    for name, score in (("ccc", ccc), ("accuracy", accuracy)):
        ours = result.cells["a"][Column(CORPUS, name)].mean
        statistic = mean_of_folds(score, "a")
        assert ours.estimate == pytest.approx(statistic(*folds))
        # BCa is ours (`bias_corrected_interval`) with an acceleration, which is small.
        theirs = scipy_interval(folds, statistic, ours.estimate, "BCa")
        assert near(ours, theirs, ours.high - ours.low)

    difference = result.comparisons[0].tests["utterances"]
    first, second = mean_of_folds(ccc, "a"), mean_of_folds(ccc, "b")
    theirs = scipy_interval(
        folds, lambda *rows: first(*rows) - second(*rows), difference.difference
    )
    assert near(difference, theirs, difference.high - difference.low)

    strata = [
        np.flatnonzero(runs[RunKey("a", fold, 0)].true_class == number)
        for fold in (1, 2)
        for number in range(5)
    ]

    def within(score, row):
        def statistic(*classes):
            both = [np.concatenate(classes[:5]), np.concatenate(classes[5:])]
            return mean_of_folds(score, row)(*both)

        return statistic

    for place, name in ((1, "uar"), (2, "macro_f1")):

        def of_classes(run, rows, name=name):
            return metrics.class_scores(run.true_class[rows], run.pred_class[rows])[
                name
            ]

        ours = result.cells["a"][Column(CORPUS, name)].mean
        first, second = within(of_classes, "a"), within(of_classes, "b")
        assert ours.estimate == pytest.approx(first(*strata))
        theirs = scipy_interval(strata, first, ours.estimate, "BCa")
        assert near(ours, theirs, ours.high - ours.low), name
        difference = result.comparisons[place].tests["utterances"]
        theirs = scipy_interval(
            strata,
            lambda *rows, f=first, s=second: f(*rows) - s(*rows),
            difference.difference,
        )
        assert near(difference, theirs, difference.high - difference.low), name


def test_accuracy_has_the_interval_of_a_proportion(rng):
    for share in (0.4, 0.6, 0.75, 0.9):
        truth = np.zeros(800, dtype=int)
        said = (rng.random(800) >= share).astype(int)
        drawn = bootstrap.class_distribution(
            truth, said[None], bootstrap.resample_within(np.zeros(800), RESAMPLES, rng)
        )["accuracy"][:, 0]
        hits = int(np.sum(said == 0))
        ours = bootstrap.bias_corrected_interval(hits / 800, drawn)
        for method in ("normal", "wilson", "jeffreys"):
            low, high = proportion_confint(hits, 800, method=method)
            # Steps of 1/800, and a wilson interval is drawn towards one half.
            assert (ours.low, ours.high) == pytest.approx((low, high), abs=3.5e-3)


# --------------------------------------------------------------------------- clusters


@pytest.mark.parametrize("equal", [True, False])
def test_cluster_bootstrap_has_the_error_of_the_sandwich(rng, equal):
    """Of a mean (accuracy), whose cluster-robust error OLS on a constant gives."""
    speakers = 60
    sizes = np.full(speakers, 15) if equal else rng.integers(2, 40, speakers)
    cluster = np.repeat(np.arange(speakers), sizes)
    skill = rng.normal(0.6, 0.15, speakers)[cluster]
    said = (rng.random(len(cluster)) >= skill).astype(int)
    truth = np.zeros(len(cluster), dtype=int)
    blocks = bootstrap.resample_within(np.zeros(len(cluster)), RESAMPLES, rng, cluster)
    drawn = bootstrap.class_distribution(truth, said[None], blocks)["accuracy"][:, 0]
    right = (said == truth).astype(float)
    fitted = sm.OLS(right, np.ones((len(right), 1)))
    robust = fitted.fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}
    ).bse[0]
    assert drawn.std() == pytest.approx(robust, rel=0.06)
    naive = fitted.fit().bse[0]
    assert drawn.std() > 1.3 * naive  # what drawing utterances would say


def test_cluster_comparison_of_a_table_has_the_error_of_the_sandwich(rng):
    population = Population({(r, 1, 0): Model() for r in "ab"}, {1: 900})
    runs = draw_runs(population, rng)
    from dataclasses import replace

    from espnet_ext.scoring.runs import RunKey
    from espnet_ext.scoring.scores import score_table

    speaker = rng.integers(0, 45, 900)
    runs = {
        key: replace(run, speaker=tuple(f"s{number}" for number in speaker))
        for key, run in runs.items()
    }
    # Some speakers are easy for a: its wrong answers about them are put right.
    a = runs[RunKey("a", 1, 0)]
    easy = np.isin(speaker, np.arange(0, 45, 3))
    runs[RunKey("a", 1, 0)] = replace(
        a, pred_class=np.where(easy, a.true_class, a.pred_class)
    )
    spec = make_spec(population, pairs_of([("a", "b")], ["accuracy"]))
    (found,) = score_table(spec, runs, list(runs), RESAMPLES).comparisons
    right = [
        (runs[RunKey(row, 1, 0)].pred_class == a.true_class).astype(float)
        for row in "ab"
    ]
    robust = (
        sm.OLS(right[0] - right[1], np.ones((900, 1)))
        .fit(cov_type="cluster", cov_kwds={"groups": speaker, "use_correction": False})
        .bse[0]
    )
    assert found.basis == "speakers"
    assert found.result.error == pytest.approx(robust, rel=0.06)
    assert found.result.freedom == 44


# -------------------------------------------------------------------- paired bootstrap


def test_paired_bootstrap_agrees_with_the_permutation_test(rng):
    """Two answers to one question: p of the difference of two models' CCC."""
    for slopes in ((0.8, 0.8), (0.8, 0.77), (0.8, 0.74), (0.8, 0.7)):
        true = rng.normal(size=(300, 1))
        noise = rng.normal(0, 0.35, (300, 1))
        pred = np.stack(
            [s * true + noise + rng.normal(0, 0.35, (300, 1)) for s in slopes]
        )
        scores = bootstrap.ccc_distribution(
            true, pred, bootstrap.resample_within(np.zeros(300), RESAMPLES, rng)
        )[..., 0]
        estimates = [metrics.ccc(true[:, 0], p[:, 0]) for p in pred]
        error = float(np.std(scores[:, 0] - scores[:, 1]))
        ours = bootstrap.compare(estimates[0] - estimates[1], error, 299)

        def difference(x, y, true=true):
            return metrics.ccc(true[:, 0], x) - metrics.ccc(true[:, 0], y)

        theirs = stats.permutation_test(
            (pred[0, :, 0], pred[1, :, 0]),
            difference,
            permutation_type="samples",
            n_resamples=2000,
            vectorized=False,
            rng=np.random.default_rng(2),
        ).pvalue
        assert ours.p == pytest.approx(theirs, abs=0.05)
