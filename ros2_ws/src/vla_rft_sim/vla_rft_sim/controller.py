"""The arm's motion generator: it moves a reference towards the last target and yields joint commands.

It knows no clients: whoever sent the target may be gone, it finishes it, as the real one does. It knows no
physics either; a world asks it for joint commands at its own rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import (
    Array,
    Pose,
    quaternion_multiply,
    quaternion_to_matrix,
    rotation_between,
    rotvec_to_quaternion,
)
from vla_rft_sim.kinematics import ArmKinematics

_APPROACH_RATE = 25.0
"""Near the target the wanted speed is this times the distance [1/s]; further away the braking curve rules."""
_POSTURE_RATE = 1.0
"""How fast the null-space posture returns to home [1/s]."""
_AT_REST = 1e-3
"""[m/s] or [rad/s]: slower counts as standing still."""
_MAX_LAG = 0.05
"""When the joints cannot follow, the reference waits within this of them (m and rad together)."""


@dataclass(frozen=True, kw_only=True)
class MotionCaps:
    """Limits of the reference's motion."""

    linear_velocity: float = 0.5
    """[m/s]"""
    angular_velocity: float = 2.0
    """[rad/s]"""
    linear_acceleration: float = 3.0
    """[m/s^2]"""
    angular_acceleration: float = 10.0
    """[rad/s^2]"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive and finite, got {value}")


def approach_speed(distance: float, velocity: float, acceleration: float) -> float:
    """The speed from which a target `distance` away is reached without overshoot: proportional, then braking."""
    linear_zone = acceleration / _APPROACH_RATE**2
    if distance <= linear_zone:
        return min(velocity, _APPROACH_RATE * distance)
    return min(velocity, math.sqrt(2.0 * acceleration * (distance - 0.5 * linear_zone)))


def _ramped(current: Array, error: Array, velocity: float, largest_change: float, dt: float) -> Array:
    """Velocity (3,) after one step: towards `error`, at most `velocity`, changed by at most `largest_change`."""
    distance = math.sqrt(float(error @ error))
    speed = approach_speed(distance, velocity, largest_change / dt)
    change = error * (speed / distance) - current if distance > 1e-12 else -current
    norm = math.sqrt(float(change @ change))
    return current + change * (largest_change / norm) if norm > largest_change else current + change


class ArmController:
    """Motion of a seven-joint arm to a tcp pose or to joint positions, with caps, joint limits and a posture.

    q, dq: (7,) the joint command in force [rad], [rad/s]; read them after `step`. posture: (7,) where the elbow is
    drawn to as far as that does not move the tcp.
    """

    def __init__(self, kinematics: ArmKinematics, home_q: Array, caps: MotionCaps | None = None) -> None:
        self.kinematics = kinematics
        self.caps = caps or MotionCaps()
        self.mode: Literal["idle", "cartesian", "joint"] = "idle"
        self.posture = np.array(home_q, dtype=np.float64)
        self.place(self.posture)

    def place(self, q: Array) -> None:
        """Be at joint positions q (7,), at rest and idle: what a world's reset does."""
        self.mode = "idle"
        self.q = np.clip(q, self.kinematics.lower, self.kinematics.upper)
        self.dq = np.zeros(7)
        self._hold()

    def _hold(self) -> None:
        self.target = self.kinematics.tcp_pose(self.q)
        self._position = np.array(self.target.position)
        self._quaternion = np.array(self.target.quaternion)
        self._linear, self._angular = np.zeros(3), np.zeros(3)
        self._joint_target: tuple[Array, Array, Array] | None = None

    def enter_motion(self, q: Array) -> None:
        """Accept Cartesian targets from now on, starting at rest from joint positions q (7,)."""
        self.place(q)
        self.mode = "cartesian"

    def set_target(self, T_base_tcp: Pose, caps: MotionCaps | None = None) -> None:
        """Where the tcp shall go, from now on within `caps` (None: those in force); DeviceError in idle mode."""
        if self.mode == "idle":
            raise DeviceError("the arm is idle and accepts no target; enter the motion mode first")
        self.target = T_base_tcp
        self.caps = caps or self.caps

    def enter_joint_motion(self, q: Array) -> None:
        """Accept joint targets from now on, starting at rest from joint positions q (7,)."""
        self.place(q)
        self.mode = "joint"

    def set_joint_target(self, q: Array, velocity: Array, acceleration: Array) -> None:
        """Where the joints shall go (7,), each within its caps [rad/s], [rad/s^2] (7,); DeviceError in other modes."""
        if self.mode != "joint":
            raise DeviceError("the arm accepts no joint target; enter the joint motion mode first")
        self._joint_target = np.clip(q, self.kinematics.lower, self.kinematics.upper), velocity, acceleration

    def stop(self) -> None:
        """Brake within the acceleration caps, hold there, and leave the motion mode."""
        self.mode = "idle"

    @property
    def moving(self) -> bool:
        """The reference is on its way or braking."""
        speed = self.dq if self._joint_target else np.concatenate([self._linear, self._angular])
        return bool(np.abs(speed).max() > _AT_REST)

    @property
    def stopping_time(self) -> float:
        """How long braking from the present speed takes [s]."""
        if self._joint_target:
            return float((np.abs(self.dq) / self._joint_target[2]).max())
        linear, angular = float(np.linalg.norm(self._linear)), float(np.linalg.norm(self._angular))
        return max(linear / self.caps.linear_acceleration, angular / self.caps.angular_acceleration)

    @property
    def reference(self) -> Pose:
        """Where the reference is on its way to the target."""
        return Pose(self._position, self._quaternion)

    def step(self, dt: float) -> None:
        """Advance the reference and the joint command by dt [s]."""
        if self._joint_target is not None:
            self._step_joints(dt, *self._joint_target)
            return
        self._advance_reference(dt)
        wanted = np.eye(4)
        wanted[:3, :3] = quaternion_to_matrix(self._quaternion)
        wanted[:3, 3] = self._position
        posture_step = (self.posture - self.q) * (_POSTURE_RATE * dt)
        step, lag = self.kinematics.correction(self.q, wanted, posture_step)
        if lag > _MAX_LAG:
            self._wait_for_joints()
        excess = float((np.abs(step) / self.kinematics.velocity).max()) / dt
        if excess > 1.0:
            step /= excess  # all joints alike, so that the tcp keeps its direction
        q = np.clip(self.q + step, self.kinematics.lower, self.kinematics.upper)
        self.dq = (q - self.q) / dt
        self.q = q

    def _advance_reference(self, dt: float) -> None:
        caps = self.caps
        if self.mode == "cartesian":
            to_go = self.target.position - self._position
            to_turn = rotation_between(self._quaternion, self.target.quaternion)
            speed, turn_rate = caps.linear_velocity, caps.angular_velocity
        else:
            to_go = to_turn = np.zeros(3)
            speed = turn_rate = 0.0
        self._linear = _ramped(self._linear, to_go, speed, caps.linear_acceleration * dt, dt)
        self._angular = _ramped(self._angular, to_turn, turn_rate, caps.angular_acceleration * dt, dt)
        self._position = self._position + self._linear * dt
        self._quaternion = quaternion_multiply(rotvec_to_quaternion(self._angular * dt), self._quaternion)

    def _step_joints(self, dt: float, target: Array, velocity: Array, acceleration: Array) -> None:
        """Each joint on its own way to the target, or, after a stop, to rest."""
        to_go = target - self.q
        caps = zip(np.abs(to_go), velocity, acceleration, strict=True)
        wanted = np.sign(to_go) * [approach_speed(*joint) for joint in caps] if self.mode == "joint" else np.zeros(7)
        self.dq = self.dq + np.clip(wanted - self.dq, -acceleration * dt, acceleration * dt)
        self.q = np.clip(self.q + self.dq * dt, self.kinematics.lower, self.kinematics.upper)
        if self.mode != "joint" and not self.moving:
            self.dq = np.zeros(7)
            self._hold()

    def _wait_for_joints(self) -> None:
        """The joints are at a limit or too slow: take the reference back to where they are."""
        T = self.kinematics.tcp_pose(self.q)
        self._position, self._quaternion = np.array(T.position), np.array(T.quaternion)
        self._linear, self._angular = np.zeros(3), np.zeros(3)
