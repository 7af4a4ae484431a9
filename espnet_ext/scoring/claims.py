"""Which of the paper's claims hold in a table's results.

Each kind of condition has its own test and its own words: `LEGEND` has them.
"""

import math
from dataclasses import dataclass
from enum import Enum

from espnet_ext.scoring.scores import TableResult
from espnet_ext.scoring.spec import Claim, Condition, Kind
from espnet_ext.scoring.verdicts import LEVEL, MARGIN, Basis

LEGEND = (
    "Higher, lower: holds if the difference has its sign and p (Holm) is below "
    f"{LEVEL:g}, in sign only if p is not. Not higher: holds if a gain of {MARGIN:g} "
    "or more is ruled out (one-sided non-inferiority test, p (Holm) below "
    f"{LEVEL:g}) and no gain is shown; does not hold if one is; else undecided. A "
    "claim has the worst "
    'verdict of its differences. "These models" are those trained with one seed: '
    "what holds for them need not hold for the methods."
)


class Verdict(Enum):
    """What the results say about a claim, the worst last."""

    HOLDS = "holds"
    IN_SIGN = "in sign only"
    UNDECIDED = "undecided"
    UNTESTED = "not tested"
    FAILS = "does not hold"


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """A condition and its numbers."""

    condition: Condition
    verdict: Verdict
    finding: str
    paper: float | None  # difference of the paper's values, if it has them
    difference: float | None = None  # first row minus second, if both are there
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None  # of the condition's own test
    basis: Basis | None = None


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim, and the worst verdict of its conditions."""

    claim: Claim
    verdict: Verdict
    conditions: tuple[ConditionResult, ...]

    @property
    def words(self) -> str:
        """The verdict, and that it is only of the models at hand where it is."""
        if self.verdict is Verdict.UNTESTED:
            return self.verdict.value
        methods = all(found.basis is Basis.TRAININGS for found in self.conditions)
        return self.verdict.value + ("" if methods else " (these models)")


def judge_claims(result: TableResult) -> tuple[ClaimResult, ...]:
    """Judge every claim of a table: a claim has the worst verdict of its conditions."""
    found = []
    for claim in result.spec.claims:
        conditions = tuple(_judge(condition, result) for condition in claim.conditions)
        worst = max((c.verdict for c in conditions), key=list(Verdict).index)
        if claim.significant and worst is Verdict.IN_SIGN:
            worst = Verdict.FAILS  # it speaks of significance, and there is none
        found.append(ClaimResult(claim, worst, conditions))
    return tuple(found)


def _judge(condition: Condition, result: TableResult) -> ConditionResult:
    pair = condition.pair
    one, two = (
        result.spec.rows[row].paper.get(pair.column)
        for row in (pair.first, pair.second)
    )
    paper = None if one is None or two is None else one - two
    there = result.compared(pair)
    if there is None:
        return ConditionResult(condition, Verdict.UNTESTED, "not tested", paper)
    found, sign = there
    difference = sign * found.result.difference
    low, high = sorted((sign * found.result.low, sign * found.result.high))
    p_holm = found.p_holm
    if condition.kind is Kind.NOT_HIGHER:
        p_holm = result.not_higher[pair]
        judged = _not_higher(p_holm, difference, found.p_holm)
    else:
        wanted = difference if condition.kind is Kind.HIGHER else -difference
        judged = _higher(wanted, difference, p_holm)
    return ConditionResult(
        condition, *judged, paper, difference, low, high, p_holm, found.basis
    )


def _higher(wanted: float, difference: float, p: float) -> tuple[Verdict, str]:
    """Judge by a test of no difference; `wanted` is above zero as was claimed."""
    if math.isnan(p):
        return Verdict.UNTESTED, "not tested"
    finding = "higher" if difference > 0 else "lower" if difference < 0 else "equal"
    if p >= LEVEL:
        verdict = Verdict.IN_SIGN if wanted > 0 else Verdict.FAILS
        return verdict, finding + " in sign only" * (difference != 0)
    return (Verdict.HOLDS if wanted > 0 else Verdict.FAILS), finding


def _not_higher(p: float, difference: float, p_gain: float) -> tuple[Verdict, str]:
    """Judge by the test that rules out a gain of the margin or more."""
    if difference > 0 and p_gain < LEVEL:
        return Verdict.FAILS, "higher"
    if math.isnan(p):
        return Verdict.UNTESTED, "not tested"
    if p < LEVEL:
        return Verdict.HOLDS, f"not higher by {MARGIN:g}"
    return Verdict.UNDECIDED, "undecided"
