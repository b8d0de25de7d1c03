"""robot_node: arm and gripper of one connection. State out; chunks -> executor -> safety filter -> devices, 100 Hz.

Starting it connects and reads only; devices are prepared on `SetMode(READY)`. It latches a hold when the watchdog is
silent or raises an alarm. It knows neither who makes chunks nor which library answers under the device.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import JointState

from vla_rft_core.cell import ChunkOutcome, find_cell, from_factory
from vla_rft_core.clock import SystemClock, nanoseconds, seconds
from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.executor import ExecutorConfig
from vla_rft_core.modes import REARM_ORIGINS, Mode
from vla_rft_core.priority import SERVO, in_real_time
from vla_rft_core.types import Source
from vla_rft_hardware.protocols import Diagnosed
from vla_rft_hardware.servo_loop import ServoLoop, ServoReport
from vla_rft_hardware.shadow import ShadowArm, ShadowGripper
from vla_rft_interfaces.msg import ActionChunk, ChunkVerdict, RobotState, SafetyStatus
from vla_rft_interfaces.msg import ServoReport as ServoReportMessage
from vla_rft_interfaces.srv import Rearm, SetMode
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.latency import CHUNK_COSTS, CHUNK_LATENCY, ROBOT_COSTS, ChunkCosts, ChunkLatency, Samples
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run
from vla_rft_nodes.transforms import StaticFrames

BREATH_S = 0.001
"""After a late tick: in real time a thread that never waits would leave nothing of its core to the others."""
TROUBLED_TICKS = 3
"""So many servo ticks running: after a stall of our own the servo thread looks before the watchdog's word is read."""


@dataclass(frozen=True, kw_only=True)
class RobotNodeConfig:
    """Parameters of robot_node."""

    device: str
    """Factory "module:function" of the arm and gripper; called with `address`, `cell` and `interface`."""
    address: str = ""
    """What the factory connects to: socket of the simulated world, serial number of the arm."""
    interface: str = ""
    """IPv4 address of the network card that the arm is on; empty = any."""
    shadow: bool = False
    """Everything runs and nothing is sent to the devices; the intended motion is published."""
    cell: str
    """Cell folder: a path, or "package:folder"."""
    servo_rate: float = 100.0
    """[Hz]"""
    standard_rate: float = 20.0
    """Of the standard messages: joint_states, tcp_pose, external wrench [Hz]."""
    interpolation: str = "linear"
    """Between targets: linear or cubic."""
    grace: float = 0.2
    """How long the last target is kept before the arm holds [s]."""
    watchdog_timeout: float = 0.2
    """Silence of the watchdog that latches [s]."""


class RobotNode(ShellNode):
    """Owns the one ServoLoop of the system."""

    def __init__(self) -> None:
        super().__init__("robot_node")
        config = self._config = read_parameters(self, RobotNodeConfig)
        cell = find_cell(config.cell)
        self._host_clock = SystemClock()
        self._arm, self._gripper = from_factory(config.device, config.address, cell=cell, interface=config.interface)
        if config.shadow:
            self._arm, self._gripper = ShadowArm(self._arm), ShadowGripper(self._gripper)
        self._loop = ServoLoop(
            self._arm,
            self._gripper,
            profile=cell.safety,
            clock=self._host_clock,
            executor=ExecutorConfig(interpolation=config.interpolation, grace_s=config.grace),
            period_s=1.0 / config.servo_rate,
        )
        self._watchdog_ns = 0
        self._watchdog_alarm = ""
        self._troubled_ticks = 0
        self._last_status = self._loop.status()
        self._latency, self._costs = ChunkLatency(), ChunkCosts()
        self._handling, self._stepping, self._devices = Samples(), Samples(), Samples()
        self._ticks = self._overruns = 0

        self._states = self.create_publisher(RobotState, topics.ROBOT_STATE, qos.STATE)
        self._poses = self.create_publisher(PoseStamped, topics.TCP_POSE, qos.STATE)
        self._wrenches = self.create_publisher(WrenchStamped, topics.EXTERNAL_WRENCH, qos.STATE)
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, qos.STATE)
        self._reports = self.create_publisher(ServoReportMessage, topics.SERVO_REPORT, qos.EVENT)
        self._verdicts = self.create_publisher(ChunkVerdict, topics.CHUNK_VERDICT, qos.EVENT)
        self._statuses = self.create_publisher(SafetyStatus, topics.SAFETY_STATUS, qos.LATCHED)
        self.create_subscription(ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.COMMAND)
        self.create_subscription(DiagnosticStatus, topics.WATCHDOG, self._on_watchdog, qos.STATE)
        # Preparing devices takes seconds: in a group of its own, so that chunks and heartbeats go on.
        slow = MutuallyExclusiveCallbackGroup()
        self.create_service(SetMode, topics.SET_MODE, self._set_mode, callback_group=slow)
        self.create_service(Rearm, topics.REARM, self._rearm, callback_group=slow)
        self.create_timer(0.1, self._publish_status)
        self._status_lock = threading.Lock()
        self._frames = StaticFrames(self, cell)
        self.start_worker(self._servo, "servo")

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """Mode, counts and servo overruns."""
        status = self._loop.status()
        values = {
            "mode": status.mode,
            "source": status.source or "",
            "chunks_accepted": status.chunks_accepted,
            "chunks_rejected": status.chunks_rejected,
            "targets_late": status.targets_late,
            "servo_ticks": self._ticks,
            "servo_overruns": self._overruns,
            "shadow": self._config.shadow,
            CHUNK_LATENCY: json.dumps(self._latency.figures()),
            **{
                name: json.dumps(samples.figures())
                for name, samples in zip(ROBOT_COSTS, (self._handling, self._stepping, self._devices), strict=True)
            },
            CHUNK_COSTS: json.dumps(self._costs.figures()),
        }
        for device in (self._arm, self._gripper):
            if isinstance(device, Diagnosed):
                values |= device.diagnostics()
        return (f"hold latched: {status.reason}" if status.mode is Mode.HOLD_LATCHED else ""), values

    def close(self) -> None:
        """Let go of the devices; the arm finishes its last target, a hold if it was moving."""
        self._arm.close()
        self._gripper.close()

    # --- the servo thread -------------------------------------------------------------------------------------

    def _servo(self) -> None:
        period_ns = nanoseconds(1.0 / self._config.servo_rate)
        standard_every = max(1, round(self._config.servo_rate / self._config.standard_rate))
        in_real_time(SERVO)
        due_ns = time.monotonic_ns()
        while not self.stopping:
            self._check_watchdog()
            began = time.perf_counter()
            report = self._loop.step()
            took_s = time.perf_counter() - began
            self._stepping.add(took_s)
            self._devices.add(report.devices_s)
            self._states.publish(convert.to_robot_state(report.state))
            if report.played is not None or report.sent is not None:
                self._reports.publish(convert.to_servo_report(report))
                self._measure_latency(report, took_s)
            if self._ticks % standard_every == 0:
                self._joints.publish(convert.to_joint_state(report.state))
                self._poses.publish(convert.to_pose_stamped(report.state))
                self._wrenches.publish(convert.to_wrench_stamped(report.state))
            if report.reasons:
                self._publish_status(only_changes=True)
            self._ticks += 1
            due_ns += period_ns
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            else:
                self._overruns += 1
                due_ns -= wait_ns  # late ticks are dropped, never made up for
                time.sleep(BREATH_S)
        self._loop.latch("robot_node is ending")
        self._loop.step()

    def _measure_latency(self, report: ServoReport, took_s: float) -> None:
        if report.played is not None and report.sent is not None:
            played = report.played
            waited_s = self._latency.see(
                source=played.source,
                sequence=played.sequence,
                received_ns=report.chunk_received_ns,
                sent_ns=report.stamp_ns,
            )
            if waited_s is not None and played.source is Source.POLICY:
                self._costs.add(played.sequence, took_s - report.devices_s)

    def _check_watchdog(self) -> None:
        reason = self._watchdog_problem()
        self._troubled_ticks = self._troubled_ticks + 1 if reason else 0
        if self._troubled_ticks >= TROUBLED_TICKS and self._loop.status().mode in (Mode.READY, Mode.ACTIVE):
            self._loop.latch(reason)
            self._publish_status(only_changes=True)

    def _watchdog_problem(self) -> str:
        if self._watchdog_ns == 0:
            return "watchdog: never heard of"
        silent_s = seconds(self._host_clock.monotonic_ns() - self._watchdog_ns)
        if silent_s > self._config.watchdog_timeout:
            return f"watchdog: silent for {silent_s:.2f} s"
        return self._watchdog_alarm

    # --- topics and services ----------------------------------------------------------------------------------

    def _on_chunk(self, message: ActionChunk) -> None:
        received_ns, began = self._host_clock.realtime_ns(), time.perf_counter()
        try:
            outcome = self._loop.submit(convert.from_chunk(message))
        except ValueError as error:
            age_ns = received_ns - convert.to_ns(message.header.stamp)
            outcome = ChunkOutcome(
                sequence=message.sequence, accepted=False, reason=str(error), targets_late=0, age_ns=age_ns
            )
        took_s = time.perf_counter() - began
        self._handling.add(took_s)
        if message.source == Source.POLICY:
            self._costs.add(message.sequence, took_s)
        self._verdicts.publish(convert.to_verdict(outcome, source=message.source, received_ns=received_ns))
        if not outcome.accepted:
            self.get_logger().warning(f"chunk {outcome.sequence} rejected: {outcome.reason}", throttle_duration_sec=1.0)

    def _on_watchdog(self, message: DiagnosticStatus) -> None:
        self._watchdog_ns = self._host_clock.monotonic_ns()
        self._watchdog_alarm = "" if message.level == DiagnosticStatus.OK else message.message

    def _set_mode(self, request: SetMode.Request, response: SetMode.Response) -> SetMode.Response:
        try:
            response.steps = self._change_mode(request.mode, request.source)
        except ModeError as error:
            response.error_code, response.error_msg = SetMode.Response.NOT_ALLOWED, str(error)
        except DeviceError as error:
            response.error_code, response.error_msg = SetMode.Response.DEVICE_FAULT, str(error)
        except ValueError as error:
            known = request.mode in (Mode.READY, Mode.ACTIVE, Mode.MAINTENANCE)
            code = SetMode.Response.UNKNOWN_SOURCE if known else SetMode.Response.UNKNOWN_MODE
            response.error_code, response.error_msg = code, str(error)
        response.mode = str(self._loop.status().mode)
        self._publish_status()
        return response

    def _change_mode(self, mode: str, source: str) -> list[str]:
        if mode == Mode.MAINTENANCE:
            self._loop.maintain()
            return ["arm: stopped"]
        if mode == Mode.READY:
            if source and source != self._loop.status().source:
                raise ModeError(f"{source} has no lease to give back")
            if self._loop.status().mode is Mode.ACTIVE:
                self._loop.release()
                return ["lease: released"]
            if self._loop.status().connected:  # else its own silence is what the watchdog complains of
                self._require_watchdog()
            return self._loop.ready()
        if mode == Mode.ACTIVE:
            if source not in list(Source):
                raise ValueError(f"unknown source {source!r}; known: {', '.join(Source)}")
            self._loop.activate(Source(source))
            return [f"lease: {source}"]
        raise ValueError(f"mode {mode!r} cannot be asked for; known: MAINTENANCE, READY, ACTIVE")

    def _require_watchdog(self) -> None:
        problem = self._watchdog_problem()
        if problem:
            raise ModeError(f"READY is refused while something is wrong: {problem}")

    def _rearm(self, request: Rearm.Request, response: Rearm.Response) -> Rearm.Response:
        codes = Rearm.Response
        mode = self._loop.status().mode
        try:
            if mode is Mode.HOLD_LATCHED and request.origin in REARM_ORIGINS:
                response.error_code = codes.CAUSE_PERSISTS
                self._require_watchdog()
            else:
                response.error_code = codes.ORIGIN_REFUSED if mode is Mode.HOLD_LATCHED else codes.NOT_LATCHED
            self._loop.rearm(request.origin)
            response.error_code = codes.NONE
        except ModeError as error:
            response.error_msg = str(error)
        except DeviceError as error:
            response.error_code, response.error_msg = codes.DEVICE_FAULT, str(error)
        response.mode = str(self._loop.status().mode)
        self._publish_status()
        return response

    def _publish_status(self, *, only_changes: bool = False) -> None:
        with self._status_lock:
            status = self._loop.status()
            changed = (status.mode, status.source) != (self._last_status.mode, self._last_status.source)
            if only_changes and not changed:
                return
            if changed:
                detail = status.reason or status.source or ""
                self.get_logger().info(f"mode {status.mode}{f' ({detail})' if detail else ''}")
            self._last_status = status
            if not self.context.ok():
                return  # the process is ending: a mode changed while nobody can be told any more
            self._statuses.publish(convert.to_safety_status(status, stamp_ns=self._host_clock.realtime_ns()))


def main() -> None:
    """Entry point of the executable."""
    run(RobotNode, threads=2, real_time=True)


if __name__ == "__main__":
    main()
