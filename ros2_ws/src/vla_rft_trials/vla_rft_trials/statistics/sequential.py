"""Stopping early without fooling oneself: a two-sided test of paired successes with a fixed largest n.

Own derivation. Trials come in pairs, one of each policy. If the policies are alike, a pair with different outcomes is
as likely to favour one as the other, whatever the success rates and whatever else the pairs have in common. So the sum
of the signs of such discordant pairs is a fair random walk in their number m, and nothing unknown is left: the chance
of every path is known exactly.

Risk is spent as in the error-spending functions of Lan & DeMets (Biometrika 70, 1983): after m of at most n_max
discordant pairs at most `early_share * alpha * m / n_max`, linearly. What is not spent is kept for the last look, when
n_max pairs are done: given the M discordant pairs that there were, the walk must then be so far out that both together
cost at most alpha. The total error is at most alpha given any M, hence for every success rate; it is computed here by
stepping the walk's distribution, never simulated. A walk that no continuation can bring over the line ends the study
undecided, which only lowers the error. That n_max and alpha are fixed beforehand, and a linear budget, follow the
advice of STEP (arXiv 2503.10966), whose test is another one (it treats unpaired trials); its code was not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEVER = 10**9
"""A boundary that no walk reaches."""


class Decision(StrEnum):
    """What to do after a pair."""

    GO_ON = "go on"
    DIFFERENT = "stop: the policies differ"
    UNDECIDED = "stop: the rest cannot decide it"


@dataclass(frozen=True, kw_only=True)
class SequentialRule:
    """The rule of one study. Example: `SequentialRule(n_max=20, alpha=0.05).decide([1, 0, 1, 1])`."""

    n_max: int
    """Pairs at most."""
    alpha: float = 0.05
    """Two-sided error when the policies are alike, early stops and last look together."""
    early_share: float = 0.5
    """Of alpha, for all early stops; the rest is the last look's."""

    def __post_init__(self) -> None:
        if self.n_max < 1 or not 0.0 < self.alpha < 1.0 or not 0.0 <= self.early_share < 1.0:
            raise ValueError(
                f"need n_max >= 1, 0 < alpha < 1, 0 <= early_share < 1, got {self.n_max}, {self.alpha}, "
                f"{self.early_share}"
            )

    @cached_property
    def boundaries(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(early, last) by number m of discordant pairs, 0..n_max: the walk's distance from 0 that stops the study."""
        early, last = [NEVER], [NEVER]
        walk = np.zeros(2 * self.n_max + 3)
        walk[self.n_max + 1] = 1.0  # P(at this place, never stopped); the middle is 0
        spent = 0.0
        places = np.abs(np.arange(len(walk)) - self.n_max - 1)
        for m in range(1, self.n_max + 1):
            walk = 0.5 * (np.roll(walk, 1) + np.roll(walk, -1))
            line = _line(walk, places, m, self.early_share * self.alpha * m / self.n_max - spent)
            spent += float(walk[places >= line].sum())
            walk[places >= line] = 0.0
            early.append(line)
            last.append(_line(walk, places, m, self.alpha - spent))
        return tuple(early), tuple(last)

    def decide(self, signs: list[int]) -> Decision:
        """After these pairs, in order: +1 only a succeeded, -1 only b did, 0 both or neither."""
        if len(signs) > self.n_max or any(sign not in (-1, 0, 1) for sign in signs):
            raise ValueError(f"need at most {self.n_max} signs of -1, 0 or 1, got {signs}")
        early, last = self.boundaries
        place = m = 0
        for sign in signs:
            place, m = place + sign, m + abs(sign)
            if abs(place) >= early[m]:
                return Decision.DIFFERENT
        left = self.n_max - len(signs)
        if left == 0:
            return Decision.DIFFERENT if abs(place) >= last[m] else Decision.UNDECIDED
        # The leader winning all the rest, or all up to any m, is the best that can still happen.
        reachable = any(abs(place) + more >= min(early[m + more], last[m + more]) for more in range(left + 1))
        return Decision.GO_ON if reachable else Decision.UNDECIDED

    def error_given(self, discordant: int) -> float:
        """Exact chance of stopping with `DIFFERENT` when the policies are alike and so many pairs will differ."""
        early, last = self.boundaries
        walk, error = {0: 1.0}, 0.0
        for m in range(1, discordant + 1):
            stepped: dict[int, float] = {}
            for place, chance in walk.items():
                for step in (-1, 1):
                    stepped[place + step] = stepped.get(place + step, 0.0) + 0.5 * chance
            error += math.fsum(chance for place, chance in stepped.items() if abs(place) >= early[m])
            walk = {place: chance for place, chance in stepped.items() if abs(place) < early[m]}
        return error + math.fsum(chance for place, chance in walk.items() if abs(place) >= last[discordant])


def _line(walk: NDArray[np.float64], places: NDArray[np.int_], m: int, budget: float) -> int:
    """The nearest distance at which stopping costs no more than `budget`; NEVER when none does.

    After m steps only every other place can be reached.
    """
    line = NEVER
    for distance in range(m, 0, -2):
        if float(walk[places >= distance].sum()) > budget:
            break
        line = distance
    return line
