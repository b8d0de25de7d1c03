"""The one loop that may call `Arm.send`, with an arm that follows with a lag: what moves, what holds, what latches."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import ManualClock
from vla_rft_core.errors import ConnectionLostError, DeviceError, ModeError
from vla_rft_core.geometry import Pose
from vla_rft_core.modes import Mode
from vla_rft_core.safety import Filtered, SafetyFilter
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.types import ActionChunk, ArmState, GripperState, SetPoint, Source
from vla_rft_hardware.protocols import Arm, Gripper
from vla_rft_hardware.servo_loop import ServoLoop, ServoReport

MS = 1_000_000
DOWN = np.array([0.0, 1.0, 0.0, 0.0])
PROFILE = SafetyProfile(
    name="test",
    workspace_low=(0.3, -0.5, 0.0),
    workspace_high=(0.9, 0.5, 0.7),
    table_height=0.0,
    table_clearance=0.005,
    joint_low=(-2.7,) * 7,
    joint_high=(2.7,) * 7,
)
MAX_STEP = PROFILE.max_speed * 0.01 + 1e-6
"""The furthest that the set-point may go in one servo period [m]."""


def pose(x: float = 0.6, y: float = 0.0, z: float = 0.3) -> Pose:
    return Pose(np.array([x, y, z]), DOWN)


class LagArm:
    """Goes towards its target with a first-order lag of 40 ms, unless it is stuck; remembers what it was sent."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.here = self.target = pose()
        self.sent: list[Pose] = []
        self.asked = 0
        self.stuck = False
        self.silent_since_ns: int | None = None
        self.dead = ""
        self.stopped = True
        self.measures: dict[str, Any] = {}

    def follow(self, duration_s: float) -> None:
        if not self.stuck:
            self.here = self.here.interpolate(self.target, 1.0 - np.exp(-duration_s / 0.04))

    def state(self) -> ArmState:
        if self.dead == "state":
            raise DeviceError("arm: connection lost")
        stamp_ns = self.clock.realtime_ns() if self.silent_since_ns is None else self.silent_since_ns
        seven, six = np.zeros(7), np.zeros(6)
        state = ArmState(
            stamp_ns=stamp_ns, q=seven, dq=seven, tau_ext=seven, T_base_tcp=self.here, tcp_twist=six, wrench=six
        )
        return replace(state, **self.measures)

    def prepare(self) -> list[str]:
        self.stopped = False
        self.target = self.here
        return ["arm: prepared"]

    def send(self, T_base_tcp: Pose) -> None:
        self.asked += 1
        if self.dead == "gone":
            self.dead = "state"
        if self.stopped or self.dead:
            raise DeviceError("arm: takes no target")
        self.target = T_base_tcp
        self.sent.append(T_base_tcp)

    def stop(self) -> None:
        self.stopped = True
        self.target = self.here

    def close(self) -> None:
        self.stopped = True


class FakeGripper:
    """Is where it was last sent; remembers when it was sent what."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.width = 0.05
        self.moves: list[tuple[int, float]] = []
        self.dead = self.refuses = False

    def state(self) -> GripperState:
        if self.dead:
            raise DeviceError("gripper: gone")
        return GripperState(self.clock.realtime_ns(), self.width, 0.0, False)

    def prepare(self) -> list[str]:
        return ["gripper: prepared"]

    def move(self, width: float) -> None:
        if self.refuses:
            raise DeviceError("gripper: not enabled")
        self.width = width
        self.moves.append((self.clock.monotonic_ns(), width))

    def close(self) -> None:
        self.dead = True


class Rig:
    """A loop over the fakes, and time."""

    def __init__(self, source: Source | None = Source.POLICY, **profile: Any) -> None:
        self.clock = ManualClock(now_ns=1_000 * MS, realtime_offset_ns=10**18)
        self.arm, self.gripper = LagArm(self.clock), FakeGripper(self.clock)
        self.loop = ServoLoop(self.arm, self.gripper, profile=replace(PROFILE, **profile), clock=self.clock)
        self.sequence = 0
        if source is not None:
            self.loop.ready()
            self.loop.activate(source)

    @property
    def now_ns(self) -> int:
        return self.clock.realtime_ns()

    def run(self, duration_ms: int) -> list[ServoReport]:
        """Servo ticks of 10 ms; the arm moves in between."""
        reports = []
        for _ in range(duration_ms // 10):
            self.clock.advance(10 * MS)
            self.arm.follow(0.01)
            reports.append(self.loop.step())
        return reports

    def chunk(
        self, points: list[Pose], *, source: Source = Source.POLICY, width: float = 0.05, **change: Any
    ) -> ActionChunk:
        self.sequence += 1
        made = ActionChunk.from_set_points(
            [SetPoint(p, width) for p in points],
            stamp_ns=self.now_ns,
            period_ns=100 * MS,
            sequence=self.sequence,
            source=source,
            policy_id="p",
        )
        return replace(made, **change)

    def along(self, metres: float, count: int = 8, **change: Any) -> ActionChunk:
        """A chunk that goes `metres` in y, evenly, from the set-point in force."""
        commanded = self.loop.step().state.commanded
        start = commanded.T_base_tcp if commanded else self.arm.here
        return self.chunk([start.moved([0, metres * (i + 1) / count, 0], [0, 0, 0]) for i in range(count)], **change)

    def play(self, chunk: ActionChunk) -> ChunkOutcome:
        outcome = self.loop.submit(chunk)
        assert outcome.accepted, outcome.reason
        return outcome

    @property
    def mode(self) -> Mode:
        return self.loop.status().mode

    def steps(self, since: int = 0) -> np.ndarray:
        """How far each set-point sent is from the one before [m]."""
        points = np.array([p.position for p in self.arm.sent[since:]])
        return np.linalg.norm(np.diff(points, axis=0), axis=1)


def test_the_fakes_are_devices() -> None:
    rig = Rig()
    assert isinstance(rig.arm, Arm) and isinstance(rig.gripper, Gripper)


# --- modes and lease ------------------------------------------------------------------------------------------


def test_in_maintenance_nothing_is_sent() -> None:
    rig = Rig(source=None)
    outcome = rig.loop.submit(rig.chunk([pose(0.61)]))
    assert not outcome.accepted and outcome.reason == "mode: MAINTENANCE moves nothing"
    assert rig.loop.latch("contact") is False
    reports = rig.run(500)
    assert rig.arm.sent == [] and rig.gripper.moves == [] and all(r.sent is None for r in reports)
    with pytest.raises(ModeError, match="set the mode READY first"):
        rig.loop.activate(Source.POLICY)


def test_going_back_to_maintenance_stops_the_arm() -> None:
    rig = Rig()
    rig.play(rig.along(0.1))
    rig.run(200)
    rig.loop.maintain()
    count = len(rig.arm.sent)
    rig.run(500)
    assert rig.arm.stopped and len(rig.arm.sent) == count and rig.mode is Mode.MAINTENANCE


def test_getting_ready_names_the_steps_and_holds_the_measured_pose() -> None:
    rig = Rig(source=None)
    assert rig.loop.ready() == ["arm: prepared", "gripper: prepared", "set-point: seeded from the measured pose"]
    rig.run(300)
    assert [p.position.tolist() for p in rig.arm.sent] == [[0.6, 0.0, 0.3]]
    outcome = rig.loop.submit(rig.chunk([pose(0.61)]))
    assert outcome.reason == "mode: READY moves nothing"


def test_while_preparing_nothing_can_move() -> None:
    rig = Rig(source=None)
    rig.loop.ready()
    refused: list[str] = []

    def prepare() -> list[str]:
        try:
            rig.loop.activate(Source.POLICY)
        except ModeError as error:
            refused.append(str(error))
        rig.run(50)
        return []

    sent = len(rig.arm.sent)
    rig.arm.prepare = prepare  # type: ignore[method-assign]
    rig.loop.ready()
    assert refused == ["policy cannot become active from MAINTENANCE; set the mode READY first"]
    assert len(rig.arm.sent) == sent and rig.mode is Mode.READY


def test_only_the_holder_of_the_lease_plays() -> None:
    rig = Rig(source=Source.TELEOP)
    outcome = rig.loop.submit(rig.along(0.05, source=Source.POLICY))
    assert outcome.reason == "lease: teleop holds it, the chunk is from policy"
    before = len(rig.arm.sent)
    rig.run(300)
    assert len(rig.arm.sent) == before and rig.loop.status().chunks_rejected == 1
    with pytest.raises(ModeError, match="teleop holds the lease"):
        rig.loop.activate(Source.POLICY)
    with pytest.raises(ModeError, match="release the lease first"):
        rig.loop.ready()


def test_a_chunk_older_than_the_one_before_is_refused() -> None:
    rig = Rig()
    rig.play(rig.along(0.05))
    late = rig.chunk([pose()] * 8, stamp_ns=rig.now_ns - MS)
    assert rig.loop.submit(late).reason == "stale: chunk 2 is older than chunk 1, which came before it"
    rig.play(rig.chunk([pose()] * 8))


def test_release_holds_and_does_not_latch() -> None:
    rig = Rig()
    rig.play(rig.along(0.1))
    rig.run(300)
    rig.loop.release()
    here = rig.arm.here
    rig.run(500)
    assert rig.mode is Mode.READY and rig.arm.sent[-1].distance_to(here)[0] < 0.005


def test_a_new_lease_starts_at_the_measured_pose_and_that_is_sent() -> None:
    rig = Rig(source=None)
    rig.loop.ready()
    rig.run(50)
    rig.arm.here = pose(z=0.31)  # somebody pushed it
    rig.loop.activate(Source.POLICY)
    report = rig.run(10)[0]
    assert report.state.commanded is not None
    assert rig.arm.sent[-1].position.tolist() == report.state.commanded.T_base_tcp.position.tolist()
    assert rig.arm.sent[-1].position[2] > 0.305


def test_a_new_lease_forgets_the_chunks_of_the_one_before() -> None:
    rig = Rig()
    rig.play(rig.along(0.05))
    rig.loop.release()
    rig.loop.activate(Source.POLICY)
    rig.play(rig.along(0.05, stamp_ns=rig.now_ns - 20 * MS))


# --- playing --------------------------------------------------------------------------------------------------


def test_a_chunk_is_played_to_its_last_target() -> None:
    rig = Rig()
    rig.play(rig.along(0.08))
    reports = rig.run(800)
    np.testing.assert_allclose(rig.arm.sent[-1].position, [0.6, 0.08, 0.3], atol=1e-9)
    assert rig.steps().max() <= 0.08 / 80 + 4 * 0.0004, "a little more than evenly, to make up for the start from rest"
    assert all(r.requested is not None and r.safe is not None and r.sent is not None for r in reports)
    assert all(r.played is not None and (r.played.sequence, r.played.policy_id) == (1, "p") for r in reports)
    assert reports[0].chunk_received_ns == reports[0].stamp_ns - 10 * MS


def test_requested_safe_and_sent_are_reported_with_the_reason_of_every_difference() -> None:
    rig = Rig()
    rig.play(rig.along(0.6))  # 0.75 m/s, the limit is 0.4
    reports = rig.run(300)
    clipped = [r for r in reports if r.requested and r.safe and r.requested.T_base_tcp is not r.safe.T_base_tcp]
    assert len(clipped) > 20
    assert all(r.reasons and r.reasons[0] in ("speed: set-point slowed down", "acceleration: set-point slowed down")
               for r in clipped)  # fmt: skip
    for r in reports:
        if r.sent is not None and r.safe is not None:
            assert r.sent.T_base_tcp is r.safe.T_base_tcp
            assert r.state.commanded is not None and r.state.commanded.T_base_tcp is r.sent.T_base_tcp
    assert rig.steps().max() <= MAX_STEP


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"positions": np.full((8, 3), np.nan)}, "malformed: target 0 has a position that is not finite"),
        ({"widths": np.full(7, 0.05)}, "malformed: positions, quaternions and widths have shapes"),
        ({"stamp_ns": 0}, "stale: chunk 2 is older than chunk 1, which came before it"),
        ({"stamp_ns": 2 * 10**18}, "stale: stamped"),
        (
            {"stamp_ns": 10**18 + 1100 * MS, "period_ns": 10 * MS},
            "stale: all 8 targets of chunk 2 are late, the last by 20",
        ),
    ],
)
def test_a_bad_chunk_is_refused_and_what_played_goes_on(change: dict[str, Any], reason: str) -> None:
    rig = Rig()
    rig.play(rig.along(0.08))
    rig.run(200)
    outcome = rig.loop.submit(rig.chunk([pose()] * 8, **change))
    assert not outcome.accepted and outcome.reason.startswith(reason)
    rig.run(600)
    np.testing.assert_allclose(rig.arm.sent[-1].position, [0.6, 0.08, 0.3], atol=1e-9)
    assert rig.loop.status().chunks_rejected == 1


def test_a_chunk_too_old_on_arrival_is_refused() -> None:
    rig = Rig()
    outcome = rig.loop.submit(rig.along(0.1, stamp_ns=rig.now_ns - 501 * MS))
    assert (outcome.accepted, outcome.reason) == (False, "stale: 0.501 s old, allowed 0.5 s")
    assert outcome.age_ns == 501 * MS


def test_late_targets_are_counted() -> None:
    rig = Rig()
    assert rig.play(rig.along(0.08, stamp_ns=rig.now_ns - 250 * MS)).targets_late == 2
    assert rig.loop.status().targets_late == 2


def test_a_chunk_outside_the_workspace_stops_at_the_wall() -> None:
    rig = Rig()
    rig.play(rig.chunk([pose(0.6, 0, 0.3 - 0.05 * (i + 1)) for i in range(8)]))
    reports = rig.run(1000)
    assert min(p.position[2] for p in rig.arm.sent) >= 0.005 - 1e-12
    assert any(reason.startswith("table: z") for r in reports for reason in r.reasons)


# --- expiry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [Source.TELEOP, Source.HOME, Source.REPLAY])
def test_when_a_chunk_has_been_played_out_the_measured_pose_is_held(source: Source) -> None:
    rig = Rig(source=source)
    rig.play(rig.along(0.1, count=4, source=source))
    rig.run(600)
    held = rig.run(100)
    assert rig.mode is Mode.ACTIVE and rig.loop.status().source is source
    sent = [r for r in held if r.sent is not None]
    assert len(sent) == 1 and sent[0].sent is not None, "one hold, sent once"
    assert sent[0].sent.T_base_tcp is sent[0].state.arm.T_base_tcp
    assert sent[0].reasons == ("hold: nothing to play",)
    rig.play(rig.along(0.05, source=source))
    assert rig.run(100)[-1].sent is not None, "a fresh chunk goes on"


def test_a_policy_that_falls_silent_is_latched() -> None:
    rig = Rig()
    rig.play(rig.along(0.1, count=4))
    rig.run(900)
    status = rig.loop.status()
    assert (status.mode, status.reason) == (Mode.HOLD_LATCHED, "policy silent: its last chunk has been played out")
    assert np.linalg.norm(rig.arm.sent[-1].position - rig.arm.here.position) < 1e-3


def test_a_policy_that_has_not_yet_spoken_is_not_latched() -> None:
    rig = Rig()
    rig.run(2000)
    assert rig.mode is Mode.ACTIVE


# --- latching -------------------------------------------------------------------------------------------------


def moving_rig(**profile: Any) -> Rig:
    rig = Rig(**profile)
    rig.play(rig.along(0.2))
    rig.run(300)
    assert rig.mode is Mode.ACTIVE
    return rig


def test_a_latched_hold_ignores_chunks_and_survives_until_rearmed() -> None:
    rig = moving_rig()
    assert rig.loop.latch("watchdog: camera silent") is True
    assert rig.loop.latch("second") is False
    outcome = rig.loop.submit(rig.chunk([pose()] * 8))
    assert outcome.reason == "mode: HOLD_LATCHED (watchdog: camera silent) moves nothing"
    rig.run(3000)
    assert rig.loop.status().reason == "watchdog: camera silent"
    assert rig.arm.here.distance_to(rig.arm.sent[-1])[0] < 1e-6
    for refused in (lambda: rig.loop.activate(Source.POLICY), rig.loop.ready, rig.loop.maintain):
        with pytest.raises(ModeError, match="re-arm first"):
            refused()
    with pytest.raises(ModeError, match="from 'remote' is refused"):
        rig.loop.rearm("remote")
    rig.loop.rearm("terminal")
    count = len(rig.arm.sent)
    rig.run(500)
    assert rig.mode is Mode.READY and len(rig.arm.sent) <= count + 1, "re-arming moves nothing"
    rig.loop.activate(Source.POLICY)
    rig.play(rig.along(0.05))
    rig.run(200)
    assert rig.steps(count).max() <= MAX_STEP


@pytest.mark.parametrize(
    ("measures", "reason"),
    [
        ({"wrench": np.array([0, 0, 31.0, 0, 0, 0])}, "contact: 31.0 N, 0.0 Nm (limits 30 N, 8 Nm)"),
        ({"q": np.full(7, 2.8)}, "joint 1 at 2.800 rad nears its limit"),
        ({"T_base_tcp": pose(0.95)}, "workspace left: tcp at (0.950, 0.000, 0.300) m"),
    ],
)
def test_an_alarm_latches_and_cannot_be_rearmed_while_it_lasts(measures: dict[str, Any], reason: str) -> None:
    rig = moving_rig()
    rig.arm.measures = measures
    (report,) = rig.run(10)
    assert rig.loop.status().reason.startswith(reason)
    assert report.sent is not None and report.sent.T_base_tcp is report.state.arm.T_base_tcp
    assert report.reasons[-1].startswith(f"hold: {reason}")
    with pytest.raises(ModeError, match="re-arming is refused while the cause persists"):
        rig.loop.rearm("terminal")
    rig.arm.measures = {}
    rig.run(10)
    assert rig.mode is Mode.HOLD_LATCHED, "the cause is gone, the hold is not"
    rig.loop.rearm("terminal")
    assert rig.mode is Mode.READY


def test_a_faulted_arm_is_sent_nothing_and_comes_back_through_maintenance() -> None:
    rig = moving_rig()
    rig.arm.measures = {"operational": False, "fault": "emergency stop"}
    rig.arm.stop()  # it takes no target any more: sending one would raise
    count, asked = len(rig.arm.sent), rig.arm.asked
    reports = rig.run(300)
    assert rig.loop.status().reason == "device fault: emergency stop"
    assert rig.arm.asked == asked and all(r.sent is None for r in reports)
    rig.loop.rearm("terminal")
    assert rig.mode is Mode.MAINTENANCE, "only preparing clears a fault"
    rig.run(100)
    rig.arm.measures = {}
    rig.loop.ready()
    rig.run(100)
    assert rig.mode is Mode.READY and len(rig.arm.sent) == count + 1


def test_an_arm_that_does_not_follow_latches_within_the_lead_limit() -> None:
    rig = Rig()
    rig.arm.stuck = True
    rig.play(rig.along(0.3))
    rig.run(800)
    assert rig.loop.status().reason.startswith("lead: set-point 0.05")
    furthest = max(p.distance_to(rig.arm.here)[0] for p in rig.arm.sent)
    assert furthest <= PROFILE.max_lead + 1e-9
    assert rig.arm.sent[-1].distance_to(rig.arm.here)[0] < 1e-12, "it ends holding the measured pose"


def test_a_stale_robot_state_latches() -> None:
    rig = Rig()
    rig.arm.silent_since_ns = rig.now_ns
    rig.run(200)
    assert rig.mode is Mode.ACTIVE
    rig.run(10)
    assert rig.loop.status().reason == "state: robot state is 0.210 s old (limit 0.2 s)"


def test_rearming_starts_from_where_the_arm_is_by_then() -> None:
    rig = moving_rig()
    rig.loop.latch("test")
    rig.run(100)
    rig.arm.stuck, rig.arm.here = True, pose(0.7, 0.1)  # moved by hand, far beyond the lead limit
    rig.run(100)
    rig.loop.rearm("terminal")
    commanded = rig.loop.step().state.commanded
    assert commanded is not None and commanded.T_base_tcp.position.tolist() == [0.7, 0.1, 0.3]
    rig.loop.activate(Source.TELEOP)
    rig.play(rig.along(0.01, source=Source.TELEOP))
    rig.run(100)
    assert rig.mode is Mode.ACTIVE


@pytest.mark.parametrize("jump_s", [0.06, -0.06, 3600.0, -3600.0])
def test_a_clock_jump_latches(jump_s: float) -> None:
    rig = moving_rig()
    rig.clock.realtime_offset_ns += round(jump_s * 1e9)
    rig.run(20)
    assert rig.loop.status().reason == f"clock: the host's time jumped by {jump_s:+.3f} s"


@pytest.mark.parametrize("stall_ms", [150, 400, 3000])
@pytest.mark.parametrize("source", [Source.TELEOP, Source.POLICY])
def test_after_a_stall_what_is_overdue_is_dropped_and_the_arm_holds_until_a_fresh_chunk(
    stall_ms: int, source: Source
) -> None:
    rig = Rig(source=source)
    rig.play(rig.along(0.3, count=40, source=source))
    rig.run(300)
    since = len(rig.arm.sent) - 1
    rig.clock.advance(stall_ms * MS)  # nothing runs; the arm finishes its last target
    rig.arm.follow(stall_ms / 1000)
    (report,) = rig.run(10)
    assert report.reasons == ("hold: nothing to play",) and rig.mode is Mode.ACTIVE
    rig.run(300)
    assert len(rig.arm.sent) == since + 2, "one hold, no burst"
    assert rig.arm.sent[-1].distance_to(rig.arm.sent[since])[0] < 0.01
    rig.play(rig.along(0.05, source=source))
    rig.run(500)
    assert rig.steps(since + 1).max() <= MAX_STEP


def test_a_hold_stays_where_it_is_through_a_stall() -> None:
    """Were each stall to hold the measured pose anew, an arm that sags a little would creep down with every one."""
    rig = Rig()
    rig.run(100)
    rig.arm.measures = {"T_base_tcp": pose(z=0.299)}
    for _ in range(5):
        rig.clock.advance(500 * MS)
        rig.run(20)
    assert [p.position.tolist() for p in rig.arm.sent] == [[0.6, 0.0, 0.3]]


def test_a_chunk_that_waited_through_the_stall_makes_no_jump() -> None:
    rig = moving_rig()
    since = len(rig.arm.sent) - 1
    rig.clock.advance(3000 * MS)
    rig.arm.follow(3.0)
    rig.loop.submit(rig.chunk([pose(0.6, 0.4)] * 8))
    rig.run(300)
    assert rig.steps(since).max() <= 0.01


# --- take-over ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silence_ms", [0, 50, 150])
def test_a_take_over_goes_on_from_the_set_point_in_force(silence_ms: int) -> None:
    rig = moving_rig()
    since = len(rig.arm.sent) - 1
    in_force = rig.arm.sent[-1]
    lead = in_force.distance_to(rig.arm.here)[0]
    assert lead > 0.005, "the arm lags, so that a hold at the measured pose would be seen as a jump back"
    rig.loop.activate(Source.TELEOP)
    assert rig.loop.status().source is Source.TELEOP
    reports = rig.run(silence_ms)
    assert all(r.sent is not None and r.sent.T_base_tcp.distance_to(in_force)[0] < 1e-12 for r in reports)
    assert rig.loop.submit(rig.chunk([pose()])).reason == "lease: teleop holds it, the chunk is from policy"
    for _ in range(5):
        rig.play(rig.along(0.01, count=1, source=Source.TELEOP))
        rig.run(100)
    assert rig.steps(since).max() <= MAX_STEP
    assert rig.arm.sent[-1].position[1] == pytest.approx(in_force.position[1] + 0.05, abs=0.002)


def test_a_chunk_that_has_not_begun_does_not_play_after_a_take_over() -> None:
    rig = Rig()
    rig.run(50)
    rig.play(rig.along(0.2))
    rig.loop.activate(Source.TELEOP)
    rig.run(1000)
    assert {tuple(p.position) for p in rig.arm.sent} == {(0.6, 0.0, 0.3)}


def test_a_take_over_without_a_chunk_ends_in_a_hold() -> None:
    rig = moving_rig()
    rig.loop.activate(Source.TELEOP)
    reports = rig.run(500)
    assert reports[-1].sent is None and rig.mode is Mode.ACTIVE
    assert rig.arm.here.distance_to(rig.arm.sent[-1])[0] < 1e-3


# --- gripper --------------------------------------------------------------------------------------------------


def test_the_gripper_goes_out_beyond_its_deadband_only() -> None:
    rig = Rig()
    rig.play(rig.chunk([pose()] * 8, width=0.0451))
    rig.run(400)
    assert rig.gripper.moves == []
    rig.play(rig.chunk([pose()] * 8, width=0.0449))
    reports = rig.run(400)
    assert [width for _, width in rig.gripper.moves] == [0.0449]
    assert reports[-1].sent is not None and reports[-1].sent.width == 0.0449


def test_the_gripper_goes_out_at_most_five_times_a_second() -> None:
    rig = Rig(source=Source.TELEOP)
    for i in range(40):
        rig.play(rig.chunk([pose()], source=Source.TELEOP, width=0.02 + 0.03 * (i % 2)))
        rig.run(50)
    times = np.array([t for t, _ in rig.gripper.moves])
    assert 2 <= len(times) <= 11 and np.diff(times).min() >= 200 * MS


def test_the_last_width_gets_out_even_when_it_came_too_soon() -> None:
    rig = Rig()
    rig.play(rig.chunk([pose()] * 8, width=0.03))
    rig.run(20)
    rig.play(rig.chunk([pose()] * 8, width=0.01))
    rig.run(400)
    assert [width for _, width in rig.gripper.moves] == [0.03, 0.01]


@pytest.mark.parametrize("way", ["expiry", "latch", "alarm", "stall", "release", "take-over"])
def test_no_hold_opens_the_hand(way: str) -> None:
    rig = Rig(source=Source.REPLAY)
    rig.play(rig.chunk([pose()] * 4, source=Source.REPLAY, width=0.0))
    rig.run(300)
    rig.gripper.width = 0.012  # the fingers stand on the towel
    if way == "latch":
        rig.loop.latch("test")
    elif way == "alarm":
        rig.arm.measures = {"wrench": np.full(6, 50.0)}
    elif way == "stall":
        rig.clock.advance(3000 * MS)
    elif way == "release":
        rig.loop.release()
    elif way == "take-over":
        rig.loop.activate(Source.TELEOP)
    rig.run(1000)
    rig.arm.measures = {}
    if rig.mode is Mode.HOLD_LATCHED:
        rig.loop.rearm("terminal")
    if rig.mode is Mode.READY:
        rig.loop.activate(Source.TELEOP)
    report = rig.run(300)[-1]
    assert [width for _, width in rig.gripper.moves] == [0.0]
    assert report.state.reference.width == 0.0, "what follows starts from the closed hand"


# --- devices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead", ["state", "gone"])
def test_a_dead_arm_ends_the_loop(dead: str) -> None:
    rig = moving_rig()
    rig.arm.dead = dead
    with pytest.raises(DeviceError, match="arm: connection lost"):
        rig.run(10)


@pytest.mark.parametrize("source", [None, Source.TELEOP])
@pytest.mark.parametrize("playing", [True, False])
def test_an_arm_that_answers_but_refuses_a_target_latches(source: Source | None, playing: bool) -> None:
    rig = Rig(source=source)
    if source is None:
        rig.loop.ready()
    elif playing:
        rig.play(rig.along(0.1, source=source))
    rig.arm.dead = "send"
    count = len(rig.arm.sent)
    reports = rig.run(300)
    assert rig.loop.status().reason == "device fault: arm: takes no target"
    assert all(r.sent is None for r in reports) and len(rig.arm.sent) == count


def test_a_gripper_that_answers_but_refuses_latches() -> None:
    rig = Rig()
    rig.gripper.refuses = True
    rig.play(rig.chunk([pose()] * 4, width=0.0))
    rig.run(10)
    assert rig.loop.status().reason == "device fault: gripper: not enabled"
    assert rig.gripper.moves == []


def test_a_lost_connection_latches_and_the_loop_waits_to_be_made_ready_again() -> None:
    rig = Rig()
    rig.play(rig.along(0.1))
    rig.run(50)
    answers = rig.arm.state

    def lost() -> None:
        raise ConnectionLostError("the cable is out")

    rig.arm.state = lost
    rig.run(50)
    assert rig.loop.status().reason == "device fault: the cable is out"
    assert not rig.loop.status().connected
    rig.arm.state = answers
    rig.run(50)
    assert rig.loop.status().connected
    assert rig.loop.status().mode is Mode.HOLD_LATCHED  # reconnecting never resumes motion


def test_a_dead_gripper_ends_the_loop() -> None:
    rig = Rig()
    rig.play(rig.chunk([pose()] * 4, width=0.0))
    rig.gripper.dead = True
    with pytest.raises(DeviceError, match="gripper: gone"):
        rig.run(10)


def test_a_device_that_cannot_be_prepared_leaves_maintenance() -> None:
    rig = Rig(source=None)
    rig.arm.dead = "state"
    with pytest.raises(DeviceError):
        rig.loop.ready()
    assert rig.arm.sent == []


# --- laws -----------------------------------------------------------------------------------------------------


class SpyFilter(SafetyFilter):
    """Remembers what it allowed."""

    def __init__(self, profile: SafetyProfile) -> None:
        super().__init__(profile)
        self.allowed: list[Pose] = []

    def apply(self, set_point: SetPoint, **situation: Any) -> Filtered:
        out = super().apply(set_point, **situation)
        self.allowed.append(out.safe.T_base_tcp)
        return out


random_chunks = st.lists(
    st.tuples(
        arrays(np.float64, (4, 3), elements=st.floats(-0.08, 0.08)),
        st.sampled_from([Source.POLICY, Source.TELEOP]),
        st.integers(-60, 300),
        st.integers(0, 40),
        st.floats(-0.1, 0.2),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(random_chunks, st.booleans())
def test_every_set_point_sent_came_through_the_filter_or_is_the_measured_pose(
    submitted: list[tuple[np.ndarray, Source, int, int, float]], teleop: bool
) -> None:
    rig = Rig(source=Source.TELEOP if teleop else Source.POLICY)
    spy = SpyFilter(PROFILE)
    rig.loop._filter = spy
    for deltas, source, age_ms, ticks, width in submitted:
        points = [rig.arm.here.moved(step, [0, 0, 0]) for step in np.cumsum(deltas, axis=0)]
        rig.loop.submit(rig.chunk(points, source=source, width=width, stamp_ns=rig.now_ns - age_ms * MS))
        for _ in range(ticks):
            before = len(rig.arm.sent)
            (report,) = rig.run(10)
            assert len(rig.arm.sent) - before == (report.sent is not None)
            if report.sent is None:
                continue
            sent = rig.arm.sent[-1]
            held = any(reason.startswith("hold: ") for reason in report.reasons)
            assert sent is (report.state.arm.T_base_tcp if held else spy.allowed[-1])
            assert held == (report.played is None or rig.mode is Mode.HOLD_LATCHED)
            assert sent.distance_to(rig.arm.here)[0] <= PROFILE.max_lead + 1e-9
            assert 0.0 <= report.sent.width <= 0.1


def test_a_chunk_waits_for_the_tick_that_is_under_way() -> None:
    rig = moving_rig()
    waiting: list[threading.Thread] = []
    chunk = rig.along(0.1)
    send = rig.arm.send

    def send_meanwhile(T_base_tcp: Pose) -> None:
        send(T_base_tcp)
        waiting.append(threading.Thread(target=rig.loop.submit, args=(chunk,)))
        waiting[-1].start()
        waiting[-1].join(timeout=0.1)
        assert waiting[-1].is_alive(), "it must not change what plays in the middle of a tick"

    rig.arm.send = send_meanwhile  # type: ignore[method-assign]
    rig.run(10)
    waiting[0].join(timeout=10.0)
    assert rig.loop.status().chunks_accepted == 2


def test_chunks_may_come_from_one_thread_while_another_steps() -> None:
    """Chunks, modes and latches from three threads against a running loop: no exception, no jump, no lost count."""
    rig = Rig(source=Source.TELEOP)
    done = threading.Event()
    errors: list[BaseException] = []
    accepted: list[bool] = []

    def guarded(work: Any) -> threading.Thread:
        def run() -> None:
            try:
                while not done.is_set():
                    work()
            except BaseException as error:
                errors.append(error)
                done.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def submit() -> None:
        reference = rig.loop.status(), rig.arm.target
        accepted.append(rig.loop.submit(rig.chunk([reference[1]] * 3, source=Source.TELEOP)).accepted)

    def disturb() -> None:
        rig.loop.latch("test")
        rig.loop.rearm("terminal")
        rig.loop.activate(Source.TELEOP)
        rig.loop.release()
        rig.loop.activate(Source.TELEOP)

    threads = [guarded(submit), guarded(disturb)]
    for _ in range(60):
        rig.run(10)
    done.set()
    for thread in threads:
        thread.join(timeout=10.0)
    assert errors == [] and not any(thread.is_alive() for thread in threads)
    status = rig.loop.status()
    assert status.chunks_accepted + status.chunks_rejected == len(accepted)
    assert status.chunks_accepted == sum(accepted)
    assert rig.steps().max(initial=0.0) < 1e-6, "nobody asked for motion"
