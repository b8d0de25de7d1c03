"""What sim_node lays out is what the study wants, or no trial starts."""

from __future__ import annotations

import pytest

from vla_rft_nodes.evaluator_stage import require_laid_out
from vla_rft_sim import perturbation, towel
from vla_rft_trials.placements import Placement
from vla_rft_trials.running import TrialRefusedError


def required(start: towel.Placement, **more: object) -> Placement:
    return Placement(id="P01", x=start.x, y=start.y, yaw=start.yaw, seed=start.seed, **more)


def test_a_seed_s_own_placement_is_what_the_study_wants() -> None:
    said = str(towel.draw(7))
    require_laid_out(said, required(towel.draw(7)))
    require_laid_out(said, required(towel.draw(7), cell="unseen"))


def test_a_start_that_a_seed_does_not_give_is_refused() -> None:
    said, beyond = str(towel.draw(7)), perturbation.major_both(7)
    with pytest.raises(TrialRefusedError, match="run such a study in-process"):
        require_laid_out(said, required(beyond))
    with pytest.raises(TrialRefusedError, match=r"hand \+0 [+-]50 [+-]50 mm"):
        require_laid_out(said, required(towel.draw(7), hand=beyond.hand))
