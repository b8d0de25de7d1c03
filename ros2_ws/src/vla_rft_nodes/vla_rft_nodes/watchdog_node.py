"""watchdog_node: ages, heartbeats and alarms of everything that must be well; its 20 Hz word is what lets the arm move.

On `watchdog` it says OK or what is wrong; robot_node latches a hold on an alarm and on silence. When robot_node
itself is gone it stops the arm over its own, stop-only connection. It never starts motion.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from vla_rft_core.cell import from_factory
from vla_rft_core.clock import ClockJumpDetector, SystemClock, seconds
from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import HEARTBEAT_HZ, ShellNode, run

NODE_OF_SOURCE = {"teleop": "teleop_node", "policy": "policy_node"}
"""Whose heartbeat must be heard while a source holds the lease."""

ALARM_S = 1.0
"""How long a node's alarm counts after it was raised last [s]."""

HEADER_BYTES = 256
"""The head of a serialised image, skipped when pictures are compared: stamp, frame, size, encoding."""


@dataclass(frozen=True, kw_only=True)
class WatchdogConfig:
    """Parameters of watchdog_node."""

    cameras: tuple[str, ...]
    """Cameras that must deliver new pictures."""
    nodes: tuple[str, ...] = ("robot_node", "camera_node")
    """Nodes whose heartbeat must be heard."""
    stop_device: str = ""
    """Factory "module:function" of the stop-only connection, called with `address`; empty = none."""
    address: str = ""
    """What the factory connects to."""
    image_timeout: float = 0.5
    """Camera silent, or showing the same picture, for longer: alarm [s]."""
    state_timeout: float = 0.2
    """Robot state older: alarm [s]."""
    gone_timeout: float = 0.4
    """No state at all, not even a stale one, for longer: robot_node is gone and the arm is stopped [s]."""
    heartbeat_timeout: float = 0.2
    """Heartbeat silent for longer: alarm [s]."""


@dataclass
class Freshness:
    """When something last arrived, and when its content last changed (monotonic ns; 0 = never)."""

    arrived_ns: int = 0
    changed_ns: int = 0
    content: int | None = field(default=None, repr=False)

    def see(self, now_ns: int, content: int) -> None:
        """Something arrived whose content has this checksum or stamp."""
        self.arrived_ns = now_ns
        if content != self.content:
            self.changed_ns, self.content = now_ns, content


class WatchdogNode(ShellNode):
    """Looks at 20 Hz whether everything that must be fresh is."""

    def __init__(self) -> None:
        super().__init__("watchdog_node", heartbeat=False)
        config = self._config = read_parameters(self, WatchdogConfig)
        self._host_clock = SystemClock()
        self._jumps = ClockJumpDetector(self._host_clock)
        self._images = {name: Freshness() for name in config.cameras}
        self._state = Freshness()
        self._beats: dict[str, int] = {}
        self._raised: dict[str, tuple[int, str]] = {}
        self._status: SafetyStatus | None = None
        self._stop = from_factory(config.stop_device, config.address) if config.stop_device else None
        self._stopped = False
        self._alarm = ""
        self._suspicious = True  # until everything has been heard
        self._word = self.create_publisher(DiagnosticStatus, topics.WATCHDOG, qos.STATE)
        for name in config.cameras:
            self.create_subscription(
                Image, topics.color_image(name), partial(self._on_image, name), qos.IMAGE, raw=True
            )
        # Made by the servo thread like robot_state, at a rate that is enough to look at 20 Hz.
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, qos.STATE, raw=True)
        self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, qos.EVENT)
        self.create_subscription(DiagnosticStatus, topics.ALARM, self._on_alarm, qos.EVENT)
        self.create_subscription(SafetyStatus, topics.SAFETY_STATUS, self._on_status, qos.LATCHED)
        self.create_timer(1.0 / HEARTBEAT_HZ, self._look)

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """The alarm and the ages behind it."""
        now_ns = self._host_clock.monotonic_ns()
        ages = {f"image.{name}": seen.arrived_ns for name, seen in self._images.items()}
        ages |= {"robot_state": self._state.arrived_ns} | {f"heartbeat.{name}": at for name, at in self._beats.items()}
        return self._alarm, {name: f"{seconds(now_ns - at):.3f} s" if at else "never" for name, at in ages.items()}

    def close(self) -> None:
        """Release the stop-only connection."""
        if self._stop is not None:
            self._stop.close()

    def _on_image(self, camera: str, serialized: bytes) -> None:
        picture = memoryview(serialized)[HEADER_BYTES:]  # a frozen camera's stamps go on
        self._images[camera].see(self._host_clock.monotonic_ns(), zlib.crc32(picture))

    def _on_joints(self, serialized: bytes) -> None:
        self._state.see(self._host_clock.monotonic_ns(), convert.raw_stamp_ns(serialized))

    def _on_heartbeat(self, message: Header) -> None:
        self._beats[message.frame_id] = self._host_clock.monotonic_ns()

    def _on_alarm(self, message: DiagnosticStatus) -> None:
        self._raised[message.name] = (self._host_clock.monotonic_ns(), message.message)

    def _on_status(self, message: SafetyStatus) -> None:
        self._status = message

    def _look(self) -> None:
        now_ns = self._host_clock.monotonic_ns()
        suspicions = [
            *self._image_alarms(now_ns),
            *self._robot_alarms(now_ns),
            *self._heartbeat_alarms(now_ns),
            *self._raised_alarms(now_ns),
        ]
        # Two looks running: after a stall of its own, this timer comes before the messages that waited meanwhile.
        confirmed, self._suspicious = self._suspicious and bool(suspicions), bool(suspicions)
        alarms = suspicions if confirmed else []
        if confirmed and self._robot_is_gone(now_ns):
            self._stop_arm()
        jump_ns = self._jumps.check()
        if jump_ns:
            alarms.append(f"clock: the host's time jumped by {seconds(jump_ns):+.3f} s")
        alarm = "; ".join(alarms)
        if bool(alarm) != bool(self._alarm) and self._may_move:
            self.get_logger().info(f"alarm: {alarm}" if alarm else "all well")
        self._alarm = alarm
        level = DiagnosticStatus.ERROR if alarm else DiagnosticStatus.OK
        self._word.publish(DiagnosticStatus(level=level, name=self.get_name(), message=alarm or "ok"))

    @property
    def _may_move(self) -> bool:
        """The arm is prepared as far as is known: what is wrong matters to somebody."""
        return self._status is not None and self._status.mode != SafetyStatus.MAINTENANCE

    def _image_alarms(self, now_ns: int) -> list[str]:
        alarms = []
        for name, seen in self._images.items():
            limit_s = self._config.image_timeout
            if seen.arrived_ns == 0:
                alarms.append(f"camera: {name!r} has delivered nothing")
            elif seconds(now_ns - seen.arrived_ns) > limit_s:
                alarms.append(f"camera: {name!r} silent for {seconds(now_ns - seen.arrived_ns):.2f} s")
            elif seconds(now_ns - seen.changed_ns) > limit_s:
                alarms.append(f"camera: {name!r} frozen for {seconds(now_ns - seen.changed_ns):.2f} s")
        return alarms

    def _robot_alarms(self, now_ns: int) -> list[str]:
        seen = self._state
        if seen.arrived_ns == 0:
            return ["robot: no state yet"]
        silent_s = seconds(now_ns - seen.changed_ns)
        if silent_s <= self._config.state_timeout:
            self._stopped = False
            return []
        return [f"robot: state stale for {silent_s:.2f} s"]

    def _robot_is_gone(self, now_ns: int) -> bool:
        """Not even a stale state comes any more, though one did."""
        arrived_ns = self._state.arrived_ns
        return arrived_ns != 0 and seconds(now_ns - arrived_ns) > self._config.gone_timeout

    def _heartbeat_alarms(self, now_ns: int) -> list[str]:
        names = list(self._config.nodes)
        holder = NODE_OF_SOURCE.get(self._status.source) if self._status else None
        if holder:
            names.append(holder)
        alarms = []
        for name in names:
            if name not in self._beats:
                alarms.append(f"heartbeat: {name} not heard yet")
            elif seconds(now_ns - self._beats[name]) > self._config.heartbeat_timeout:
                alarms.append(f"heartbeat: {name} silent for {seconds(now_ns - self._beats[name]):.2f} s")
        return alarms

    def _raised_alarms(self, now_ns: int) -> list[str]:
        return [f"{name}: {what}" for name, (at, what) in self._raised.items() if seconds(now_ns - at) <= ALARM_S]

    def _stop_arm(self) -> None:
        """robot_node is gone: nobody else can hold the arm. Once, until its state is heard again."""
        if self._stop is None or self._stopped or not self._may_move:
            return
        self._stopped = True
        try:
            self._stop.stop()
            self.get_logger().error("robot_node is silent: stopped the arm")
        except DeviceError as error:
            self.get_logger().error(f"robot_node is silent, and stopping the arm failed: {error}")


def main() -> None:
    """Entry point of the executable."""
    run(WatchdogNode, real_time=True)


if __name__ == "__main__":
    main()
