"""The safety filter: every chunk is judged on arrival, every set-point before it is sent.

Each rule clips (the nearest allowed set-point is used), rejects (the chunk is dropped whole, or the last set-point is
kept) or latches (the arm holds where it is until re-armed), and says why. Software limits are not safety functions: the
e-stop and the controller's own limits stand beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vla_rft_core.clock import seconds
from vla_rft_core.geometry import Array, Pose, norm, rotation_angle
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.types import ActionChunk, ArmState, RobotState, SetPoint

TOLERANCE = 1e-9
"""Slack of a limit [its unit], so that what the filter itself produced passes it unchanged."""


class Action(StrEnum):
    """What became of a set-point."""

    PASS = "pass"
    CLIP = "clip"
    REJECT = "reject"
    LATCH = "latch"


@dataclass(frozen=True, eq=False)
class Motion:
    """The set-point in force and how fast the set-points have been moving: what the dynamic limits start from."""

    set_point: SetPoint
    linear: Array
    """(3,) velocity of the set-point [m/s]."""
    angular: Array
    """(3,) angular velocity of the set-point in base [rad/s]."""

    @classmethod
    def at_rest(cls, set_point: SetPoint) -> Motion:
        """Standing still at a set-point."""
        return cls(set_point, np.zeros(3), np.zeros(3))

    def to(self, set_point: SetPoint, period_s: float) -> Motion:
        """The motion after sending `set_point` one period later."""
        translation, rotvec = self.set_point.T_base_tcp.delta_to(set_point.T_base_tcp)
        return Motion(set_point, translation / period_s, rotvec / period_s)


@dataclass(frozen=True, eq=False)
class Filtered:
    """A set-point that may be sent, what was done to it, and why."""

    safe: SetPoint
    action: Action
    reasons: tuple[str, ...]


class SafetyFilter:
    """Judges chunks and set-points against one profile. Holds no state: what it needs is passed in."""

    def __init__(self, profile: SafetyProfile) -> None:
        self.profile = profile
        self._low = np.array(profile.workspace_low)
        self._high = np.array(profile.workspace_high)
        self._low[2] = max(self._low[2], profile.table_height + profile.table_clearance)
        self._keep_out = [(box.name, np.array(box.low), np.array(box.high)) for box in profile.keep_out]

    def judge_chunk(self, chunk: ActionChunk, *, now_ns: int) -> str:
        """Why the chunk must be rejected whole, in one sentence; empty when it may play."""
        for rule in (self._malformed, self._stale, self._step):
            reason = rule(chunk, now_ns)
            if reason:
                return reason
        return ""

    def apply(self, set_point: SetPoint, *, motion: Motion, measured: RobotState, period_s: float) -> Filtered:
        """The set-point that may be sent in place of `set_point`, one servo period after `motion`.

        Idempotent: what it returns passes it unchanged for the same motion and measured state.
        """
        here = SetPoint(measured.arm.T_base_tcp, measured.gripper.width)
        alarm = self.alarm(measured)
        if alarm:
            return Filtered(SetPoint(here.T_base_tcp, motion.set_point.width), Action.LATCH, (alarm,))
        reasons: list[str] = []
        pose, action = set_point.T_base_tcp, Action.PASS
        # Staying where the arm is, or where it was sent, is always allowed: that is what a hold does.
        if not any(_same_pose(pose, rest) for rest in (here.T_base_tcp, motion.set_point.T_base_tcp)):
            walls = self._walls(motion.set_point.T_base_tcp.position)
            pose = self._limit_dynamics(walls.clip(pose, reasons), motion, walls, period_s, reasons)
            action = Action.CLIP if reasons else Action.PASS
            refusal = self._forbidden(pose, motion.set_point.T_base_tcp)
            if refusal:
                pose, action = motion.set_point.T_base_tcp, Action.REJECT
                reasons.append(refusal)
        lead = self._lead(pose, here.T_base_tcp)
        if lead:
            return Filtered(SetPoint(here.T_base_tcp, motion.set_point.width), Action.LATCH, (*reasons, lead))
        width, reason = self._clip_width(set_point.width, motion.set_point.width)
        if reason:
            reasons.append(reason)
            action = Action.CLIP if action is Action.PASS else action
        return Filtered(SetPoint(pose, width), action, tuple(reasons))

    def alarm(self, measured: RobotState) -> str:
        """Why the measured state forbids motion, in one sentence; empty when it does not."""
        p, arm = self.profile, measured.arm
        if not arm.operational or arm.fault:
            return f"device fault: {arm.fault or 'the arm is not operational'}"
        force, torque = norm(arm.wrench[:3]), norm(arm.wrench[3:])
        if not (force <= p.max_contact_force and torque <= p.max_contact_torque):
            limits = f"limits {p.max_contact_force:g} N, {p.max_contact_torque:g} Nm"
            return f"contact: {force:.1f} N, {torque:.1f} Nm ({limits})"
        joint = self._joint_near_limit(arm)
        if joint is not None:
            limits = f"{p.joint_low[joint]:.3f} to {p.joint_high[joint]:.3f} rad, margin {p.joint_margin:g}"
            return f"joint {joint + 1} at {arm.q[joint]:.3f} rad nears its limit ({limits})"
        position = arm.T_base_tcp.position
        slack = p.workspace_slack
        if (position < self._low - slack).any() or (position > self._high + slack).any():
            return f"workspace left: tcp at {_metres(position)}, allowed {_metres(self._low)} to {_metres(self._high)}"
        return ""

    def _joint_near_limit(self, arm: ArmState) -> int | None:
        """The first joint outside its range, or moving outwards within the margin of it. Not finite is outside."""
        p = self.profile
        joints = zip(arm.q.tolist(), arm.dq.tolist(), p.joint_low, p.joint_high, strict=True)
        for i, (q, dq, low, high) in enumerate(joints):
            inside = low <= q <= high
            stays = (q >= low + p.joint_margin or dq >= -p.joint_drift) and (
                q <= high - p.joint_margin or dq <= p.joint_drift
            )
            if not (inside and stays):
                return i
        return None

    def _malformed(self, chunk: ActionChunk, now_ns: int) -> str:
        count = len(chunk)
        if not 1 <= count <= self.profile.max_targets:
            return f"malformed: {count} targets, allowed 1 to {self.profile.max_targets}"
        shapes = (chunk.positions.shape, chunk.quaternions.shape, chunk.widths.shape)
        if shapes != ((count, 3), (count, 4), (count,)):
            return f"malformed: positions, quaternions and widths have shapes {shapes}, expected (T, 3), (T, 4), (T,)"
        for name, values in (
            ("position", chunk.positions),
            ("quaternion", chunk.quaternions),
            ("width", chunk.widths),
        ):
            if not np.isfinite(values).all():
                return (
                    f"malformed: target {int(np.argwhere(~np.isfinite(values))[0][0])} has a {name} that is not finite"
                )
        norms = np.linalg.norm(chunk.quaternions, axis=1)
        if (abs(norms - 1.0) > 1e-2).any():
            return f"malformed: a quaternion has norm {norms[np.argmax(abs(norms - 1.0))]:.3f}, expected 1"
        if not 1_000_000 <= chunk.period_ns <= 1_000_000_000:
            return f"malformed: period {chunk.period_ns} ns, allowed 1 ms to 1 s"
        return ""

    def _stale(self, chunk: ActionChunk, now_ns: int) -> str:
        age_s = seconds(now_ns - chunk.stamp_ns)
        if age_s > self.profile.max_chunk_age:
            return f"stale: {age_s:.3f} s old, allowed {self.profile.max_chunk_age:g} s"
        if age_s < -0.05:
            return f"stale: stamped {-age_s:.3f} s in the future"
        return ""

    def _step(self, chunk: ActionChunk, now_ns: int) -> str:
        p = self.profile
        for i in range(1, len(chunk)):
            step = norm(chunk.positions[i] - chunk.positions[i - 1])
            turn = rotation_angle(chunk.quaternions[i], chunk.quaternions[i - 1])
            if step > p.max_step or turn > p.max_step_angle:
                limits = f"limits {p.max_step:g} m, {p.max_step_angle:g} rad"
                return f"step: {step:.3f} m, {turn:.3f} rad to target {i} ({limits})"
        return ""

    def _clip_width(self, width: float, in_force: float) -> tuple[float, str]:
        if not math.isfinite(width):
            return in_force, f"width: {width} is not finite, {in_force:.4f} m kept"
        clipped = min(self.profile.max_width, max(self.profile.min_width, width))
        return clipped, "" if clipped == width else f"width: {width:.4f} m clipped to {clipped:.4f} m"

    def _walls(self, in_force: Array) -> Walls:
        """The workspace, widened to hold the set-point in force: from outside it may only come back."""
        return Walls(np.minimum(self._low, in_force), np.maximum(self._high, in_force))

    def _limit_dynamics(self, pose: Pose, motion: Motion, walls: Walls, period_s: float, reasons: list[str]) -> Pose:
        p, start = self.profile, motion.set_point.T_base_tcp
        step, turn = start.delta_to(pose)
        linear = StepLimits(p.max_speed * period_s, p.max_acceleration * period_s**2, motion.linear * period_s)
        angular = StepLimits(
            p.max_angular_speed * period_s,
            p.max_angular_acceleration * period_s**2,
            motion.angular * period_s,
        )
        step, rule = linear.limit(step)
        turn, turn_rule = angular.limit(turn)
        if not rule and not turn_rule:
            return pose
        limited = start.moved(step, turn)
        position = pose.position
        if rule:
            reasons.append(f"{rule}: set-point slowed down")
            position = walls.clamp(limited.position)
            if (abs(position - limited.position) > TOLERANCE).any():
                # It cannot brake before the wall: the wall wins over the acceleration limit.
                position = walls.clamp(start.position + linear.braking())
        if turn_rule:
            reasons.append(f"angular {turn_rule}: set-point slowed down")
        return Pose(position, limited.quaternion if turn_rule else pose.quaternion)

    def _forbidden(self, pose: Pose, in_force: Pose) -> str:
        """Why the pose is forbidden: too tilted, or in a keep-out box. From a forbidden pose it may only come back."""
        tilt = _tilt(pose)
        if tilt > max(self.profile.max_tilt, _tilt(in_force)) + TOLERANCE:
            return f"tilt: tool {tilt:.3f} rad from straight down (limit {self.profile.max_tilt:g} rad)"
        for name, low, high in self._keep_out:
            if _depth(pose.position, low, high) > max(0.0, _depth(in_force.position, low, high)):
                return f"keep-out: tcp would enter {name!r} at {_metres(pose.position)}"
        return ""

    def _lead(self, pose: Pose, measured: Pose) -> str:
        metres, radians = measured.distance_to(pose)
        if metres <= self.profile.max_lead + TOLERANCE and radians <= self.profile.max_lead_angle + TOLERANCE:
            return ""
        return (
            f"lead: set-point {metres:.3f} m, {radians:.3f} rad from the measured pose "
            f"(limits {self.profile.max_lead:g} m, {self.profile.max_lead_angle:g} rad)"
        )


@dataclass(frozen=True, eq=False)
class Walls:
    """An axis-aligned box in base that set-points are clipped to: corners (3,) [m]."""

    low: Array
    high: Array

    def clamp(self, position: Array) -> Array:
        """The nearest position inside."""
        return np.minimum(np.maximum(position, self.low), self.high)

    def clip(self, pose: Pose, reasons: list[str]) -> Pose:
        """The pose with its position inside, and why it was changed."""
        position = self.clamp(pose.position)
        if (position == pose.position).all():
            return pose
        axis = int(np.argmax(abs(position - pose.position)))
        rule = "table" if axis == 2 and position[2] > pose.position[2] else "workspace"
        reasons.append(f"{rule}: {'xyz'[axis]} {pose.position[axis]:.3f} m clipped to {position[axis]:.3f} m")
        return Pose(position, pose.quaternion)


@dataclass(frozen=True, eq=False)
class StepLimits:
    """What a step (3,) of one servo period may be: the intersection of two balls.

    |step| <= reach (speed), |step - coast| <= change (acceleration), where coast is the step of an unchanged velocity.
    """

    reach: float
    change: float
    coast: Array

    def limit(self, step: Array) -> tuple[Array, str]:
        """The part of `step` within both limits and the name of the one that bound ("" when none did).

        From full braking, which lies in both balls, it goes towards the wanted step as far as both allow.
        """
        if self._allows(step):
            return step, ""
        brake = self.braking()
        if float(brake @ brake) >= self.reach**2:
            return brake, "speed"
        direction = step - brake
        by_speed = _exit_fraction(brake, direction, self.reach)
        by_acceleration = _exit_fraction(brake - self.coast, direction, self.change)
        fraction = min(1.0, by_speed, by_acceleration)
        return brake + fraction * direction, "speed" if by_speed <= by_acceleration else "acceleration"

    def braking(self) -> Array:
        """The step of full braking, shortened to the speed limit where the motion was faster than it."""
        length = norm(self.coast)
        if length <= self.change:
            return np.zeros(3)
        return self.coast * (min(length - self.change, self.reach) / length)

    def _allows(self, step: Array) -> bool:
        offset = step - self.coast
        return (
            float(step @ step) <= (self.reach + TOLERANCE) ** 2
            and float(offset @ offset) <= (self.change + TOLERANCE) ** 2
        )


def _exit_fraction(start: Array, direction: Array, radius: float) -> float:
    """Largest s with |start + s direction| <= radius, for a start inside the ball."""
    a, b = float(direction @ direction), float(start @ direction)
    c = float(start @ start) - radius * radius
    if a == 0.0:
        return math.inf
    return max(0.0, (-b + math.sqrt(max(0.0, b * b - a * c))) / a)


def _tilt(pose: Pose) -> float:
    """Angle [rad] between the tool's z axis and straight down."""
    x, y, _, _ = pose.quaternion.tolist()
    return math.acos(max(-1.0, min(1.0, 2.0 * (x * x + y * y) - 1.0)))


def _depth(position: Array, low: Array, high: Array) -> float:
    """How far inside a box a point is [m]: its distance to the nearest face, negative outside."""
    return float(min((position - low).min(), (high - position).min()))


def _same_pose(a: Pose, b: Pose) -> bool:
    return bool(a.position.tolist() == b.position.tolist() and a.quaternion.tolist() == b.quaternion.tolist())


def _metres(point: Array) -> str:
    return "(" + ", ".join(f"{v:.3f}" for v in point) + ") m"
