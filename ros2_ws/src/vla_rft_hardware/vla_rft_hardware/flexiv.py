"""The Flexiv Rizon 4s with its GN01, driven by the vendor's library: `Arm`, `Gripper` and the watchdog's stop.

Connecting only reads. The library is passed in, or loaded when a factory is called without one. Quaternions are wxyz
there and xyzw everywhere else; its world is our base, so the mounting set in Elements must be the identity.
`python -m vla_rft_hardware.flexiv SERIAL` connects, prints what it read, and ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_rft_core.cell import CellFolder
from vla_rft_core.clock import NS_PER_S, Clock, SystemClock, nanoseconds
from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.motion_profile import MotionProfile
from vla_rft_core.spec import ToolSpec
from vla_rft_core.types import ArmState
from vla_rft_hardware.flexiv_clock import RobotClock
from vla_rft_hardware.flexiv_faults import NO_FAULTS, RECONNECT_BACKOFF_S, Response, fault_row
from vla_rft_hardware.flexiv_gripper import FlexivGripper
from vla_rft_hardware.flexiv_link import FlexivLink, Sleep, load_rdk, open_robot, vendor_words
from vla_rft_hardware.flexiv_prepare import Preparation, event_words, pose_from_rdk

JOINTS = 7
FIRST_STATE_S = 2.0
"""How long a fresh connection may take to report its first state [s]."""
STOP_CONNECT_S = 60.0
"""How long the watchdog's connection waits for the robot's own one, without which it cannot be made."""
CATCH_UP_S = 0.5
"""Pause after `prepare`: the library let no other thread run during its calls, heartbeats have piled up [s]."""
_NO_WRENCH = [0.0] * 6
_AT_REST = [0.0] * 6


class FlexivArm:
    """Satisfies `Arm`. It accepts targets from `prepare` on until a fault, a stop or a lost connection."""

    def __init__(
        self, link: FlexivLink, gripper: FlexivGripper, *, profile: MotionProfile, preparation: Preparation
    ) -> None:
        self._link: FlexivLink | None = link
        self._gripper = gripper
        self._profile = profile
        self._preparation = preparation
        self._robot_clock = RobotClock(link.clock)
        self._session = 0  # the connection in which it was prepared; 0 = it accepts no target
        self._left = ""  # why it left the motion mode by itself
        self._events_known = 0
        self._sent_wxyz = np.zeros(4)
        self._facts: dict[str, str] = {}
        if not link.wait(self._reports, FIRST_STATE_S):
            raise DeviceError(f"{link.serial} is connected but reports no state; look for messages in Elements")
        info = link.call("info")
        if info.DoF != JOINTS:
            raise DeviceError(f"{link.serial} has {info.DoF} joints, this driver moves arms of {JOINTS} without axes")
        self._about = {
            "serial": str(info.serial_num),
            "model": str(info.model_name),
            "software": str(info.software_ver),
        }

    def _reports(self) -> bool:
        """Its states are filled: an orientation of zeros is none."""
        return any(self._opened().call("states").tcp_pose[3:])

    # --- state ------------------------------------------------------------------------------------------------

    def state(self) -> ArmState:
        """The newest measurement, stamped with the robot's own time in the host's clock."""
        try:
            return self._read_state()
        except ConnectionLostError:
            if self._session:  # also when it comes back by itself: what happened meanwhile is unknown
                self._session, self._left = 0, "the connection to the arm was lost: ask for READY"
            raise

    def _read_state(self) -> ArmState:
        link = self._opened()
        with link.lock:
            link.require_connected()
            states = link.call("states")
            status = str(link.call("operational_status").name)
            mode = link.call("mode")
            self._notice(status, mode)
            operational = self._session == link.sessions
            fault = self._fault(status)
            seconds_, nanoseconds_ = states.timestamp
            stamp_ns = self._robot_clock.stamp_ns(int(seconds_) * NS_PER_S + int(nanoseconds_))
        temperatures = [float(value) for value in states.temperature] or [0.0]
        hottest = f"{max(temperatures):.1f} degC"
        self._facts = {"status": status, "mode": str(mode.name), "fault": fault, "hottest joint": hottest}
        return ArmState(
            stamp_ns=stamp_ns,
            q=_vector(states.q, JOINTS),
            dq=_vector(states.dtheta, JOINTS),  # the motor side's is the one without the noise
            tau_ext=_vector(states.tau_ext, JOINTS),
            T_base_tcp=pose_from_rdk(states.tcp_pose),
            tcp_twist=_vector(states.tcp_vel, 6),
            wrench=_vector(states.ext_wrench_in_world, 6),
            operational=operational,
            fault=fault,
        )

    def _notice(self, status: str, mode: Any) -> None:
        """See the arm leave the motion mode: from then on it is not operational until it is prepared again."""
        link = self._opened()
        in_motion = mode == link.rdk.Mode.NRT_CARTESIAN_MOTION_FORCE
        if not self._session or (status == "READY" and in_motion and self._session == link.sessions):
            return
        self._session = 0
        words = event_words(link, since=self._events_known)
        cause = f"it left the motion mode (now {mode.name})" if status == "READY" else fault_row(status).sentence()
        self._left = f"{cause}{words}"

    def _fault(self, status: str) -> str:
        """Words for a fault that lasts, else why the motion mode was left; an arm not prepared yet has none."""
        row = fault_row(status)
        if row.response is Response.NONE or status in NO_FAULTS or self._left.startswith(row.sentence()):
            return self._left
        return row.sentence()

    # --- commands ---------------------------------------------------------------------------------------------

    def prepare(self) -> list[str]:
        """Clear fault, enable, compare the tool, zero the force sensor, prepare the gripper, enter the motion mode."""
        link = self._opened()
        with link.lock:
            self._session = 0
        steps = self._preparation.run(self._gripper.prepare)
        with link.lock:
            link.require_connected()
            self._events_known = len(link.call("event_log"))
            self._sent_wxyz = np.array(link.call("states").tcp_pose[3:], dtype=np.float64)
            self._session, self._left = link.sessions, ""
        link.sleep(CATCH_UP_S)
        return steps

    def send(self, T_base_tcp: Pose) -> None:
        """New target of the tcp, with the profile's caps; DeviceError when it was not prepared or is gone."""
        link, profile = self._opened(), self._profile
        x, y, z, w = T_base_tcp.quaternion.tolist()
        wxyz = np.array([w, x, y, z])
        with link.lock:
            link.require_connected()
            if self._session != link.sessions:
                raise DeviceError(
                    self._left or "the arm accepts no target: it is not prepared; set the mode READY first"
                )
            if float(wxyz @ self._sent_wxyz) < 0.0:
                wxyz = -wxyz  # the same orientation; a stream that flips its sign could be taken for a turn
            link.call(
                "SendCartesianMotionForce",
                [*T_base_tcp.position.tolist(), *wxyz.tolist()],
                _NO_WRENCH,
                _AT_REST,
                profile.max_linear_velocity,
                profile.max_angular_velocity,
                profile.max_linear_acceleration,
                profile.max_angular_acceleration,
            )
            self._sent_wxyz = wxyz

    def stop(self) -> None:
        """Brake, and leave the motion mode; returns when the arm stands."""
        link = self._opened()
        with link.lock:
            self._session, self._left = 0, ""
            link.require_connected()
            link.call("Stop")

    def diagnostics(self) -> Mapping[str, str]:
        """Facts, temperatures, fault words and call times, from what was read last; asks the arm nothing."""
        values = {**self._about, **self._facts}
        if self._link is not None:
            values["clock offset"] = f"{self._robot_clock.offset_s():+.4f} s"
            values["connections made"] = str(self._link.sessions)
            values.update(self._link.call_times())
        return values

    def describe(self) -> Mapping[str, str]:
        """Facts that must be asked for: emergency stop, tool, force sensor; for checks, not for a loop."""
        link = self._opened()
        link.require_connected()
        zeroed = "yes" if self._preparation.zeroed else "no"
        return {**read_facts(link), "force sensor zeroed": zeroed}

    def close(self) -> None:
        """Let go of the connection; the arm finishes its last target."""
        if self._link is not None:
            self._link.leave()
            self._link = None

    def _opened(self) -> FlexivLink:
        if self._link is None:
            raise DeviceError("this arm was closed")
        return self._link


class FlexivStop:
    """The watchdog's connection: a second, small one that can stop the arm and nothing else."""

    def __init__(self, robot: Any, serial: str) -> None:
        self._robot, self._serial = robot, serial

    def stop(self) -> None:
        """Brake, and leave the motion mode; returns when the arm stands."""
        if self._robot is None:
            raise DeviceError("this connection was closed")
        try:
            self._robot.Stop()
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"{self._serial} could not be stopped: {vendor_words(error)}") from None

    def close(self) -> None:
        """Let go of the connection."""
        self._robot = None


def _vector(values: Any, length: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (length,):
        raise DeviceError(f"the arm reports {vector.shape} values where {length} belong")
    return vector


# --- factories ----------------------------------------------------------------------------------------------------


def connect(
    serial: str,
    *,
    rdk: Any,
    profile: MotionProfile,
    tool: ToolSpec,
    posture: tuple[float, ...],
    interface: str = "",
    clock: Clock | None = None,
    sleep: Sleep = time.sleep,
) -> tuple[FlexivArm, FlexivGripper]:
    """Arm and gripper over one connection of the library `rdk`; reads only. `posture`: null-space joints (7,) [rad].

    `interface` is the local IPv4 address of the network card to use; empty tries all.
    """
    link = FlexivLink(serial, rdk=rdk, interface=interface, clock=clock, sleep=sleep)
    gripper = FlexivGripper(link, profile)
    preparation = Preparation(link, profile=profile, tool=tool, posture=posture)
    return FlexivArm(link, gripper, profile=profile, preparation=preparation), gripper


def connect_robot(
    serial: str, *, cell: CellFolder, interface: str = "", rdk: Any = None
) -> tuple[FlexivArm, FlexivGripper]:
    """Arm and gripper of a cell folder; DeviceError in one sentence when they cannot be reached."""
    if cell.motion is None:
        raise DeviceError(f"{cell.path}: the arm's driver needs a motion.yaml in the cell folder")
    return connect(
        serial,
        rdk=rdk or load_rdk(),
        profile=cell.motion,
        tool=cell.spec.tool,
        posture=cell.spec.home.q,
        interface=interface,
    )


def connect_stop(
    serial: str, *, interface: str = "", rdk: Any = None, timeout_s: float = STOP_CONNECT_S, sleep: Sleep = time.sleep
) -> FlexivStop:
    """The connection that may only stop the arm. It needs the robot's own one, so it waits and tries again."""
    rdk = rdk or load_rdk()
    clock = SystemClock()
    end_ns = clock.monotonic_ns() + nanoseconds(timeout_s)
    while True:
        try:
            return FlexivStop(open_robot(rdk, serial, interfaces=[interface] if interface else [], lite=True), serial)
        except DeviceError:
            if clock.monotonic_ns() + nanoseconds(RECONNECT_BACKOFF_S) >= end_ns:
                raise
        sleep(RECONNECT_BACKOFF_S)


def read_facts(link: FlexivLink) -> dict[str, str]:
    """What a connection tells when it is asked, changing nothing: named, in words, our conventions."""
    info, tool = link.call("info"), link.call("Tool.params")
    tcp, here = pose_from_rdk(tool.tcp_location), pose_from_rdk(link.call("states").tcp_pose)
    return {
        "serial": str(info.serial_num),
        "model": str(info.model_name),
        "software": str(info.software_ver),
        "licence": str(info.license_type),
        "status": str(link.call("operational_status").name),
        "mode": str(link.call("mode").name),
        "emergency stop": "released" if link.call("estop_released") else "pressed",
        "force sensor": "fitted" if info.has_FT_sensor else "none",
        "tool": str(link.call("Tool.name")),
        "tool tcp": _seven(tcp),
        "tool mass": f"{float(tool.mass):.4f} kg",
        "tcp": _seven(here),
        "stiffness": " ".join(f"{float(value):g}" for value in info.K_x_nom) + " N/m, Nm/rad at most",
    }


def _seven(pose: Pose) -> str:
    """x y z qx qy qz qw."""
    return " ".join(f"{value:.5f}" for value in [*pose.position.tolist(), *pose.quaternion.tolist()]) + " m, xyzw"


def main(arguments: list[str] | None = None) -> int:
    """Connect, print the facts, end: 0, or 1 with one sentence."""
    parser = argparse.ArgumentParser(description="Connect to a Flexiv arm, print what it tells, and change nothing.")
    parser.add_argument("serial", help="on the label of its base, for example Rizon4s-123456")
    parser.add_argument("--interface", default="", help="local IPv4 address of the network card to use")
    options = parser.parse_args(arguments)
    try:
        link = FlexivLink(options.serial, rdk=load_rdk(), interface=options.interface)
        for name, value in read_facts(link).items():
            print(f"{name}: {value}")
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
