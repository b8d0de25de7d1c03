"""Shadow devices: everything runs, the real devices are read, and nothing is sent to them.

In the real arm's place stands the ideal one: it is where it was last told to be. So a whole task can be watched as
intended motion (`servo_report`, `robot_state`) before the arm may move for the first time.
"""

from __future__ import annotations

import math
from dataclasses import replace

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState
from vla_rft_hardware.protocols import Arm, Gripper


class ShadowArm:
    """Satisfies `Arm`; only `state` and `close` reach the arm behind it."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._prepared = False
        self._target: Pose | None = None

    def state(self) -> ArmState:
        """As measured, but at the last target and ready to move, unless the real arm has a fault."""
        measured = self._arm.state()
        pose = self._target or measured.T_base_tcp
        return replace(measured, T_base_tcp=pose, operational=self._prepared and not measured.fault)

    def prepare(self) -> list[str]:
        """Start from where the real arm stands; it is not touched."""
        self._prepared, self._target = True, None
        return ["shadow: the arm is not prepared and will be sent nothing"]

    def send(self, T_base_tcp: Pose) -> None:
        """The ideal arm is there at once; DeviceError before `prepare` and after `stop`."""
        if not self._prepared:
            raise DeviceError("the shadow arm accepts no target; prepare it first")
        self._target = T_base_tcp

    def stop(self) -> None:
        """Accept nothing until prepared again."""
        self._prepared = False

    def close(self) -> None:
        """Let go of the real arm."""
        self._arm.close()


class ShadowGripper:
    """Satisfies `Gripper`; only `state` and `close` reach the gripper behind it."""

    def __init__(self, gripper: Gripper) -> None:
        self._gripper = gripper
        self._width: float | None = None

    def state(self) -> GripperState:
        """As measured, but at the width last asked for; fingers that were never enabled count as closed."""
        measured = self._gripper.state()
        if self._width is not None:
            return replace(measured, width=self._width, moving=False)
        return measured if math.isfinite(measured.width) else replace(measured, width=0.0, force=0.0)

    def prepare(self) -> list[str]:
        """The fingers are not touched."""
        self._width = None
        return ["shadow: the gripper is not prepared and will be sent nothing"]

    def move(self, width: float) -> None:
        """The ideal fingers are there at once."""
        self._width = width

    def close(self) -> None:
        """Let go of the real gripper."""
        self._gripper.close()
