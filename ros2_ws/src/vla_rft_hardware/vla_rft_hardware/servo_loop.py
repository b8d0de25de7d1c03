"""ServoLoop: the only caller of `Arm.send`. Chunks go in; at the servo rate one filtered set-point goes out.

It owns the mode, the lease and the hold. Whoever runs it calls `step` at its period (a thread on the robot, simulated
time in-process) and hands over chunks as they come. It knows nothing of ROS and never sleeps.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import Clock, ClockJumpDetector, nanoseconds, seconds
from vla_rft_core.errors import ConnectionLostError, DeviceError, ModeError
from vla_rft_core.executor import ChunkExecutor, ExecutorConfig, Played
from vla_rft_core.modes import Mode, ModeMachine
from vla_rft_core.safety import Action, Filtered, Motion, SafetyFilter
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.types import ActionChunk, ArmState, GripperState, RobotState, SetPoint, Source
from vla_rft_hardware.protocols import Arm, Gripper

SERVO_PERIOD_S = 0.01


@dataclass(frozen=True, eq=False)
class ServoReport:
    """One servo tick: what was asked for, what was allowed, what was sent, and every reason for a difference."""

    stamp_ns: int
    """When the set-point went out."""
    state: RobotState
    """As measured at the start of the tick; `commanded` is the set-point in force after it."""
    requested: SetPoint | None
    """What the chunk asked for; None when nothing played."""
    safe: SetPoint | None
    """What the filter allowed."""
    sent: SetPoint | None
    """What went to the devices in this tick; None when nothing did. Its width is the one last delivered."""
    played: Played | None
    reasons: tuple[str, ...]
    chunk_received_ns: int
    """When the chunk that plays had arrived (stamp); 0 when nothing plays."""
    devices_s: float
    """How long the devices' calls took in this tick."""


@dataclass(frozen=True)
class ServoStatus:
    """The loop in words and counts."""

    mode: Mode
    source: Source | None
    reason: str
    chunks_accepted: int
    chunks_rejected: int
    targets_late: int
    connected: bool
    """The devices answer; if not, `ready` may connect anew."""


class ServoLoop:
    """Executor, safety filter and mode machine around one arm and its gripper. Call its methods from any thread."""

    def __init__(
        self,
        arm: Arm,
        gripper: Gripper,
        *,
        profile: SafetyProfile,
        clock: Clock,
        executor: ExecutorConfig | None = None,
        period_s: float = SERVO_PERIOD_S,
    ) -> None:
        self._arm, self._gripper = arm, gripper
        self._profile, self._clock = profile, clock
        self._period_s = period_s
        self._executor = ChunkExecutor(executor or ExecutorConfig())
        self._filter = SafetyFilter(profile)
        self._modes = ModeMachine()
        self._jumps = ClockJumpDetector(clock)
        self._lock = threading.RLock()
        self._motion: Motion | None = None
        self._last_state: tuple[ArmState, GripperState] | None = None
        self._connected = True
        self._holding = False  # the present hold's set-point has been sent
        self._playing = False  # the last tick sent a target of a chunk
        self._last_step_ns = clock.monotonic_ns()
        self._last_chunk: ActionChunk | None = None
        self._received = (0, 0)  # sequence and arrival stamp of the newest chunk
        self._width_sent_ns = 0
        self._devices_ns = 0  # spent in the devices' calls since the tick began
        self._accepted = self._rejected = self._late = 0

    # --- chunks -----------------------------------------------------------------------------------------------

    def submit(self, chunk: ActionChunk) -> ChunkOutcome:
        """Judge a chunk on arrival and let it play; the outcome says why when it may not."""
        with self._lock:
            now_ns = self._clock.realtime_ns()
            reason = self._refuse(chunk, now_ns)
            late = 0
            if not reason and self._motion is not None:
                try:
                    late = self._executor.splice(chunk, now_ns=now_ns, reference=self._motion.set_point)
                except ValueError as error:
                    reason = f"stale: {error}"
            if reason:
                self._rejected += 1
            else:
                self._accepted += 1
                self._late += late
                self._last_chunk = chunk
                self._received = (chunk.sequence, now_ns)
            return ChunkOutcome(
                sequence=chunk.sequence,
                accepted=not reason,
                reason=reason,
                targets_late=late,
                age_ns=now_ns - chunk.stamp_ns,
            )

    def _refuse(self, chunk: ActionChunk, now_ns: int) -> str:
        modes = self._modes
        if modes.mode is not Mode.ACTIVE or self._motion is None:
            return f"mode: {modes.mode}{f' ({modes.reason})' if modes.reason else ''} moves nothing"
        if chunk.source is not modes.source:
            return f"lease: {modes.source} holds it, the chunk is from {chunk.source}"
        last = self._last_chunk
        if last is not None and last.source is chunk.source and chunk.stamp_ns < last.stamp_ns:
            return f"stale: chunk {chunk.sequence} is older than chunk {last.sequence}, which came before it"
        return self._filter.judge_chunk(chunk, now_ns=now_ns)

    # --- modes ------------------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Prepare the devices and enter READY: the steps done, in words. ModeError when ACTIVE or latched."""
        with self._lock:
            self._modes.ready()
            self._modes.maintain()
            self._motion = None
        # Preparing may take many seconds; nothing is sent meanwhile, because nobody can leave MAINTENANCE but us.
        steps = [*self._arm.prepare(), *self._gripper.prepare()]
        with self._lock:
            self._modes.ready()
            self._seed(self._measure())
            self._stop_playing()
        return [*steps, "set-point: seeded from the measured pose"]

    def activate(self, source: Source) -> None:
        """Give the lease to `source`.

        From READY its set-point starts at the measured pose; a take-over goes on from what plays.
        """
        with self._lock:
            taken_over = self._modes.mode is Mode.ACTIVE and self._modes.source is not source
            fresh = self._modes.mode is Mode.READY
            self._modes.activate(source)
            if fresh:
                self._seed(self._measure())
            if fresh or taken_over:
                self._executor.clear()
                self._last_chunk = None
            if taken_over and self._playing:
                self._stay(source)

    def release(self) -> None:
        """The holder gives the lease back; the arm holds the measured pose."""
        with self._lock:
            if self._modes.mode is Mode.ACTIVE:
                self._modes.release()
                self._stop_playing()

    def maintain(self) -> None:
        """Enter MAINTENANCE: the arm is stopped and accepts nothing."""
        with self._lock:
            self._modes.maintain()
            self._arm.stop()
            self._motion = None
            self._stop_playing()

    def latch(self, reason: str) -> bool:
        """Hold the measured pose until re-armed. False when the hold was latched already or nothing may move anyway."""
        with self._lock:
            return self._latch(reason)

    def rearm(self, origin: str) -> None:
        """Leave the latched hold; ModeError when refused.

        The set-point is re-seeded from the measured pose; motion waits for a source. An arm that is not operational
        ends up in MAINTENANCE instead, from where `ready` can clear its fault.
        """
        with self._lock:
            measured = self._measure()
            alarm = self._filter.alarm(measured)
            if alarm and measured.arm.operational and self._modes.mode is Mode.HOLD_LATCHED:
                raise ModeError(f"re-arming is refused while the cause persists: {alarm}")
            self._modes.rearm(origin)
            self._seed(measured)
            if not measured.arm.operational:
                self._modes.maintain()
                self._motion = None

    def status(self) -> ServoStatus:
        """Mode, lease and counts."""
        with self._lock:
            m = self._modes
            return ServoStatus(m.mode, m.source, m.reason, self._accepted, self._rejected, self._late, self._connected)

    # --- the tick ---------------------------------------------------------------------------------------------

    def step(self) -> ServoReport:
        """One servo tick. DeviceError when a device is gone: the caller ends, and the arm finishes its last target."""
        with self._lock:
            self._devices_ns = 0
            measured = self._measure()
            self._check_time(measured)
            now_ns = self._clock.realtime_ns()
            if self._modes.mode is Mode.MAINTENANCE or self._motion is None:
                return self._report(now_ns, measured)
            played = self._executor.sample(now_ns) if self._modes.mode is Mode.ACTIVE else None
            if played is not None:
                return self._step_play(played, measured)
            if self._modes.mode is not Mode.HOLD_LATCHED:
                alarm = self._filter.alarm(measured)
                if alarm:
                    self._latch(alarm)
            return self._step_hold(measured)

    def _step_play(self, played: Played, measured: RobotState) -> ServoReport:
        assert self._motion is not None
        filtered = self._filter.apply(played.set_point, motion=self._motion, measured=measured, period_s=self._period_s)
        if filtered.action is Action.LATCH:
            self._latch(filtered.reasons[-1])
            return self._step_hold(measured, requested=played, reasons=filtered.reasons)
        return self._deliver(filtered, measured, played)

    def _step_hold(
        self, measured: RobotState, *, requested: Played | None = None, reasons: tuple[str, ...] = ()
    ) -> ServoReport:
        """Nothing plays: the first such tick sends the measured pose, the arm holds it from then on."""
        if self._holding:
            return self._report(self._clock.realtime_ns(), measured, played=requested, reasons=reasons)
        if self._playing and self._modes.source is Source.POLICY:
            self._latch("policy silent: its last chunk has been played out")
        self._stop_playing()
        hold = self._seed(measured)
        # A faulted arm stands by itself and takes no target.
        refusal = self._send(hold) if measured.arm.operational else ""
        if refusal:
            self._latch(refusal)
        sent = hold if measured.arm.operational and not refusal else None
        self._holding = True
        why = (*reasons, f"hold: {self._modes.reason or 'nothing to play'}")
        return self._report(self._clock.realtime_ns(), measured, played=requested, safe=hold, sent=sent, reasons=why)

    def _deliver(self, filtered: Filtered, measured: RobotState, played: Played) -> ServoReport:
        assert self._motion is not None
        safe = filtered.safe
        refusal = self._send(safe)
        if refusal:
            self._latch(refusal)
            return self._step_hold(measured, requested=played, reasons=(*filtered.reasons, refusal))
        sent = SetPoint(safe.T_base_tcp, self._deliver_width(safe.width))
        self._motion = self._motion.to(sent, self._period_s)
        self._playing, self._holding = True, False
        return self._report(
            self._clock.realtime_ns(), measured, played=played, safe=safe, sent=sent, reasons=filtered.reasons
        )

    def _send(self, set_point: SetPoint) -> str:
        """Why the arm refused the target; empty when it took it. DeviceError when the device does not even answer."""
        try:
            with self._on_devices():
                self._arm.send(set_point.T_base_tcp)
        except DeviceError as error:
            fault = self._measure().arm.fault  # says what to do; the refusal may come before the state tells
            return f"device fault: {fault or error}"
        return ""

    def _deliver_width(self, width: float) -> float:
        """Beyond the deadband and not too often; returns the width last delivered."""
        assert self._motion is not None
        in_force, now_ns = self._motion.set_point.width, self._clock.monotonic_ns()
        if abs(width - in_force) <= self._profile.width_deadband:
            return in_force
        if now_ns - self._width_sent_ns < nanoseconds(1.0 / self._profile.width_rate):
            return in_force
        self._width_sent_ns = now_ns
        try:
            with self._on_devices():
                self._gripper.move(width)
        except DeviceError as error:
            self._measure()
            self._latch(f"device fault: {error}")
            return in_force
        return width

    @contextlib.contextmanager
    def _on_devices(self) -> Iterator[None]:
        """What is done within is the devices' share of the tick."""
        began_ns = self._clock.monotonic_ns()
        try:
            yield
        finally:
            self._devices_ns += self._clock.monotonic_ns() - began_ns

    def _check_time(self, measured: RobotState) -> None:
        now_ns = self._clock.monotonic_ns()
        gap_s, self._last_step_ns = seconds(now_ns - self._last_step_ns), now_ns
        if gap_s > self._profile.max_servo_gap:
            self._executor.clear()  # what became due meanwhile is dropped, never caught up with
            self._playing = False
        jump_ns = self._jumps.check()
        if jump_ns:
            self._latch(f"clock: the host's time jumped by {seconds(jump_ns):+.3f} s")
        age_s = seconds(self._clock.realtime_ns() - measured.arm.stamp_ns)
        if age_s > self._profile.max_state_age:
            self._latch(f"state: robot state is {age_s:.3f} s old (limit {self._profile.max_state_age:g} s)")

    # --- state ------------------------------------------------------------------------------------------------

    def _measure(self) -> RobotState:
        """The newest state; of a lost connection the last one, with its old stamp and the loss as the arm's fault."""
        commanded = self._motion.set_point if self._motion else None
        try:
            with self._on_devices():
                self._last_state = (self._arm.state(), self._gripper.state())
            self._connected = True
        except ConnectionLostError as error:
            if self._last_state is None:
                raise
            arm, gripper = self._last_state
            self._last_state = (replace(arm, operational=False, fault=str(error)), gripper)
            self._connected = False
        arm, gripper = self._last_state
        return RobotState(arm=arm, gripper=gripper, commanded=commanded)

    def _seed(self, measured: RobotState) -> SetPoint:
        """Start from the measured pose; the gripper keeps the width last sent, so that a held towel stays held."""
        width = measured.commanded.width if measured.commanded else measured.gripper.width
        hold = SetPoint(measured.arm.T_base_tcp, width)
        self._motion = Motion.at_rest(hold)
        self._playing = self._holding = False  # the set-point in force is one that was sent: the next tick does
        return hold

    def _stay(self, source: Source) -> None:
        """Let the set-point in force play for `source` until its first chunk comes: a take-over jumps to nowhere."""
        assert self._motion is not None
        now_ns = self._clock.realtime_ns()
        stay = ActionChunk.from_set_points(
            [self._motion.set_point], stamp_ns=now_ns, period_ns=nanoseconds(self._period_s), sequence=0, source=source
        )
        self._executor.splice(stay, now_ns=now_ns, reference=self._motion.set_point)

    def _stop_playing(self) -> None:
        """Forget what plays; the next tick sends the measured pose."""
        self._executor.clear()
        self._playing = self._holding = False

    def _latch(self, reason: str) -> bool:
        if not self._modes.latch(reason):
            return False
        self._stop_playing()
        return True

    def _report(
        self,
        stamp_ns: int,
        measured: RobotState,
        *,
        played: Played | None = None,
        safe: SetPoint | None = None,
        sent: SetPoint | None = None,
        reasons: tuple[str, ...] = (),
    ) -> ServoReport:
        return ServoReport(
            stamp_ns=stamp_ns,
            state=RobotState(measured.arm, measured.gripper, self._motion.set_point if self._motion else None),
            requested=played.set_point if played else None,
            safe=safe,
            sent=sent,
            played=played,
            reasons=reasons,
            chunk_received_ns=self._received[1] if played and played.sequence == self._received[0] else 0,
            devices_s=seconds(self._devices_ns),
        )
