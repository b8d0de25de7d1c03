"""Starts beyond those of the demonstrations: how far, and that a study's trials really begin there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy import stand_in
from vla_rft_core.cell import find_cell
from vla_rft_core.clock import SystemClock
from vla_rft_sim import perturbation
from vla_rft_sim.cell import towel_cell
from vla_rft_sim.study import SimStage
from vla_rft_sim.towel import draw
from vla_rft_trials.running import Run, Scene
from vla_rft_trials.study import lock

PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "experiment.yaml"


@pytest.mark.parametrize(("factory", "beyond"), [("minor_towel", 0.025), ("major_towel", 0.05), ("major_both", 0.05)])
def test_the_towel_lies_outside_of_the_demonstrations_square_and_no_farther(factory: str, beyond: float) -> None:
    starts = [getattr(perturbation, factory)(seed) for seed in range(200)]
    away = np.array([max(abs(start.x - 0.5), abs(start.y)) for start in starts])
    assert away.min() > 0.05 and away.max() <= 0.05 + beyond and away.max() > 0.05 + 0.8 * beyond
    assert all(start.yaw == draw(start.seed).yaw for start in starts)
    assert starts[3] == getattr(perturbation, factory)(3)


@pytest.mark.parametrize(("factory", "off"), [("minor_hand", 0.02), ("major_hand", 0.05), ("minor_both", 0.02)])
def test_the_hand_is_off_by_as_much_in_height_and_to_a_side(factory: str, off: float) -> None:
    hands = np.array([getattr(perturbation, factory)(seed).hand for seed in range(200)])
    np.testing.assert_allclose(np.abs(hands), [[0.0, off, off]] * len(hands))
    assert len({tuple(hand > 0) for hand in hands}) == 4
    plain = draw(5)
    start = getattr(perturbation, factory)(5)
    assert (start.x, start.y) == (plain.x, plain.y) or "both" in factory


def test_every_major_start_can_be_reached() -> None:
    cell = towel_cell()
    home = cell.spec.home.T_base_tcp.position
    for seed in (0, 1, 2):
        start = perturbation.major_both(seed)
        assert cell.reset(seed, placement=start) == start
        perturbation.lead_hand(cell, start.hand)
        np.testing.assert_allclose(cell.state().arm.T_base_tcp.position - home, start.hand, atol=0.002)
        assert not cell.holding
    corners = cell.world.truth().corners
    np.testing.assert_allclose(corners.mean(axis=0)[:2], (start.x, start.y), atol=0.005)
    cell.close()


def test_a_study_s_trial_begins_as_it_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    spec = find_cell("vla_rft_sim:towel_cell").spec
    stand_in.make_hold(tmp_path / "hold", spec)
    content = yaml.safe_load(PROTOCOL.read_text())
    content |= {"policies": [{"name": "hold", "bundle": str(tmp_path / "hold")}], "time_limit_s": 0.5}
    content["placements"] |= {"count": 1, "draw": "vla_rft_sim.perturbation:major_both"}
    content["trials_per_policy"] = 1
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(content))
    study = lock(tmp_path / "protocol.yaml", tmp_path / "study")
    (place,) = study.plan.placements
    assert "hand" in str(place) and place.hand == perturbation.major_both(place.seed).hand
    stage, (slot,) = SimStage(study, study.mapping()), study.plan.schedule
    with Run(study, clock=SystemClock(), operator="test") as run:
        start = run.start(slot, Scene(policy_stamp=study.mapping().checked(slot.code, study.protocol.policies)[1]))
        record = run.end(start, stage.perform(start))
    assert (record.failure_mode, record.note) == ("no grasp", "") and record.seconds == pytest.approx(0.5, abs=0.11)
    stands = stage.cell.state().arm.T_base_tcp.position - spec.home.T_base_tcp.position
    np.testing.assert_allclose(stands, place.hand, atol=0.003)
    middle = stage.cell.world.truth().corners.mean(axis=0)
    np.testing.assert_allclose(middle[:2], (place.x, place.y), atol=0.005)
