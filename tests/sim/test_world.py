"""The towel world: determinism, tracking, grasping, missing, slipping, resets, failures."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Array, Pose
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q, TOOL_DOWN
from vla_rft_sim.towel import draw
from vla_rft_sim.world import TowelWorld, TowelWorldConfig
from vla_rft_sim.world_protocol import STEP_NS, World

TICK_NS = 10_000_000
ARM = ArmKinematics()


@pytest.fixture(scope="module")
def shared() -> TowelWorld:
    """One world for the tests that reset it anyway."""
    return TowelWorld()


def go(world: World, target: Pose, *, speed: float = 0.2) -> None:
    """Move the set-point straight to a pose, as a servo loop does, and wait until the arm is there."""
    start = world.arm_state(0).T_base_tcp
    ticks = max(1, math.ceil(start.distance_to(target)[0] / speed / 0.01))
    for tick in range(ticks):
        world.controller.set_target(start.interpolate(target, (tick + 1) / ticks))
        world.advance(TICK_NS)
    world.advance(30 * TICK_NS)


def above_edge(world: TowelWorld, height: float) -> Pose:
    """Over the middle of a short side, 4 mm inside."""
    corners = world.truth().corners
    middle, inwards = 0.5 * (corners[0] + corners[3]), corners[1] - corners[0]
    point = middle + 0.004 * inwards / np.linalg.norm(inwards)
    yaw = draw_yaw(corners)
    return Pose((point[0], point[1], height), TOOL_DOWN).moved((0, 0, 0), (0, 0, yaw))


def draw_yaw(corners: Array) -> float:
    across = corners[3] - corners[0]
    return math.remainder(math.atan2(across[1], across[0]), math.pi)


def grasp(world: TowelWorld, seed: int, *, height: float = 0.008) -> int:
    """Reset, close the fingers over the towel's edge at a height; how many vertices they hold."""
    world.reset(seed)
    world.controller.enter_motion(world.arm_state(0).q)
    go(world, above_edge(world, 0.1))
    go(world, above_edge(world, height))
    world.set_width(0.0)
    world.advance(60 * TICK_NS)
    return world.truth().grasped_vertices


def wander(world: TowelWorld) -> list[Array]:
    """A fixed command sequence that grasps and drags; the vertices along the way."""
    seen = []
    grasp(world, 4)
    for offset in ((0.0, 0.05, 0.06), (0.05, 0.0, 0.02)):
        go(world, world.arm_state(0).T_base_tcp.moved(offset, (0.0, 0.0, 0.2)))
        seen.append(world.vertices)
    world.set_width(0.08)
    world.advance(40 * TICK_NS)
    return [*seen, world.vertices]


def test_the_same_seed_and_commands_give_identical_vertices(shared: TowelWorld) -> None:
    shared.reset(9)
    shared.advance(7 * STEP_NS)
    first, second, elsewhere = wander(shared), wander(shared), wander(TowelWorld())
    for a, b, c in zip(first, second, elsewhere, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)
    assert not np.array_equal(first[0], first[-1])


def test_reset_lays_the_towel_flat_where_the_seed_says(shared: TowelWorld) -> None:
    for seed in (1, 2):
        placement = shared.reset(seed)
        assert placement == draw(seed) and shared.describe() == str(placement)
        middle = shared.vertices.reshape(-1, 3).mean(axis=0)
        assert np.abs(middle[:2] - (placement.x, placement.y)).max() < 1e-3
        truth = shared.truth()
        assert truth.max_height < 0.005 and not truth.success and truth.edge_gap == pytest.approx(0.28, abs=1e-3)


def test_the_arm_rests_at_home_without_drifting(shared: TowelWorld) -> None:
    shared.reset(0)
    shared.advance(1_000_000_000)
    state = shared.arm_state(7)
    assert state.stamp_ns == 7
    assert np.abs(state.q - HOME_Q).max() < 1e-5 and np.abs(state.dq).max() < 1e-5
    assert np.abs(state.tau_ext).max() < 1e-6


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_the_tcp_lags_a_set_point_at_0_3_m_per_s_by_less_than_3_cm(
    shared: TowelWorld, direction: tuple[int, int, int]
) -> None:
    shared.reset(0)
    shared.controller.enter_motion(HOME_Q)
    start, lags, shares = shared.controller.target, [], []
    for tick in range(60):
        target = start.moved(np.array(direction) * 0.003 * (tick + 1), (0.0, 0.0, 0.005 * (tick + 1)))
        shared.controller.set_target(target)
        shared.advance(TICK_NS)
        state = shared.arm_state(0)
        lags.append(state.T_base_tcp.distance_to(target))
        shares.append(np.abs(state.dq) / ARM.velocity)
    assert np.array(lags)[:, 0].max() < 0.02 and np.array(lags)[:, 1].max() < 0.05
    assert np.max(shares) < 1.0
    shared.advance(500_000_000)
    assert shared.arm_state(0).T_base_tcp.distance_to(target)[0] < 1e-3


def test_measured_joint_speeds_keep_the_limits_on_a_wild_command(shared: TowelWorld) -> None:
    shared.reset(0)
    shared.controller.enter_motion(HOME_Q)
    shared.controller.set_target(shared.controller.target.moved((0.3, 0.35, 0.1), (0.0, 0.0, 2.5)))
    fastest = np.zeros(7)
    for _ in range(200):
        shared.advance(STEP_NS)
        fastest = np.maximum(fastest, np.abs(shared.arm_state(0).dq))
    assert (fastest <= ARM.velocity * 1.02).all()
    assert (fastest > 0.3).any()


def test_fingers_ramp_and_close_completely_on_nothing(shared: TowelWorld) -> None:
    shared.reset(0)
    assert shared.gripper_state(0).width == pytest.approx(0.1, abs=1e-3)
    shared.set_width(0.0)
    shared.advance(250_000_000)
    state = shared.gripper_state(0)
    assert state.moving and state.width == pytest.approx(0.05, abs=0.01)
    shared.advance(500_000_000)
    state = shared.gripper_state(0)
    assert not state.moving and 0.0 <= state.width < 0.002 and state.force == 0.0
    with pytest.raises(ValueError, match="finite"):
        shared.set_width(math.inf)


def test_fingers_hold_the_edge_lift_it_and_let_go(shared: TowelWorld) -> None:
    assert grasp(shared, 1) == 2
    state = shared.gripper_state(0)
    assert 0.004 < state.width < 0.009 and state.force < 0.0
    go(shared, shared.arm_state(0).T_base_tcp.moved((0.0, 0.0, 0.12), (0.0, 0.0, 0.0)))
    truth = shared.truth()
    assert truth.grasped_vertices == 2 and truth.max_height > 0.1 and not truth.success
    shared.set_width(0.08)
    shared.advance(1_500_000_000)
    truth = shared.truth()
    assert truth.grasped_vertices == 0 and truth.max_height < 0.05


def test_a_grasp_too_high_misses_and_leaves_the_towel_alone(shared: TowelWorld) -> None:
    shared.reset(1)
    before = shared.vertices
    assert grasp(shared, 1, height=0.025) == 0
    assert np.abs(shared.vertices - before).max() < 1e-3
    assert shared.gripper_state(0).width < 0.002


def test_a_towel_pulled_harder_than_the_grip_slips() -> None:
    world = TowelWorld(TowelWorldConfig(slip_force=0.05))
    assert grasp(world, 1) == 2
    go(world, world.arm_state(0).T_base_tcp.moved((0.0, 0.0, 0.12), (0.0, 0.0, 0.0)))
    assert world.truth().grasped_vertices == 0
    assert world.truth().max_height < 0.06


def test_a_certain_drop_happens_within_two_seconds_and_is_repeatable() -> None:
    world = TowelWorld(TowelWorldConfig(drop_probability=1.0))

    def held_steps() -> int:
        grasp(world, 2)
        steps = 0
        while world.truth().grasped_vertices and steps < 500:
            world.advance(STEP_NS)
            steps += 1
        return steps

    first = held_steps()
    assert first < 400
    assert held_steps() == first


def test_pressing_on_the_table_is_felt(shared: TowelWorld) -> None:
    shared.reset(0)
    shared.controller.enter_motion(HOME_Q)
    corner = Pose((0.62, 0.28, 0.10), TOOL_DOWN)
    go(shared, corner)
    shared.set_width(0.0)
    shared.advance(600_000_000)
    assert np.linalg.norm(shared.arm_state(0).wrench) < 0.5
    go(shared, corner.moved((0.0, 0.0, -0.11), (0.0, 0.0, 0.0)), speed=0.05)
    wrench = shared.arm_state(0).wrench
    assert wrench[2] > 5.0
    assert shared.arm_state(0).T_base_tcp.position[2] > -0.01


def test_reset_without_the_arm_lets_go_and_keeps_the_arm(shared: TowelWorld) -> None:
    assert grasp(shared, 1) == 2
    go(shared, shared.arm_state(0).T_base_tcp.moved((0.0, 0.0, 0.10), (0.0, 0.0, 0.0)))
    before = shared.arm_state(0)
    shared.reset(8, arm=False)
    assert np.array_equal(shared.arm_state(0).q, before.q) and shared.controller.mode == "cartesian"
    shared.advance(500_000_000)
    truth = shared.truth()
    assert truth.grasped_vertices == 0 and truth.max_height < 0.006
    assert shared.arm_state(0).T_base_tcp.distance_to(before.T_base_tcp)[0] < 1e-3


def test_an_idle_arm_is_at_home_after_reset_whatever_it_did(shared: TowelWorld) -> None:
    shared.reset(0)
    shared.controller.enter_motion(HOME_Q)
    shared.controller.set_target(shared.controller.target.moved((0.1, 0.1, 0.0), (0.0, 0.0, 0.0)))
    shared.advance(500_000_000)
    shared.reset(0)
    assert shared.controller.mode == "idle"
    assert np.abs(shared.arm_state(0).q - HOME_Q).max() < 1e-5


def broken(world: TowelWorld) -> None:
    world.data.qvel[20] = math.nan


def thrown(world: TowelWorld) -> None:
    world.data.qvel[20] = 1e12


@pytest.mark.parametrize("harm", [broken, thrown])
def test_exploding_physics_is_a_device_error_and_leaves_no_log(
    harm: Callable[[TowelWorld], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = TowelWorld()
    harm(world)
    with pytest.raises(DeviceError, match="the simulated physics failed"):
        world.advance(10 * STEP_NS)
    assert list(tmp_path.iterdir()) == []
    world.reset(0)
    world.advance(100_000_000)
    assert world.truth().max_height < 0.01


def test_importing_the_world_without_opengl_still_gives_physics() -> None:
    check = (
        "import os; os.environ['MUJOCO_GL'] = 'osmesa-that-is-not-there'\n"
        "from vla_rft_sim.world import TowelWorld\n"
        "from vla_rft_core.errors import DeviceError\n"
        "world = TowelWorld(); world.advance(50_000_000)\n"
        "try: world.render()\n"
        "except DeviceError as error: print(error)\n"
        "else: raise SystemExit('rendered without OpenGL')\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "libegl1" in done.stdout and "libosmesa6" in done.stdout


@pytest.mark.parametrize(
    ("field", "value"),
    [("cloth", (2, 8)), ("slip_force", 0.0), ("slip_force", math.nan), ("drop_probability", 1.5), ("quality", "best")],
)
def test_config_refuses_nonsense(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        TowelWorldConfig(**{field: value})  # type: ignore[arg-type]
