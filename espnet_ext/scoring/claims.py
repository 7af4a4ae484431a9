"""Which of the paper's claims hold in a table's results.

A claim is one or several conditions, each about two rows in one column. That the first
is higher holds if the difference is above zero and significant after Holm's correction;
above zero alone is agreement in sign. That it is *not* higher holds if the difference
is not above zero, and is contradicted only by a significant one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from espnet_ext.scoring.table_scores import TableComparison, TableResult
from espnet_ext.scoring.table_spec import Claim, Condition, Pair

LEVEL = 0.05


class Verdict(Enum):
    """What the results say about a claim."""

    HOLDS = "holds"
    IN_SIGN = "in sign only"
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
        p_holm: Corrected p value.
        paper: The difference of the paper's values, None where it has none.
        verdict: What follows.
    """

    condition: Condition
    difference: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    paper: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """A claim, and the worst verdict of its conditions."""

    claim: Claim
    verdict: Verdict
    conditions: tuple[ConditionResult, ...]


def judge_claims(result: TableResult) -> tuple[ClaimResult, ...]:
    """Judge every claim of a table."""
    compared = {comparison.pair: comparison for comparison in result.comparisons}
    return tuple(_judge(claim, compared, result) for claim in result.spec.claims)


def _judge(
    claim: Claim, compared: Mapping[Pair, TableComparison], result: TableResult
) -> ClaimResult:
    conditions = tuple(
        _judge_condition(condition, compared, result) for condition in claim.conditions
    )
    verdict = _worst(condition.verdict for condition in conditions)
    if claim.significant and verdict is Verdict.IN_SIGN:
        verdict = Verdict.FAILS  # it speaks of significance, and there is none
    return ClaimResult(claim, verdict, conditions)


def _judge_condition(
    condition: Condition, compared: Mapping[Pair, TableComparison], result: TableResult
) -> ConditionResult:
    pair = condition.pair
    printed = [
        result.spec.rows[row].paper.get(pair.column)
        for row in (pair.first, pair.second)
    ]
    paper = None
    if printed[0] is not None and printed[1] is not None:
        paper = printed[0] - printed[1]
    sign = 1.0
    found = compared.get(pair)
    if found is None:
        sign = -1.0
        found = compared.get(Pair(pair.second, pair.first, pair.column))
    if found is None:
        return ConditionResult(
            condition, None, None, None, None, paper, Verdict.UNTESTED
        )
    difference = sign * found.result.difference
    low, high = sorted((sign * found.result.low, sign * found.result.high))
    significant = found.p_holm < LEVEL
    above = difference > 0
    if condition.higher:
        verdict = Verdict.FAILS if not above else Verdict.IN_SIGN
        verdict = Verdict.HOLDS if above and significant else verdict
    else:
        verdict = Verdict.HOLDS if not above else Verdict.IN_SIGN
        verdict = Verdict.FAILS if above and significant else verdict
    return ConditionResult(
        condition, difference, low, high, found.p_holm, paper, verdict
    )


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    found = set(verdicts)
    order = (Verdict.FAILS, Verdict.UNTESTED, Verdict.IN_SIGN, Verdict.HOLDS)
    return next(verdict for verdict in order if verdict in found)
