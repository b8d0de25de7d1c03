"""Rigid-body geometry on numpy arrays.

Conventions: metres, radians, right-handed frames, quaternions **xyzw** with unit norm, `T_a_b` = "b expressed in a".
Knows nothing of ROS messages or vendor conventions (wxyz is converted in the Flexiv driver only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

IDENTITY_QUATERNION: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


def _finite(values: ArrayLike, length: int, name: str) -> Array:
    array = np.array(values, dtype=np.float64)
    if array.shape != (length,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({length},)")
    if not all(map(math.isfinite, array.tolist())):
        raise ValueError(f"{name} is not finite: {array.tolist()}")
    return array


def _matrix(values: ArrayLike, size: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (size, size):
        raise ValueError(f"matrix has shape {array.shape}, expected ({size}, {size})")
    return array


def norm(vector: Array) -> float:
    """Euclidean length of a short vector (n,); at servo rate `numpy.linalg.norm` costs several times as much."""
    return math.hypot(*vector.tolist())


_UNIT_WITHIN = 1e-15
"""A normalised quaternion's norm differs from 1 by rounding only."""


def normalize_quaternion(quaternion: ArrayLike) -> Array:
    """Unit quaternion xyzw with w >= 0; raises ValueError when it is not finite or its norm is near zero.

    What is one already stays as it is, digit for digit: a pose survives being recorded and read.
    """
    q = _finite(quaternion, 4, "quaternion xyzw")
    length = norm(q)
    if not 1e-6 <= length < math.inf:
        raise ValueError(f"quaternion xyzw has norm {length:g}, expected about 1")
    if abs(length - 1.0) < _UNIT_WITHIN:
        length = 1.0
    return q / (-length if q[3] < 0.0 else length)


def quaternion_multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product a*b of two quaternions xyzw: rotate by b, then by a."""
    ax, ay, az, aw = np.asarray(a, dtype=np.float64).tolist()
    bx, by, bz, bw = np.asarray(b, dtype=np.float64).tolist()
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def quaternion_conjugate(quaternion: ArrayLike) -> Array:
    """Inverse rotation of a unit quaternion xyzw."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64).tolist()
    return np.array([-x, -y, -z, w])


def quaternion_to_matrix(quaternion: ArrayLike) -> Array:
    """Rotation matrix (3, 3) of a unit quaternion xyzw."""
    x, y, z, w = np.asarray(quaternion, dtype=np.float64).tolist()
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quaternion(matrix: ArrayLike) -> Array:
    """Unit quaternion xyzw (w >= 0) of a rotation matrix (3, 3), by the largest of the four components (Shepperd)."""
    m = _matrix(matrix, 3)
    trace = float(m[0, 0] + m[1, 1] + m[2, 2])
    choices = [float(m[0, 0]), float(m[1, 1]), float(m[2, 2]), trace]
    largest = int(np.argmax(choices))
    q = np.empty(4)
    if largest == 3:
        q[:] = (m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1.0 + trace)
    else:
        i, j, k = largest, (largest + 1) % 3, (largest + 2) % 3
        q[i] = 1.0 - trace + 2.0 * m[i, i]
        q[j] = m[j, i] + m[i, j]
        q[k] = m[k, i] + m[i, k]
        q[3] = m[k, j] - m[j, k]
    return normalize_quaternion(q)


def rotvec_to_quaternion(rotvec: ArrayLike) -> Array:
    """Unit quaternion xyzw of a rotation vector (3,) [rad]."""
    v = np.asarray(rotvec, dtype=np.float64)
    angle = norm(v)
    half = 0.5 * angle
    scale = 0.5 - angle * angle / 48.0 if angle < 1e-4 else math.sin(half) / angle
    return np.array([v[0] * scale, v[1] * scale, v[2] * scale, math.cos(half)])


def quaternion_to_rotvec(quaternion: ArrayLike) -> Array:
    """Rotation vector (3,) [rad], norm in [0, pi], of a unit quaternion xyzw."""
    q = np.asarray(quaternion, dtype=np.float64)
    if q[3] < 0.0:
        q = -q
    sine = norm(q[:3])
    if sine < 1e-9:
        return 2.0 * q[:3]
    return q[:3] * (2.0 * math.atan2(sine, float(q[3])) / sine)


def rotation_between(quaternion_from: ArrayLike, quaternion_to: ArrayLike) -> Array:
    """Rotation vector (3,) [rad] in the common parent frame that takes one orientation to the other."""
    return quaternion_to_rotvec(quaternion_multiply(quaternion_to, quaternion_conjugate(quaternion_from)))


def rotation_angle(quaternion_a: ArrayLike, quaternion_b: ArrayLike) -> float:
    """Angle [rad] in [0, pi] between two orientations (unit quaternions xyzw)."""
    a = np.asarray(quaternion_a, dtype=np.float64)
    b = np.asarray(quaternion_b, dtype=np.float64)
    # Twice the chord's arcsine stays exact for small angles, where acos of the dot product does not.
    chord = min(norm(a - b), norm(a + b))
    return 4.0 * math.asin(min(1.0, 0.5 * chord))


def slerp(quaternion_a: ArrayLike, quaternion_b: ArrayLike, fraction: float) -> Array:
    """Spherical interpolation along the shorter arc: `fraction` 0 gives a, 1 gives b."""
    a = np.asarray(quaternion_a, dtype=np.float64)
    b = np.asarray(quaternion_b, dtype=np.float64)
    dot = float(a @ b)
    if dot < 0.0:
        b, dot = -b, -dot
    if dot > 1.0 - 1e-8:
        return normalize_quaternion(a + fraction * (b - a))
    angle = math.acos(dot)
    return (math.sin((1.0 - fraction) * angle) * a + math.sin(fraction * angle) * b) / math.sin(angle)


def quaternion_to_rot6d(quaternion: ArrayLike) -> Array:
    """First two columns (6,) of the rotation matrix, column after column (Zhou et al. 2019); never interpolate it."""
    return quaternion_to_matrix(quaternion)[:, :2].T.reshape(6)


def rot6d_to_quaternion(rot6d: ArrayLike) -> Array:
    """Unit quaternion xyzw of two columns (6,) after Gram-Schmidt; ValueError when they are parallel or zero."""
    columns = _finite(rot6d, 6, "rot6d")
    first, second = columns[:3], columns[3:]
    length = norm(first)
    if length < 1e-6:
        raise ValueError(f"rot6d has a first column of norm {length:g}")
    x = first / length
    second = second - float(x @ second) * x
    length = norm(second)
    if length < 1e-6:
        raise ValueError("rot6d has parallel columns")
    y = second / length
    return matrix_to_quaternion(np.column_stack([x, y, np.cross(x, y)]))


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid transform, read as "child expressed in parent", e.g. `T_base_tcp: Pose`.

    position: (3,) float64 [m]; quaternion: (4,) float64 xyzw, unit norm, w >= 0 (normalised on construction).
    Raises ValueError for wrong shapes or values that are not finite.

    Example: `Pose(position=(0.68, -0.11, 0.28), quaternion=(0.0, 1.0, 0.0, 0.0))`
    """

    position: Array
    quaternion: Array

    def __post_init__(self) -> None:
        position = _finite(self.position, 3, "position")
        quaternion = normalize_quaternion(self.quaternion)
        position.flags.writeable = quaternion.flags.writeable = False
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "quaternion", quaternion)

    @classmethod
    def identity(cls) -> Pose:
        """The transform that changes nothing."""
        return cls(np.zeros(3), np.array(IDENTITY_QUATERNION))

    @classmethod
    def from_matrix(cls, matrix: ArrayLike) -> Pose:
        """From a homogeneous matrix (4, 4)."""
        m = _matrix(matrix, 4)
        return cls(m[:3, 3], matrix_to_quaternion(m[:3, :3]))

    def matrix(self) -> Array:
        """Homogeneous matrix (4, 4)."""
        m = np.eye(4)
        m[:3, :3] = quaternion_to_matrix(self.quaternion)
        m[:3, 3] = self.position
        return m

    def compose(self, other: Pose) -> Pose:
        """`T_a_b.compose(T_b_c)` is `T_a_c`."""
        return Pose(self.apply(other.position), quaternion_multiply(self.quaternion, other.quaternion))

    def inverse(self) -> Pose:
        """`T_a_b.inverse()` is `T_b_a`."""
        conjugate = quaternion_conjugate(self.quaternion)
        return Pose(-(quaternion_to_matrix(conjugate) @ self.position), conjugate)

    def apply(self, points: ArrayLike) -> Array:
        """Points (3,) or (N, 3) of the child frame, expressed in the parent [m]."""
        return np.asarray(points, dtype=np.float64) @ quaternion_to_matrix(self.quaternion).T + self.position

    def moved(self, translation: ArrayLike, rotvec: ArrayLike) -> Pose:
        """This pose after a translation delta [m] and a rotation-vector delta [rad], both in the parent frame."""
        rotation = quaternion_multiply(rotvec_to_quaternion(rotvec), self.quaternion)
        return Pose(self.position + np.asarray(translation, dtype=np.float64), rotation)

    def delta_to(self, other: Pose) -> tuple[Array, Array]:
        """(translation [m], rotvec [rad]) in the parent frame such that `self.moved(*delta)` is `other`."""
        return other.position - self.position, rotation_between(self.quaternion, other.quaternion)

    def distance_to(self, other: Pose) -> tuple[float, float]:
        """(metres, radians) between the two poses."""
        metres = norm(other.position - self.position)
        return metres, rotation_angle(self.quaternion, other.quaternion)

    def interpolate(self, other: Pose, fraction: float) -> Pose:
        """Linear in position, slerp in orientation; `fraction` 0 is this pose, 1 the other."""
        position = self.position + fraction * (other.position - self.position)
        return Pose(position, slerp(self.quaternion, other.quaternion, fraction))
