"""What corners and the arm's reported poses say together: one least-squares problem for hand-eye and intrinsics alike.

Unknown are the camera's pose, the board's, a small correction of every reported tcp pose, and, where asked for, the
intrinsics. Residuals are whitened, so that pixels and millimetres weigh by what they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.views import ViewSet
from vla_rft_core.geometry import Array

Arrangement = Literal["eye_to_hand", "eye_in_hand"]
POSES = 12
"""Unknowns of camera and board: two translations [m] with rotation vectors [rad]."""
_HUBER = 3.0
_STEP = 1e-6


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far a corner is off, and the pose that the arm reports: standard deviations per axis."""

    pixel: float = 0.3
    position: float = 0.0006
    """[m]; 1 mm over three axes together."""
    rotation: float = 0.001
    """[rad]"""


class JointProblem:
    """The views as arrays, and what any unknowns make of them.

    Unknowns: camera (6), board (6), with `lens` also fx, fy, cx, cy (4), then a correction (6) of each tcp pose.
    """

    def __init__(
        self,
        views: ViewSet,
        used: tuple[int, ...],
        arrangement: Arrangement = "eye_to_hand",
        noise: Noise | None = None,
        *,
        lens: bool = False,
    ) -> None:
        chosen = [views.views[i] for i in used]
        self.count, self.noise, self.lens = len(chosen), noise or Noise(), lens
        self._inverse = arrangement == "eye_in_hand"
        matrix = views.info.intrinsics.matrix
        self.camera = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]])
        """fx, fy, cx, cy where they are not unknown [px]."""
        self._positions = np.array([view.T_base_tcp.position for view in chosen])
        self._rotations = Rotation.from_quat([view.T_base_tcp.quaternion for view in chosen])
        ids = [view.detection.ids for view in chosen]
        self.owner = np.repeat(np.arange(self.count), [len(i) for i in ids])
        """(N,) which view a corner belongs to."""
        self._points = views.info.board.corners[np.concatenate(ids)]
        self.pixels = np.concatenate([view.detection.pixels for view in chosen])
        self._sigma = np.array([self.noise.position] * 3 + [self.noise.rotation] * 3)

    @property
    def shared(self) -> int:
        """How many unknowns all views have in common."""
        return POSES + (4 if self.lens else 0)

    def slack(self, x: Array) -> Array:
        """The corrections (views, 6) in the unknowns; none where they are left out."""
        return x[self.shared :].reshape(-1, 6) if len(x) > self.shared else np.zeros((self.count, 6))

    def project(self, x: Array, scale: float = 1.0) -> Array:
        """Pixels (N, 2) of all corners. scale: the board's size over the stated one."""
        slack, camera, board = self.slack(x), Rotation.from_rotvec(x[3:6]), Rotation.from_rotvec(x[9:12])
        turned = (Rotation.from_rotvec(slack[:, 3:]) * self._rotations)[self.owner]
        moved = (self._positions + slack[:, :3])[self.owner]
        points = board.apply(scale * self._points) + x[6:9]
        points = turned.inv().apply(points - moved) if self._inverse else turned.apply(points) + moved
        points = camera.inv().apply(points - x[:3])
        lens = x[POSES : self.shared] if self.lens else self.camera
        return points[:, :2] / np.maximum(points[:, 2:], 1e-3) * lens[:2] + lens[2:]

    def residuals(self, x: Array, scale: float = 1.0) -> Array:
        """Whitened: corners, then corrections."""
        corners = (self.project(x, scale) - self.pixels) / self.noise.pixel
        return np.concatenate([corners.ravel(), (self.slack(x) / self._sigma).ravel()])

    def jacobian(self, x: Array) -> Array:
        """By differences; the corrections of all views are moved at once, since each moves its own corners only."""
        base, corners, shared = self.residuals(x), 2 * len(self.pixels), self.shared
        made = np.zeros((len(base), len(x)))
        for k in range(shared):
            shifted = x.copy()
            shifted[k] += _STEP
            made[:, k] = (self.residuals(shifted) - base) / _STEP
        owner = np.repeat(self.owner, 2)
        for k in range(6):
            shifted = x.copy()
            shifted[shared + k :: 6] += _STEP
            made[np.arange(corners), shared + 6 * owner + k] = (self.residuals(shifted) - base)[:corners] / _STEP
        columns = np.arange(6 * self.count)
        made[corners + columns, shared + columns] = 1.0 / np.tile(self._sigma, self.count)
        return made

    def solve(self, start: Array) -> Array:
        """The unknowns that explain everything best, from those in common (or more); large residuals count less."""
        x = np.concatenate([start[: self.shared], np.zeros(6 * self.count)])
        lens = [10.0] * 4 if self.lens else []
        scale = np.concatenate([np.full(POSES, 0.01), lens, np.full(6 * self.count, 1e-3)])
        solved = least_squares(
            self.residuals, x, self.jacobian, x_scale=scale, loss="huber", f_scale=_HUBER, max_nfev=60
        )
        return np.asarray(solved.x)

    def deviations(self, x: Array) -> Array:
        """Standard deviations of the unknowns in common, by linearisation; a poor fit makes them larger."""
        jacobian, residuals = self.jacobian(x), self.residuals(x)
        chi = float(residuals @ residuals) / max(1, 2 * len(self.pixels) - self.shared)
        covariance = np.linalg.pinv(jacobian.T @ jacobian)[: self.shared, : self.shared]
        return np.sqrt(np.diag(covariance) * max(1.0, chi))

    def misfit(self, x: Array) -> Array:
        """Per view: root mean square of its whitened residuals, its correction among them (n,)."""
        residuals, corners = self.residuals(x), 2 * len(self.pixels)
        total = np.bincount(self.owner, (residuals[:corners].reshape(-1, 2) ** 2).sum(axis=1), self.count)
        total += (residuals[corners:].reshape(-1, 6) ** 2).sum(axis=1)
        return np.sqrt(total / (2 * np.bincount(self.owner, minlength=self.count)))
