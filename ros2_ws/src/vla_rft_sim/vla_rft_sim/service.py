"""What `sim_world` answers to each request: for the controller box, the camera, and the one who knows the truth.

State is read from the newest snapshot without waiting; everything else touches the world between two steps.
Knows nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vla_rft_core.clock import Clock, SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState
from vla_rft_sim.box import BOX_FAULTS, ControllerBox
from vla_rft_sim.camera_feed import CameraFeed
from vla_rft_sim.protocol import CAMERA_FAULTS, FAULTS, WorldStatus, decode_number, decode_pose, encode_fields
from vla_rft_sim.rdk_service import RdkService
from vla_rft_sim.realtime import RealTimeLoop


class WorldService:
    """Operations by name, each with the fields of its request."""

    def __init__(
        self, loop: RealTimeLoop, feed: CameraFeed, *, box: ControllerBox | None = None, clock: Clock | None = None
    ) -> None:
        self._loop = loop
        self._world = loop.world
        self._box = box or ControllerBox(loop.world)
        self._rdk = RdkService(self._box, read=self._read, run=loop.call, post=loop.post)
        loop.after_step = self._box.step
        self._feed = feed
        self._clock = clock or SystemClock()
        self._commands = self._stops = self._last_command_ns = 0
        self._faults: frozenset[str] = frozenset()
        self._stale_arm: ArmState | None = None
        self.count_clients: Callable[[], int] = lambda: 0
        self._operations: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "state": self._state,
            "send": self._send,
            "move": self._move,
            "prepare": self._prepare,
            "prepare_gripper": self._prepare_gripper,
            "stop": self._stop,
            "rdk": self._vendor_call,
            "lite": self._lite_call,
            "camera": self._camera,
            "camera_faults": self._camera_faults,
            "truth": self._truth,
            "reset": self._reset,
            "status": self._status,
            "box": self._describe_box,
            "inject": self._inject,
        }

    def answer(self, operation: str, fields: dict[str, Any]) -> Any:
        """The reply's content; DeviceError or ValueError with one sentence."""
        return self._operations[operation](fields)

    def _state(self, fields: dict[str, Any]) -> dict[str, Any]:
        arm, gripper = self._read()
        return {"arm": encode_fields(arm), "gripper": encode_fields(gripper)}

    def _read(self) -> tuple[ArmState, GripperState]:
        """The newest measurement, unless an injected fault keeps the arm's."""
        snapshot = self._loop.snapshot
        return self._stale_arm or snapshot.arm, snapshot.gripper

    def _vendor_call(self, fields: dict[str, Any]) -> Any:
        return self._counted(fields, self._rdk.answer(fields))

    def _lite_call(self, fields: dict[str, Any]) -> Any:
        return self._counted(fields, self._rdk.answer(fields, lite=True))

    def _counted(self, fields: dict[str, Any], answer: Any) -> Any:
        """The answer to a vendor's call; targets and stops that the box took are counted."""
        call = fields.get("call")
        if call == "Robot.Stop" and "lost" not in answer:
            self._stops += 1
        elif str(call).startswith("Robot.Send") and "value" in answer:
            self._count_command()
        return answer

    def _count_command(self) -> None:
        self._commands += 1
        self._last_command_ns = self._clock.realtime_ns()

    def _send(self, fields: dict[str, Any]) -> None:
        target = decode_pose(fields.get("pose"))
        if self._world.controller.mode == "idle":
            raise DeviceError("the arm is idle and accepts no target; prepare it first")
        self._count_command()
        self._loop.post(lambda: self._set_target(target))

    def _set_target(self, target: Pose) -> None:
        if self._world.controller.mode == "cartesian":  # a stop may have come between
            self._world.controller.set_target(target)

    def _move(self, fields: dict[str, Any]) -> None:
        width = decode_number(fields.get("width"), "a gripper width")
        self._loop.post(lambda: self._world.set_width(width))

    def _prepare(self, fields: dict[str, Any]) -> list[str]:
        return self._loop.call(self._enter_motion)

    def _enter_motion(self) -> list[str]:
        if self._world.controller.mode == "cartesian":
            return ["the arm was in Cartesian motion mode already"]
        self._box.prepare_directly()
        return ["cleared faults", "enabled the arm", "entered Cartesian motion mode"]

    def _prepare_gripper(self, fields: dict[str, Any]) -> list[str]:
        return ["initialised the gripper"]

    def _stop(self, fields: dict[str, Any]) -> None:
        self._loop.call(self._box.stop)
        self._stops += 1

    def _camera(self, fields: dict[str, Any]) -> str:
        name = fields.get("name")
        if name != self._feed.info.camera:
            raise DeviceError(f"this world has the camera {self._feed.info.camera!r}, not {name!r}")
        return str(self._feed.path)

    def _camera_faults(self, fields: dict[str, Any]) -> list[str]:
        return [fault for fault in CAMERA_FAULTS if fault in self._faults]

    def _describe_box(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self._loop.call(self._box.describe)

    def _truth(self, fields: dict[str, Any]) -> dict[str, Any]:
        return encode_fields(self._loop.call(self._world.truth))

    def _reset(self, fields: dict[str, Any]) -> dict[str, Any]:
        seed, arm = fields.get("seed"), fields.get("arm", False)
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ValueError(f"a seed is a whole number from 0, got {seed!r}")
        if not isinstance(arm, bool):
            raise ValueError(f"arm is true or false, got {arm!r}")
        return encode_fields(self._loop.call(lambda: self._world.reset(seed, arm=arm)))

    def _inject(self, fields: dict[str, Any]) -> None:
        fault, active = fields.get("fault"), fields.get("active")
        if fault not in FAULTS or not isinstance(active, bool):
            raise ValueError(f"a fault is one of {', '.join(FAULTS)}, active or not; got {fault!r}, {active!r}")
        if fault in BOX_FAULTS:
            self._loop.call(lambda: self._box.inject(fault, active))
            return
        self._faults = self._faults | {fault} if active else self._faults - {fault}
        if "state_stale" not in self._faults:
            self._stale_arm = None
        elif self._stale_arm is None:
            self._stale_arm = self._loop.snapshot.arm
        self._feed.silent = not self._faults.isdisjoint({"camera_silent", "camera_unplugged"})
        self._feed.frozen = "camera_frozen" in self._faults
        self._feed.slow = "camera_slow" in self._faults
        self._feed.overexposed = "camera_overexposed" in self._faults

    def _status(self, fields: dict[str, Any]) -> dict[str, Any]:
        snapshot, controller, punctuality = self._loop.snapshot, self._world.controller, self._loop.punctuality
        arm, mode = snapshot.arm, controller.mode
        status = WorldStatus(
            stamp_ns=snapshot.stamp_ns,
            mode=mode,
            target=controller.target if mode == "cartesian" else None,
            T_base_tcp=arm.T_base_tcp,
            speed=float(np.linalg.norm(arm.tcp_twist[:3])),
            angular_speed=float(np.linalg.norm(arm.tcp_twist[3:])),
            width=snapshot.gripper.width,
            stop_count=self._stops,
            last_command_ns=self._last_command_ns,
            commands=self._commands,
            steps=punctuality.steps,
            late_steps=punctuality.late_steps,
            lag_ns=punctuality.lag_ns,
            lost_ns=punctuality.lost_ns,
            frames=self._feed.count,
            clients=self.count_clients(),
            faults=tuple(sorted(self._faults | self._box.injected)),
            placement=self._world.describe(),
        )
        return encode_fields(status)
