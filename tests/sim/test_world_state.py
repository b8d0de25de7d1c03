"""The saved world: going on from it is bit-identical to having gone on, whatever happened in between."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.types import ActionChunk, SetPoint, Source
from vla_rft_sim import world_state
from vla_rft_sim.cell import SERVO_PERIOD_NS, SimCell
from vla_rft_sim.demonstrate import Onlooker, demonstrate, next_chunk
from vla_rft_sim.expert import ScriptedExpert
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.world import TowelWorld, TowelWorldConfig
from vla_rft_sim.world_protocol import STEP_NS

TICK_NS = 100_000_000


@pytest.fixture(scope="module")
def other() -> TowelWorld:
    """A world with a past of its own."""
    world = TowelWorld()
    demonstrate(SimCell(world), 99)
    return world


@pytest.fixture(scope="module")
def saved() -> list[bytes]:
    """The world at every control period of a fold: asleep, approached, held, in the air, let go."""
    cell = SimCell(TowelWorld())
    states: list[bytes] = []

    class Saver(Onlooker):
        def commanded(self, chunk: object, outcome: object) -> None:
            states.append(cell.world.save())  # type: ignore[attr-defined]

    demonstrate_without_pictures(cell, Saver())
    return states


def demonstrate_without_pictures(cell: SimCell, saver: Onlooker) -> None:
    cell.reset(3)
    cell.activate(Source.TELEOP)
    expert = ScriptedExpert(cell.clock)
    expert.start()
    expert.observe_corners(cell.world.truth().corners)
    sequence = 0
    while (chunk := next_chunk(cell, expert, sequence=sequence)) is not None:
        saver.commanded(chunk, cell.execute(chunk))
        cell.wait(TICK_NS)
        sequence += 1


def seen(world: TowelWorld) -> list[np.ndarray]:
    """Everything that a world tells."""
    arm, gripper, truth = world.arm_state(0), world.gripper_state(0), world.truth()
    numbers = np.array([gripper.width, gripper.force, truth.edge_gap, truth.area_ratio, truth.grasped_vertices])
    return [world.vertices, arm.q, arm.dq, arm.tau_ext, arm.T_base_tcp.position, numbers]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_restoring_and_advancing_is_having_gone_on(saved: list[bytes], other: TowelWorld) -> None:
    world = TowelWorld()
    held = set()
    for state in saved[::4]:
        world.restore(state)
        world.advance(41 * STEP_NS)  # an odd number: between two steps of the controller
        middle, there = world.save(), seen(world)
        held.add(world.truth().grasped_vertices > 0)
        world.advance(60 * STEP_NS)
        other.restore(middle)
        assert same(seen(other), there)
        assert other.save() == middle
        other.advance(60 * STEP_NS)
        assert same(seen(other), seen(world))
    assert held == {True, False}


@pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")
def test_pictures_go_on_too(saved: list[bytes], other: TowelWorld) -> None:
    world = TowelWorld()
    world.restore(saved[30])
    other.restore(saved[30])
    for _ in range(2):
        first, second = world.render(), other.render()
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        world.advance(TICK_NS)
        other.advance(TICK_NS)


def test_a_world_that_was_just_laid_out_can_be_saved(other: TowelWorld) -> None:
    world = TowelWorld()
    world.reset(5)
    world.reset(6, arm=False)
    other.restore(world.save())
    world.advance(TICK_NS)
    other.advance(TICK_NS)
    assert same(seen(world), seen(other))
    assert other.describe() == world.describe()


def test_random_drops_come_again() -> None:
    world = TowelWorld(TowelWorldConfig(drop_probability=1.0))
    world.reset(1)
    twin = TowelWorld(world.config)
    twin.restore(world.save())
    assert twin._grasp.save() == world._grasp.save()


def test_the_cell_goes_on_as_it_went(saved: list[bytes]) -> None:
    original, resumed = SimCell(TowelWorld()), SimCell(TowelWorld())
    saver: list[tuple[bytes, int, SetPoint, SetPoint]] = []
    reports: list[SetPoint] = []
    original.on_step = lambda report: reports.append(report.state.reference)

    class Saver(Onlooker):
        def commanded(self, chunk: object, outcome: object) -> None:
            if len(reports) > 2:
                state = original.world.save()  # type: ignore[attr-defined]
                saver.append((state, original.clock.realtime_ns(), reports[-2], reports[-1]))

    demonstrate_without_pictures(original, Saver())
    for state, stamp_ns, before, now in saver[10::15]:
        resumed.restore(state, stamp_ns=stamp_ns, source=Source.TELEOP, sent=(before, now))
        assert resumed.clock.realtime_ns() == stamp_ns
        assert resumed.state().reference is now and resumed.holding == ""
        assert same(seen(resumed.world), seen_in(state))  # type: ignore[arg-type]
        chunk = ActionChunk.from_set_points(
            [now], stamp_ns=stamp_ns, period_ns=TICK_NS, sequence=0, source=Source.TELEOP
        )
        assert resumed.execute(chunk).accepted
        resumed.wait(10 * SERVO_PERIOD_NS)
        assert np.allclose(resumed.state().reference.T_base_tcp.position, now.T_base_tcp.position, atol=0.03)


def seen_in(state: bytes) -> list[np.ndarray]:
    world = TowelWorld()
    world.restore(state)
    return seen(world)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no saved world"),
        (b"\x02\x00\x00\x00{}", "no saved world"),
        (b"\xff\xff\xff\xff" + bytes(20), "no saved world"),
    ],
)
def test_foreign_bytes_are_refused(data: bytes, message: str, other: TowelWorld) -> None:
    with pytest.raises(ValueError, match=message):
        other.restore(data)


def test_what_is_cut_off_too_long_or_of_another_kind_is_refused(saved: list[bytes], other: TowelWorld) -> None:
    with pytest.raises(ValueError, match="cut off"):
        other.restore(saved[0][:-1])
    with pytest.raises(ValueError, match="1 bytes too many"):
        other.restore(saved[0] + b"\0")
    with pytest.raises(ValueError, match=r"has format 'vla_rft\.towel_world/9'"):
        other.restore(saved[0].replace(b"towel_world/1", b"towel_world/9"))
    with pytest.raises(ValueError, match=r"\[11, 8\] vertices, this one has \[9, 7\]"):
        TowelWorld(TowelWorldConfig(cloth=(9, 7))).restore(saved[0])


def test_packing_gives_back_what_was_packed() -> None:
    plain = {"a": [1, 2.5, None], "b": {"c": 2**100}}
    arrays = {"x": np.arange(6.0).reshape(2, 3), "y": np.zeros(0, dtype=np.int32)}
    again, values = world_state.unpack(world_state.pack(plain, arrays))
    assert again == plain
    assert all(
        np.array_equal(values[name], array) and values[name].dtype == array.dtype for name, array in arrays.items()
    )
