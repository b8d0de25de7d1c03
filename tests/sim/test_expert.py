"""The scripted expert: it folds through the real executor and filter, it can fail, and it does not cheat."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import numpy as np
import pytest

from vla_rft_core.clock import ManualClock
from vla_rft_core.geometry import Pose
from vla_rft_core.types import GripperState, RobotState, SetPoint
from vla_rft_hardware.protocols import PrivilegedDevice
from vla_rft_sim.__main__ import main
from vla_rft_sim.cell import SimCell, towel_cell
from vla_rft_sim.demonstrate import demonstrate
from vla_rft_sim.expert import ExpertConfig, ScriptedExpert, plan_fold
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.kinematic_world import KinematicWorld
from vla_rft_sim.towel import draw, flat, judge
from vla_rft_sim.world import TowelWorldConfig

HOME = SetPoint(Pose((0.40, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0)), 0.08)


@pytest.fixture(scope="module")
def cell() -> Iterator[SimCell]:
    made = towel_cell()
    yield made
    made.close()


def robot(reference: SetPoint) -> RobotState:
    return RobotState(KinematicWorld().arm_state(0), GripperState(0, reference.width, 0.0, False), reference)


def corners(seed: int) -> np.ndarray:
    return judge(flat(draw(seed), (11, 8), 0.004), 0).corners


@pytest.mark.parametrize("seed", [0, 17, 23, 41])
def test_it_folds_with_room_to_spare(cell: SimCell, seed: int) -> None:
    fold = demonstrate(cell, seed)
    assert fold.interrupted == ""
    assert fold.truth.success
    assert fold.truth.edge_gap < 0.035 and fold.truth.mirrored_gap < 0.022
    assert 45 < fold.ticks < 90


@pytest.mark.slow
def test_it_folds_at_least_48_of_50_placements(cell: SimCell) -> None:
    folds = [demonstrate(cell, seed) for seed in range(50)]
    assert sum(fold.truth.success for fold in folds) >= 48


def test_the_same_seed_gives_the_same_fold(cell: SimCell) -> None:
    first, second = demonstrate(cell, 5).truth, demonstrate(cell, 5).truth
    assert np.array_equal(first.corners, second.corners) and first.edge_gap == second.edge_gap


def test_it_folds_the_finer_towel() -> None:
    cell = towel_cell(TowelWorldConfig(cloth=(15, 11)))
    assert demonstrate(cell, 1).truth.success


def test_it_misses_when_it_closes_too_high_and_then_goes_on_regardless(cell: SimCell) -> None:
    fold = demonstrate(cell, 2, config=ExpertConfig(grasp_height=0.03))
    assert not fold.truth.success and fold.interrupted == ""
    assert fold.truth.edge_gap > 0.25
    assert fold.ticks > 45


def test_a_dropped_towel_is_a_failed_fold() -> None:
    cell = towel_cell(TowelWorldConfig(slip_force=0.08))
    assert not demonstrate(cell, 1).truth.success


def test_plans_move_in_bounded_steps_and_stay_over_the_table() -> None:
    for seed in range(30):
        plan = plan_fold(HOME, corners(seed), ExpertConfig())
        poses = [HOME.T_base_tcp, *(point.T_base_tcp for point in plan)]
        steps = np.array([a.distance_to(b) for a, b in itertools.pairwise(poses)])
        assert steps[:, 0].max() <= 0.03 and steps[:, 1].max() <= 0.15
        heights = [pose.position[2] for pose in poses]
        assert min(heights) >= 0.008 - 1e-9 and heights[-1] > 0.1
        assert plan[0].width == plan[-1].width == 0.08 and min(point.width for point in plan) == 0.0


def test_it_waits_for_the_truth_looks_once_and_ends() -> None:
    expert = ScriptedExpert(ManualClock())
    assert isinstance(expert, PrivilegedDevice)
    expert.observe_corners(corners(1))
    assert not expert.read(robot(HOME)).enabled  # nobody had started it
    expert.start()
    assert not expert.read(robot(HOME)).enabled
    expert.observe_corners(corners(1))
    plan = plan_fold(HOME, corners(1), expert.config)
    reference = HOME
    for wanted in plan:
        expert.observe_corners(corners(2))
        command = expert.read(robot(reference))
        assert command.enabled and np.linalg.norm(command.translation) <= 0.03 + 1e-12
        reference = SetPoint(reference.T_base_tcp.moved(command.translation, command.rotvec), command.width)
        assert reference.T_base_tcp.distance_to(wanted.T_base_tcp)[0] < 1e-9
    assert expert.done
    after = expert.read(robot(reference))
    assert not after.enabled and not after.translation.any()
    expert.start()
    assert not expert.done


def test_a_step_is_cut_when_the_arm_was_held_back() -> None:
    expert = ScriptedExpert(ManualClock())
    expert.start()
    expert.observe_corners(corners(0))
    expert.read(robot(HOME))
    behind = SetPoint(HOME.T_base_tcp.moved((-0.1, 0.0, 0.2), (0.0, 0.0, 0.8)), 0.08)
    command = expert.read(robot(behind))
    assert np.linalg.norm(command.translation) == pytest.approx(0.03)
    assert np.linalg.norm(command.rotvec) == pytest.approx(0.15)


def test_a_step_that_did_not_reach_the_robot_is_taken_again_but_not_for_ever() -> None:
    expert = ScriptedExpert(ManualClock())
    expert.start()
    expert.observe_corners(corners(1))
    plan = plan_fold(HOME, corners(1), expert.config)
    closing = next(i for i, point in enumerate(plan) if point.width == 0.0)
    reference = HOME
    for i, wanted in enumerate(plan[: closing + 1]):
        command = expert.read(robot(reference))
        if i in (3, closing):  # this chunk came too late: the arm goes on standing, the fingers were not told
            again = expert.read(robot(reference))
            assert (again.translation == command.translation).all() and again.width == command.width
        reference = wanted
    for _ in range(4 * len(plan)):  # nothing moves any more: it gives up
        expert.read(robot(reference))
    assert expert.done


@pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")
def test_the_benchmark_prints_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--json", "--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    result = json.loads(lines[0])
    assert result["seeds"] == 1 and result["expert_success"] == 1.0 and result["cloth"] == [11, 8]
    assert result["real_time_factor"] > 0.0 and set(result["tick_ms"]) == {"world", "render", "servo"}


def test_the_benchmark_refuses_no_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--seeds", "0"]) == 1
    assert "seeds must be at least 1" in capsys.readouterr().err
