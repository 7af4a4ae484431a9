"""Which of the paper's claims hold in a table's results.

A claim is one or several conditions, each about two rows in one column. Each kind of
condition has its own test and its own words: `LEGEND` has them.
"""

import math
from collections.abc import Iterable
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
    """What the results say about a claim."""

    HOLDS = "holds"
    IN_SIGN = "in sign only"
    UNDECIDED = "undecided"
    FAILS = "does not hold"
    UNTESTED = "not tested"


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """A condition and its numbers.

    Attributes:
        condition: What was said.
        difference: First row minus second, None where a row is missing.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_holm: Corrected p value of the condition's own test.
        paper: The difference of the paper's values, None where it has none.
        verdict: What follows.
        finding: What was found, in words.
        basis: What the test drew.
    """

    condition: Condition
    difference: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    paper: float | None
    verdict: Verdict
    finding: str
    basis: Basis | None


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
    """Judge every claim of a table."""
    return tuple(_judge(claim, result) for claim in result.spec.claims)


def _judge(claim: Claim, result: TableResult) -> ClaimResult:
    conditions = tuple(_judge_condition(c, result) for c in claim.conditions)
    verdict = _worst(condition.verdict for condition in conditions)
    if claim.significant and verdict is Verdict.IN_SIGN:
        verdict = Verdict.FAILS  # it speaks of significance, and there is none
    return ClaimResult(claim, verdict, conditions)


def _judge_condition(condition: Condition, result: TableResult) -> ConditionResult:
    pair = condition.pair
    one, two = (
        result.spec.rows[row].paper.get(pair.column)
        for row in (pair.first, pair.second)
    )
    paper = None if one is None or two is None else one - two
    there = result.compared(pair)
    if there is None:
        verdict = Verdict.UNTESTED
        return ConditionResult(
            condition, None, None, None, None, paper, verdict, verdict.value, None
        )
    found, sign = there
    difference = sign * found.result.difference
    low, high = sorted((sign * found.result.low, sign * found.result.high))
    p_holm = found.p_holm
    if condition.kind is Kind.NOT_HIGHER:
        p_holm = result.not_higher[pair]
        verdict, finding = _not_higher(p_holm, difference, found.p_holm)
    else:
        wanted = difference if condition.kind is Kind.HIGHER else -difference
        verdict, finding = _higher(wanted, difference, p_holm)
    return ConditionResult(
        condition, difference, low, high, p_holm, paper, verdict, finding, found.basis
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


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    order = (
        *(Verdict.FAILS, Verdict.UNTESTED, Verdict.UNDECIDED),
        *(Verdict.IN_SIGN, Verdict.HOLDS),
    )
    return next(verdict for verdict in order if verdict in found)
