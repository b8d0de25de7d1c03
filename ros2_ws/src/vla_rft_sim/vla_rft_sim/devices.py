"""A world's arm, gripper and camera as devices in the same process.

No sockets, no threads; time is the given clock's.
"""

from __future__ import annotations

from vla_rft_core.clock import Clock
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, CameraFrame, GripperState
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.world_protocol import World


class SimArm:
    """Satisfies `Arm`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def state(self) -> ArmState:
        """The arm now."""
        return self._world.arm_state(self._clock.realtime_ns())

    def prepare(self) -> list[str]:
        """Enter the Cartesian motion mode from where the arm is."""
        self._world.controller.enter_motion(self.state().q)
        return ["entered the simulated Cartesian motion mode"]

    def send(self, T_base_tcp: Pose) -> None:
        """A new target; DeviceError before `prepare` and after `stop`."""
        self._world.controller.set_target(T_base_tcp)

    def stop(self) -> None:
        """Brake and leave the motion mode."""
        self._world.controller.stop()

    def close(self) -> None:
        """The arm finishes its last target."""


class SimGripper:
    """Satisfies `Gripper`."""

    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    def state(self) -> GripperState:
        """The gripper now."""
        return self._world.gripper_state(self._clock.realtime_ns())

    def prepare(self) -> list[str]:
        """Nothing moves: the simulated fingers know where they are."""
        return ["initialised the simulated gripper"]

    def move(self, width: float) -> None:
        """Open or close [m]."""
        self._world.set_width(width)

    def close(self) -> None:
        """Nothing to let go of."""


class SimCamera:
    """Satisfies `Camera`: every read is a new picture of this moment."""

    def __init__(self, world: World, clock: Clock, camera: str, *, depth: bool = True) -> None:
        self._world = world
        self._clock = clock
        self._camera = camera
        self._depth = depth
        self._number = 0

    def info(self) -> CameraInfo:
        """The simulated D435i's calibration."""
        return self._world.camera_info(self._camera)

    def read(self, timeout_s: float) -> CameraFrame | None:
        """A picture of now; it never has to wait."""
        return self.capture()

    def capture(self) -> CameraFrame:
        """A picture of now."""
        color, depth = self._world.render(depth=self._depth)
        stamp_ns = self._clock.realtime_ns()
        self._number += 1
        return CameraFrame(self._camera, stamp_ns, stamp_ns, self._number, color, depth)

    def close(self) -> None:
        """Nothing to stop."""
