"""Forward and inverse kinematics of the Rizon 4s, in numpy, from the vendor's published numbers.

Knows the arm's geometry and limits only: not time, not dynamics, not the gripper's fingers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_rft_core.geometry import Array, Pose
from vla_rft_hardware.description import load_rizon4s

FLANGE_TO_TCP_M = 0.20
"""closed_fingers_tcp of the GN01: along the flange's z axis."""
_DAMPING = 1e-4
"""Added to half the squared error: a step far from its goal is careful, so that a pose out of reach is harmless."""
_MAX_STEP_RAD = 0.3
_JOINTS = np.arange(7)


def _rpy_matrix(rpy: list[float]) -> Array:
    """Rotation of a URDF origin: fixed-axis roll, pitch, yaw."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _transform(xyz: list[float], rpy: list[float]) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = _rpy_matrix(rpy)
    matrix[:3, 3] = xyz
    return matrix


def _skew(axis: Array) -> Array:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_error(rotation: Array, wanted: Array) -> tuple[float, float, float]:
    """Rotation vector [rad] in the common parent frame that takes `rotation` (3, 3) to `wanted` (3, 3)."""
    m = wanted @ rotation.T
    x, y, z = float(m[2, 1] - m[1, 2]), float(m[0, 2] - m[2, 0]), float(m[1, 0] - m[0, 1])
    twice_sine = math.sqrt(x * x + y * y + z * z)
    twice_cosine = float(m[0, 0] + m[1, 1] + m[2, 2]) - 1.0
    scale = 0.5 if twice_sine < 1e-9 else math.atan2(twice_sine, twice_cosine) / twice_sine
    return x * scale, y * scale, z * scale


class ArmKinematics:
    """The arm's chain base -> flange -> tcp.

    lower, upper: (7,) soft joint limits [rad]; velocity: (7,) joint velocity limits [rad/s].
    """

    def __init__(self, description: Mapping[str, Any] | None = None) -> None:
        description = description or load_rizon4s()
        joints = description["joints"]
        self.lower: Array = np.array([joint["soft_lower"] for joint in joints])
        self.upper: Array = np.array([joint["soft_upper"] for joint in joints])
        self.velocity: Array = np.array([joint["velocity"] for joint in joints])
        self.effort: Array = np.array([joint["effort"] for joint in joints], dtype=np.float64)
        axes = np.array([joint["axis"] for joint in joints], dtype=np.float64)
        self._axis_columns = axes.argmax(axis=1)
        if not np.array_equal(axes, np.eye(3)[self._axis_columns]):
            raise ValueError(f"joint axes must each be +x, +y or +z of their frame, got {axes.tolist()}")
        origins = np.array([_transform(joint["origin_xyz"], joint["origin_rpy"]) for joint in joints])
        # Rodrigues: origin @ rotation(q) = constant + sine * sin(q) + versine * (1 - cos(q))
        skews = np.zeros((7, 4, 4))
        skews[:, :3, :3] = [_skew(axis) for axis in axes]
        self._origins = origins
        self._sine = origins @ skews
        self._versine = origins @ skews @ skews
        flange = description["flange"]
        self._flange = _transform(flange["origin_xyz"], flange["origin_rpy"])
        self._tcp = self._flange @ _transform([0.0, 0.0, FLANGE_TO_TCP_M], [0.0, 0.0, 0.0])
        self._chain = np.empty((7, 4, 4))

    def _links(self, q: Array) -> Array:
        """Poses of the seven links (7, 4, 4) in base; the array is reused by the next call."""
        q = np.asarray(q, dtype=np.float64)
        sine, versine = np.sin(q)[:, None, None], (1.0 - np.cos(q))[:, None, None]
        local = self._origins + sine * self._sine + versine * self._versine
        chain = self._chain
        chain[0] = local[0]
        for i in range(1, 7):
            np.dot(chain[i - 1], local[i], out=chain[i])
        return chain

    def flange_pose(self, q: Array) -> Pose:
        """T_base_flange at joint positions q (7,)."""
        return Pose.from_matrix(self._links(q)[6] @ self._flange)

    def tcp_pose(self, q: Array) -> Pose:
        """T_base_tcp at joint positions q (7,)."""
        return Pose.from_matrix(self._links(q)[6] @ self._tcp)

    def tcp_and_jacobian(self, q: Array) -> tuple[Array, Array]:
        """T_base_tcp as a matrix (4, 4), and the tcp's geometric Jacobian (6, 7) in base: linear, then angular."""
        chain = self._links(q)
        tcp = chain[6] @ self._tcp
        axes = chain[_JOINTS, :3, self._axis_columns].T
        ax, ay, az = axes
        lx, ly, lz = tcp[:3, 3, None] - chain[:, :3, 3].T
        jacobian = np.empty((6, 7))
        jacobian[0] = ay * lz - az * ly
        jacobian[1] = az * lx - ax * lz
        jacobian[2] = ax * ly - ay * lx
        jacobian[3:] = axes
        return tcp, jacobian

    def jacobian(self, q: Array) -> Array:
        """The tcp's geometric Jacobian (6, 7) in base: linear [m/rad], then angular."""
        return self.tcp_and_jacobian(q)[1]

    def correction(self, q: Array, wanted: Array, posture_step: Array) -> tuple[Array, float]:
        """One damped least-squares step (7,) from q towards the tcp pose `wanted` (4, 4).

        `posture_step` (7,) is followed as far as it does not move the tcp. Also returns the error's norm (m and rad
        together) before the step.
        """
        tcp, jacobian = self.tcp_and_jacobian(q)
        error = np.empty(6)
        error[:3] = wanted[:3, 3] - tcp[:3, 3]
        error[3:] = rotation_error(tcp[:3, :3], wanted[:3, :3])
        squared = float(error @ error)
        gram = jacobian @ jacobian.T
        gram.flat[::7] += _DAMPING + 0.5 * squared
        step = posture_step + jacobian.T @ np.linalg.solve(gram, error - jacobian @ posture_step)
        return step, math.sqrt(squared)

    def solve(self, T_base_tcp: Pose, q_seed: Array, *, tolerance: float = 1e-7, max_steps: int = 200) -> Array:
        """Joint positions (7,) within the soft limits that reach a tcp pose, near the seed's posture.

        tolerance: norm of position [m] and rotation [rad] error together. ValueError when it is out of reach.
        """
        wanted = T_base_tcp.matrix()
        seed = np.asarray(q_seed, dtype=np.float64)
        q, error = seed.copy(), math.inf
        for iteration in range(max_steps):
            # The pull to the seed's posture fades, so that the last steps converge on the tcp alone.
            step, error = self.correction(q, wanted, (seed - q) * (0.2 * 0.8**iteration))
            if error < tolerance:
                return q
            largest = float(np.abs(step).max())
            q = np.clip(q + step * min(1.0, _MAX_STEP_RAD / max(largest, 1e-12)), self.lower, self.upper)
        raise ValueError(
            f"no joint positions reach tcp {np.round(T_base_tcp.position, 3).tolist()} m with quaternion xyzw "
            f"{np.round(T_base_tcp.quaternion, 3).tolist()}: {error:.3g} (m and rad) remain after {max_steps} steps"
        )
