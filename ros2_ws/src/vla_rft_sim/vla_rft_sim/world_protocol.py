"""What a simulated world must do, so that devices, the world process and the cell need not know which one they have."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import ArmState, Depth, GripperState, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.controller import ArmController
from vla_rft_sim.gripper import SPEED
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.towel import Placement, TowelTruth

STEP_NS = 5_000_000
"""The worlds' time step; `advance` takes multiples of it."""


class World(Protocol):
    """An arm with gripper, a camera and perhaps a towel, advancing when told. Not safe for use by several threads."""

    controller: ArmController

    def reset(self, seed: int, *, arm: bool = True, placement: Placement | None = None) -> Placement:
        """Put the towel where `seed` says, or at `placement`; with `arm` also the arm at home, at rest, idle and open.

        Without `arm` the arm stays as it is, as in a lab where a hand lays the towel out; held cloth is let go first.
        """

    def advance(self, duration_ns: int) -> None:
        """Let time pass: a multiple of `STEP_NS`. DeviceError when the physics failed."""

    def arm_state(self, stamp_ns: int) -> ArmState:
        """The arm as measured now, stamped by the caller's clock."""

    def gripper_state(self, stamp_ns: int) -> GripperState:
        """The gripper as measured now."""

    def set_width(self, width: float, *, speed: float = SPEED) -> None:
        """Open or close the fingers to `width` [m] at a speed [m/s]; ValueError when the width is not finite."""

    def truth(self) -> TowelTruth:
        """What only a simulator knows; DeviceError in a world without towel."""

    def camera_info(self, camera: str) -> CameraInfo:
        """Calibration of the one camera, under the name the caller gives it."""

    def capture(self) -> None:
        """Take over what the camera sees now, for `develop`; quick. DeviceError when this machine cannot render."""

    def develop(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """A noisy colour image uint8 (H, W, 3) and the depth aligned to it, uint16 (H, W) [mm], None unless wanted.

        It may run while the world advances in another thread; then all its calls, and `close`, belong to one thread.
        """

    def render(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """`capture` and `develop` at once."""

    def describe(self) -> str:
        """The towel's placement in words."""

    def close(self) -> None:
        """Let go of the renderer."""


def steps_in(duration_ns: int) -> int:
    """How many steps of `STEP_NS` a duration is; ValueError when it is not a multiple or negative."""
    if duration_ns < 0 or duration_ns % STEP_NS:
        raise ValueError(f"a world advances by multiples of {STEP_NS} ns, got {duration_ns}")
    return duration_ns // STEP_NS


def measured_arm(
    kinematics: ArmKinematics, q: Array, dq: Array, *, stamp_ns: int, tau_ext: Array, operational: bool
) -> ArmState:
    """The state of an arm at joint positions and velocities (7,), with external joint torques (7,) [Nm]."""
    tcp, jacobian = kinematics.tcp_and_jacobian(q)
    wrench = np.zeros(6)
    if tau_ext.any():
        # The wrench that explains the joint torques best, as a controller without a wrist sensor reports it.
        gram = jacobian @ jacobian.T
        gram.flat[::7] += 1e-9
        wrench = np.linalg.solve(gram, jacobian @ tau_ext)
    return ArmState(
        stamp_ns=stamp_ns,
        q=q,
        dq=dq,
        tau_ext=tau_ext,
        T_base_tcp=Pose.from_matrix(tcp),
        tcp_twist=jacobian @ dq,
        wrench=wrench,
        operational=operational,
    )
