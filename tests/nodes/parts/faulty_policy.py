"""`python faulty_policy.py FILE ...`: policy_node, whose runtime answers as FILE says: well, nan or late."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deploy import runtime
from deploy.runtime.policies import Decision, RunningPolicy
from vla_rft_core.types import Observation
from vla_rft_nodes import policy_node

LATE_S = 2.0


class FaultyPolicy:
    """A `RunningPolicy` around a good one."""

    def __init__(self, inner: RunningPolicy, answers: Path) -> None:
        self.bundle, self.begin, self.describe = inner.bundle, inner.begin, inner.describe
        self._inner, self._answers = inner, answers

    def decide(self, observation: Observation, *, committed: Any = None) -> Decision:
        """The good answer, spoilt."""
        decision, how = self._inner.decide(observation, committed=committed), self._answers.read_text()
        if how == "late":
            time.sleep(LATE_S)
        if how == "nan":
            nowhere = np.full_like(decision.chunk.positions, np.nan)
            return replace(decision, chunk=replace(decision.chunk, positions=nowhere))
        return decision


def main() -> None:
    answers, load = Path(sys.argv.pop(1)), runtime.load
    sys.argv[0] = policy_node.__file__
    runtime.load = lambda *given, **options: FaultyPolicy(load(*given, **options), answers)
    policy_node.main()


if __name__ == "__main__":
    main()
