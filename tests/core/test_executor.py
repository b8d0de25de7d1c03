"""The chunk executor: due times, splices, expiry, and what is between two targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_rft_core.executor import ChunkExecutor, ExecutorConfig, Played
from vla_rft_core.geometry import Pose, rotation_angle
from vla_rft_core.types import ActionChunk, SetPoint, Source

MS = 1_000_000
DOWN = np.array([0.0, 1.0, 0.0, 0.0])


def at(x: float, y: float = 0.0, *, yaw: float = 0.0, width: float = 0.05) -> SetPoint:
    turn = Rotation.from_rotvec([0, 0, yaw]) * Rotation.from_quat(DOWN)
    return SetPoint(Pose(np.array([x, y, 0.3]), turn.as_quat()), width)


def chunk(
    points: list[SetPoint], stamp_ms: int = 0, period_ms: int = 100, sequence: int = 1, source: Source = Source.POLICY
) -> ActionChunk:
    return ActionChunk.from_set_points(
        points, stamp_ns=stamp_ms * MS, period_ns=period_ms * MS, sequence=sequence, source=source, policy_id="p"
    )


def line(xs: list[float], **where: int) -> ActionChunk:
    return chunk([at(x) for x in xs], **where)


def playing(executor: ChunkExecutor, ms: float) -> Played:
    played = executor.sample(round(ms * MS))
    assert played is not None
    return played


def x_at(executor: ChunkExecutor, ms: float) -> float:
    return float(playing(executor, ms).set_point.T_base_tcp.position[0])


def test_targets_are_reached_when_they_are_due() -> None:
    executor = ChunkExecutor()
    assert executor.splice(line([0.1, 0.3, 0.4]), now_ns=0, reference=at(0.0)) == 0
    assert [round(x_at(executor, ms), 9) for ms in (0, 50, 100, 150, 200, 250, 300)] == [
        0.0, 0.05, 0.1, 0.2, 0.3, 0.35, 0.4,
    ]  # fmt: skip


def test_orientations_go_by_slerp_at_constant_speed() -> None:
    executor = ChunkExecutor()
    executor.splice(chunk([at(0.1, yaw=0.4)]), now_ns=0, reference=at(0.0))
    for ms in (0, 25, 60, 100):
        assert rotation_angle(DOWN, playing(executor, ms).set_point.T_base_tcp.quaternion) == pytest.approx(0.004 * ms)


def test_late_targets_are_dropped_and_counted() -> None:
    executor = ChunkExecutor()
    assert executor.splice(line([0.1, 0.2, 0.3, 0.4]), now_ns=250 * MS, reference=at(0.2)) == 2
    assert x_at(executor, 250) == 0.2
    assert x_at(executor, 275) == pytest.approx(0.25) and x_at(executor, 300) == pytest.approx(0.3)


def test_a_target_due_now_is_late() -> None:
    executor = ChunkExecutor()
    assert executor.splice(line([0.1, 0.2]), now_ns=100 * MS, reference=at(0.1)) == 1


def test_a_chunk_that_is_late_altogether_is_refused_and_changes_nothing() -> None:
    executor = ChunkExecutor()
    executor.splice(line([0.1, 0.2, 0.3]), now_ns=0, reference=at(0.0))
    with pytest.raises(ValueError, match="all 2 targets of chunk 7 are late, the last by 50 ms"):
        executor.splice(line([5.0, 6.0], stamp_ms=-200, sequence=7), now_ns=50 * MS, reference=at(0.0))
    assert x_at(executor, 250) == pytest.approx(0.25)


def test_nothing_plays_before_the_first_chunk_and_after_clear() -> None:
    executor = ChunkExecutor()
    assert executor.sample(0) is None
    executor.splice(line([0.1]), now_ns=0, reference=at(0.0))
    executor.clear()
    assert executor.sample(50 * MS) is None


def test_the_last_target_is_kept_for_the_grace_time_and_then_nothing_plays() -> None:
    executor = ChunkExecutor(ExecutorConfig(grace_s=0.2))
    executor.splice(line([0.1, 0.2]), now_ns=0, reference=at(0.0))
    assert x_at(executor, 400) == 0.2
    assert executor.sample(400 * MS + 1) is None


def test_after_expiry_playing_starts_from_the_reference_again() -> None:
    executor = ChunkExecutor()
    executor.splice(line([0.1]), now_ns=0, reference=at(0.0))
    executor.splice(line([1.0], stamp_ms=500), now_ns=500 * MS, reference=at(0.6))
    assert x_at(executor, 500) == 0.6 and x_at(executor, 550) == pytest.approx(0.8)


def test_a_splice_keeps_what_plays_up_to_the_first_new_target() -> None:
    executor = ChunkExecutor()
    executor.splice(line([0.1, 0.3, 0.4, 0.5], sequence=1), now_ns=0, reference=at(0.0))
    before = [x_at(executor, ms) for ms in (120, 150, 180, 200)]
    executor = ChunkExecutor()
    executor.splice(line([0.1, 0.3, 0.4, 0.5], sequence=1), now_ns=0, reference=at(0.0))
    executor.splice(line([0.9, 1.0], stamp_ms=110, period_ms=150, sequence=2), now_ns=120 * MS, reference=at(9.0))
    assert [x_at(executor, ms) for ms in (120, 150, 180, 200)] == pytest.approx(before)
    assert playing(executor, 200).sequence == 2 and x_at(executor, 200) == pytest.approx(0.3)
    assert x_at(executor, 230) == pytest.approx(0.6) and x_at(executor, 260) == pytest.approx(0.9)
    assert x_at(executor, 410) == pytest.approx(1.0)


def test_what_is_played_names_its_chunk() -> None:
    executor = ChunkExecutor()
    executor.splice(line([0.1, 0.2], sequence=4), now_ns=0, reference=at(0.0))
    executor.splice(line([0.3], stamp_ms=50, sequence=5, source=Source.TELEOP), now_ns=60 * MS, reference=at(0.0))
    assert (playing(executor, 80).sequence, playing(executor, 80).source) == (4, Source.POLICY)
    assert (playing(executor, 120).sequence, playing(executor, 120).source) == (5, Source.TELEOP)
    assert playing(executor, 120).policy_id == "p"


def test_the_width_steps_at_the_start_of_a_segment() -> None:
    executor = ChunkExecutor()
    executor.splice(chunk([at(0.1, width=0.04), at(0.2, width=0.01)]), now_ns=0, reference=at(0.0, width=0.08))
    assert [playing(executor, ms).set_point.width for ms in (0, 50, 99, 100, 150, 300)] == [
        0.04, 0.04, 0.04, 0.01, 0.01, 0.01,
    ]  # fmt: skip


coordinates = st.floats(-0.5, 0.5)
paths = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(3)), elements=coordinates)
interpolations = st.sampled_from(["linear", "cubic"])


def path_chunk(path: np.ndarray, stamp_ms: int, period_ms: int, sequence: int = 1) -> ActionChunk:
    return chunk([SetPoint(Pose(p, DOWN), 0.05) for p in path], stamp_ms, period_ms, sequence)


@given(interpolations, paths, paths, st.integers(0, 500), st.integers(0, 250), st.integers(20, 150))
def test_a_splice_never_jumps(
    how: str, first: np.ndarray, second: np.ndarray, now_ms: int, age_ms: int, period_ms: int
) -> None:
    executor = ChunkExecutor(ExecutorConfig(interpolation=how))
    reference = at(0.0)
    executor.splice(path_chunk(first, 0, 100), now_ns=0, reference=reference)
    before = executor.sample(now_ms * MS)
    in_force = before.set_point if before else reference
    try:
        executor.splice(path_chunk(second, now_ms - age_ms, period_ms, 2), now_ns=now_ms * MS, reference=in_force)
    except ValueError:
        after = executor.sample(now_ms * MS)
        assert (after is None) == (before is None)
        return
    np.testing.assert_allclose(
        playing(executor, now_ms).set_point.T_base_tcp.position, in_force.T_base_tcp.position, atol=1e-12
    )
    step = np.abs(np.array([x_at(executor, now_ms + 1e-3)]) - in_force.T_base_tcp.position[0]).max()
    assert step < 1e-3 * 4.0, "a microsecond later it is still there"


@given(paths, st.lists(st.integers(0, 800), min_size=1, max_size=20))
def test_linear_samples_stay_within_the_bounds_of_the_knots(path: np.ndarray, times_ms: list[int]) -> None:
    executor = ChunkExecutor()
    reference = at(0.0)
    executor.splice(path_chunk(path, 0, 100), now_ns=0, reference=reference)
    knots = np.vstack([reference.T_base_tcp.position, path])
    for ms in sorted(times_ms):
        played = executor.sample(ms * MS)
        assert (played is None) == (ms > 100 * len(path) + 200)
        if played is not None:
            position = played.set_point.T_base_tcp.position
            assert (position >= knots.min(axis=0) - 1e-12).all() and (position <= knots.max(axis=0) + 1e-12).all()


@given(interpolations, paths)
def test_every_target_is_passed_through(how: str, path: np.ndarray) -> None:
    executor = ChunkExecutor(ExecutorConfig(interpolation=how))
    executor.splice(path_chunk(path, 0, 100), now_ns=0, reference=at(0.0))
    for i, target in enumerate(path):
        for ms in (100 * (i + 1) - 1e-6, 100 * (i + 1)):
            np.testing.assert_allclose(playing(executor, ms).set_point.T_base_tcp.position, target, atol=1e-6)


def velocity(executor: ChunkExecutor, ms: float) -> np.ndarray:
    h = 0.01
    a, b = (playing(executor, t).set_point.T_base_tcp.position for t in (ms, ms + h))
    return (b - a) / h * 1000.0


@given(paths, st.floats(20.0, 480.0))
def test_the_cubic_has_a_continuous_velocity(path: np.ndarray, splice_ms: float) -> None:
    executor = ChunkExecutor(ExecutorConfig(interpolation="cubic"))
    executor.splice(path_chunk(path, 0, 100), now_ns=0, reference=at(0.0))
    np.testing.assert_allclose(velocity(executor, 0.0), np.zeros(3), atol=0.05)  # it starts from rest
    for i in range(len(path) - 1):
        due_ms = 100.0 * (i + 1)
        before, after = velocity(executor, due_ms - 0.01), velocity(executor, due_ms)
        np.testing.assert_allclose(before, after, atol=0.05)
    last_ms = 100.0 * len(path)
    np.testing.assert_allclose(velocity(executor, last_ms - 0.01), np.zeros(3), atol=0.05)  # and comes to rest


def test_the_cubic_keeps_its_velocity_across_a_splice() -> None:
    executor = ChunkExecutor(ExecutorConfig(interpolation="cubic"))
    executor.splice(line([0.02, 0.05, 0.06, 0.06]), now_ns=0, reference=at(0.0))
    before = velocity(executor, 149.98)[0]
    executor.splice(line([0.09, 0.1], stamp_ms=140, sequence=2), now_ns=150 * MS, reference=at(0.0))
    assert velocity(executor, 150.0)[0] == pytest.approx(before, rel=0.02)


def test_reproducing_a_recording() -> None:
    """Set-points sampled at the control rate, handed back as chunks, are played back as they were."""
    rng = np.random.default_rng(1)
    recorded = [at(*xy) for xy in np.cumsum(rng.normal(0, 0.01, (24, 2)), axis=0)]
    executor = ChunkExecutor()
    for k in range(0, 20, 4):  # a chunk of 8 every 4 periods: the second half of each is replaced by the same values
        reference = recorded[k - 1] if k else at(0.0)
        executor.splice(
            chunk(recorded[k : k + 8], stamp_ms=100 * k, sequence=k), now_ns=100 * k * MS, reference=reference
        )
        for i in range(k, k + 4):
            x = recorded[i].T_base_tcp.position[0]
            assert x_at(executor, 100 * (i + 1)) == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interpolation": "spline"}, "interpolation: must be 'linear' or 'cubic', got 'spline'"),
        ({"grace_s": -0.1}, "grace_s: must be between 0 and 1 s, got -0.1"),
        ({"grace_s": math.nan}, "grace_s: must be between 0 and 1 s, got nan"),
    ],
)
def test_a_wrong_configuration_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExecutorConfig(**values)
