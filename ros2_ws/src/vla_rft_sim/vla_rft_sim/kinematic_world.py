"""A world of milliseconds for tests: the arm follows its controller exactly, there is no towel and no MuJoCo.

Its picture is synthetic: a table, a dot where the tcp is, and noise, so that every frame differs.
"""

from __future__ import annotations

import cv2
import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.types import ArmState, Depth, GripperState, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.controller import ArmController
from vla_rft_sim.gripper import SPEED, WidthRamp
from vla_rft_sim.intrinsics import color_camera_info, pixel_rays
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q, T_BASE_CAMERA
from vla_rft_sim.towel import Placement, TowelTruth, draw
from vla_rft_sim.world_protocol import STEP_NS, measured_arm, steps_in

_TABLE_RGB, _WALL_RGB, _TCP_RGB = (196, 164, 124), (228, 228, 224), (40, 90, 200)
_DOT_RADIUS_M = 0.02


class KinematicWorld:
    """Satisfies `World` without physics."""

    def __init__(self, *, width: int = 640, height: int = 480) -> None:
        self._kinematics = ArmKinematics()
        self._info = color_camera_info("camera", width, height)
        self.controller = ArmController(self._kinematics, HOME_Q)
        self._fingers = WidthRamp()
        self._backdrop: tuple[Image, Depth] | None = None
        self._seen_tcp = np.zeros(3)
        self.reset(0)

    def reset(self, seed: int, *, arm: bool = True, placement: Placement | None = None) -> Placement:
        """Say which placement a towel would have; with `arm`, home, idle and open."""
        if arm:
            self.controller.place(HOME_Q)
            self._fingers = WidthRamp()
        self._random = np.random.default_rng(seed)
        self._placement = placement or draw(seed)
        return self._placement

    def advance(self, duration_ns: int) -> None:
        """Let the controller and the fingers move."""
        for _ in range(steps_in(duration_ns)):
            self.controller.step(STEP_NS * 1e-9)
            self._fingers.advance(STEP_NS * 1e-9)

    def arm_state(self, stamp_ns: int) -> ArmState:
        """The arm exactly where its controller commands it."""
        q, dq = self.controller.q.copy(), self.controller.dq.copy()
        return measured_arm(
            self._kinematics,
            q,
            dq,
            stamp_ns=stamp_ns,
            tau_ext=np.zeros(7),
            operational=self.controller.mode == "cartesian",
        )

    def gripper_state(self, stamp_ns: int) -> GripperState:
        """The fingers on their ramp; they never hold anything."""
        return GripperState(stamp_ns, self._fingers.width, 0.0, self._fingers.moving)

    def set_width(self, width: float, *, speed: float = SPEED) -> None:
        """Open or close the fingers [m] at a speed [m/s]."""
        self._fingers.set(width, speed)

    def truth(self) -> TowelTruth:
        """There is none."""
        raise DeviceError("the kinematic world has no towel; start the simulation with the towel world")

    def camera_info(self, camera: str) -> CameraInfo:
        """The D435i's intrinsics at this size."""
        return color_camera_info(camera, self._info.width, self._info.height)

    def capture(self) -> None:
        """Keep where the tcp is."""
        self._seen_tcp = self._kinematics.tcp_pose(self.controller.q).position

    def develop(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """Table, wall, the tcp as a dot, and fresh noise."""
        if self._backdrop is None:
            self._backdrop = self._paint_backdrop()
        color, distance = self._backdrop[0].copy(), self._backdrop[1].copy()
        x, y, z = T_BASE_CAMERA.inverse().apply(self._seen_tcp)
        info = self._info
        if z > 0.05:
            pixel = (round(info.fx * x / z + info.cx), round(info.fy * y / z + info.cy))
            radius = max(2, round(info.fx * _DOT_RADIUS_M / z))
            cv2.circle(color, pixel, radius, _TCP_RGB, -1)
            cv2.circle(distance, pixel, radius, z * 1000.0, -1)
        noise = self._random.integers(0, 8, (info.height, 1, 1), dtype=np.uint8)
        return np.minimum(color, 247) + noise, distance if depth else None

    def render(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """Capture and develop."""
        self.capture()
        return self.develop(depth=depth)

    def describe(self) -> str:
        """The placement a towel would have."""
        return str(self._placement)

    def close(self) -> None:
        """Nothing to let go of."""

    def _paint_backdrop(self) -> tuple[Image, Depth]:
        """The empty scene: colour (H, W, 3) and table distance [mm] (0 where the view passes over the table)."""
        rays = pixel_rays(self._info)
        downward = (rays @ T_BASE_CAMERA.matrix()[:3, :3].T)[..., 2]
        with np.errstate(divide="ignore"):
            z = np.where(downward < -1e-3, -T_BASE_CAMERA.position[2] / downward, np.inf)
        on_table = z < 2.5
        color = np.where(on_table[..., None], _TABLE_RGB, _WALL_RGB).astype(np.uint8)
        return color, np.where(on_table, z * 1000.0, 0.0).astype(np.uint16)
