"""SimCell: the towel cell in-process, in simulated time, as fast as the computer allows. No ROS, no sockets.

The same ServoLoop, executor and safety filter as on the robot, over a world on a manual clock. Pictures are rendered
when somebody observes, stamped with that moment.
"""

from __future__ import annotations

from collections.abc import Callable

from vla_rft_core.cell import CellFolder, ChunkOutcome, find_cell
from vla_rft_core.clock import ManualClock, nanoseconds
from vla_rft_core.executor import ExecutorConfig
from vla_rft_core.modes import Mode
from vla_rft_core.safety import Motion
from vla_rft_core.sync import FreshnessLimits, Streams, assemble
from vla_rft_core.types import ActionChunk, Observation, RobotState, SetPoint, Source
from vla_rft_hardware.servo_loop import SERVO_PERIOD_S, ServoLoop, ServoReport, ServoStatus
from vla_rft_sim.devices import SimArm, SimCamera, SimGripper
from vla_rft_sim.towel import Placement
from vla_rft_sim.world import TowelWorld, TowelWorldConfig
from vla_rft_sim.world_protocol import World

SIM_CELL = "vla_rft_sim:towel_cell"
"""The simulated cell's folder, as `find_cell` takes it."""

SERVO_PERIOD_NS = nanoseconds(SERVO_PERIOD_S)


class ResumedServoLoop(ServoLoop):
    """A servo loop that goes on from set-points sent in an earlier life of its world, not from the measured pose."""

    def resume(self, motion: Motion) -> None:
        """The set-point in force, and how it has been moving; the loop must be active."""
        assert self._motion is not None
        self._motion = motion


class SimCell:
    """A `Cell` around a simulated world. Not safe for use by several threads."""

    def __init__(
        self,
        world: World,
        *,
        folder: CellFolder | None = None,
        executor: ExecutorConfig | None = None,
        prompt: str = "fold the towel in half",
    ) -> None:
        self.folder = folder or find_cell(SIM_CELL)
        self.spec = self.folder.spec
        self.world = world
        self.clock = ManualClock()
        self.prompt = prompt
        self._executor = executor
        self.on_step: Callable[[ServoReport], None] | None = None
        """Called after every servo tick, for whoever records."""
        self._arm, self._gripper = SimArm(world, self.clock), SimGripper(world, self.clock)
        self._cameras = [SimCamera(world, self.clock, camera.name, depth=False) for camera in self.spec.cameras]
        self._begin()

    def reset(self, seed: int, *, placement: Placement | None = None) -> Placement:
        """Towel where the seed says, or at `placement`; arm at home, ready for a source to be active; deterministic."""
        self._arm.stop()
        placement = self.world.reset(seed, placement=placement)
        self._begin()
        self.loop.ready()
        return placement

    def restore(self, state: bytes, *, stamp_ns: int, source: Source, sent: tuple[SetPoint, SetPoint]) -> None:
        """Be where a towel world was when it was saved, at that time (stamp), with `source` active.

        sent: the set-points in force one servo period before and at that time, so that motion goes on without a jerk.
        """
        self.clock.realtime_offset_ns = stamp_ns - self.clock.monotonic_ns()
        self._begin()
        self.loop.ready()
        self.world.restore(state)  # after `ready`, which lets the arm's controller start afresh
        self.loop.activate(source)
        before, now = sent
        self.loop.resume(Motion.at_rest(before).to(now, SERVO_PERIOD_S))
        self._commanded = now

    def activate(self, source: Source) -> None:
        """Give the lease to `source`."""
        self.loop.activate(source)

    def observe(self) -> Observation:
        """The present observation, with pictures taken now."""
        for camera in self._cameras:
            self._streams.add_frame(camera.capture())
        self._remember(self.state())
        now_ns = self.clock.realtime_ns()
        return assemble(now_ns, spec=self.spec, streams=self._streams, prompt=self.prompt, limits=FreshnessLimits())

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        """Hand a chunk to the executor; it plays while `wait` lets time pass."""
        return self.loop.submit(chunk)

    def wait(self, duration_ns: int) -> None:
        """Let simulated time pass: a multiple of the servo period; ValueError otherwise.

        Every period ends with its servo tick, so that what is due now has been sent when the cell is observed.
        """
        if duration_ns < 0 or duration_ns % SERVO_PERIOD_NS:
            raise ValueError(f"time passes in servo periods of {SERVO_PERIOD_NS} ns, got {duration_ns}")
        for _ in range(duration_ns // SERVO_PERIOD_NS):
            self.world.advance(SERVO_PERIOD_NS)
            self.clock.advance(SERVO_PERIOD_NS)
            report = self.loop.step()
            self._commanded = report.state.commanded
            self._remember(report.state)
            if self.on_step is not None:
                self.on_step(report)

    def state(self) -> RobotState:
        """The newest measured state and the set-point last sent."""
        return RobotState(arm=self._arm.state(), gripper=self._gripper.state(), commanded=self._commanded)

    def status(self) -> ServoStatus:
        """Mode, lease and counts of the servo loop."""
        return self.loop.status()

    @property
    def holding(self) -> str:
        """Why a latched hold stands; empty when none does."""
        status = self.loop.status()
        return status.reason if status.mode is Mode.HOLD_LATCHED else ""

    def close(self) -> None:
        """Let go of the world."""
        self.world.close()

    def _begin(self) -> None:
        """A fresh servo loop and empty streams: nothing of an earlier episode remains."""
        self.loop = ResumedServoLoop(
            self._arm, self._gripper, profile=self.folder.safety, clock=self.clock, executor=self._executor
        )
        self._commanded: SetPoint | None = None
        self._streams = Streams.for_spec(self.spec)

    def _remember(self, state: RobotState) -> None:
        self._streams.robot.add(state.arm.stamp_ns, (state.arm, state.gripper))
        if state.commanded is not None:
            self._streams.commanded.add(state.arm.stamp_ns, state.commanded)


def towel_cell(config: TowelWorldConfig | None = None) -> SimCell:
    """The towel cell with its cloth: a factory ("vla_rft_sim.cell:towel_cell") for whoever takes a Cell."""
    return SimCell(TowelWorld(config))
