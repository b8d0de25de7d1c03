"""What an episode holds that core has no type for: servo ticks, safety events, intrinsics, ground truth.

Frozen, with units and frames; positions in base [m], quaternions xyzw, stamps CLOCK_REALTIME [ns].
The protocols describe what the hardware room makes, so that this room need not import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.executor import Played
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.modes import Mode
from vla_rft_core.types import RobotState, SetPoint, Source


class TickReport(Protocol):
    """One tick as the servo loop reports it (`vla_rft_hardware.servo_loop.ServoReport`)."""

    @property
    def stamp_ns(self) -> int: ...
    @property
    def state(self) -> RobotState: ...
    @property
    def requested(self) -> SetPoint | None: ...
    @property
    def safe(self) -> SetPoint | None: ...
    @property
    def sent(self) -> SetPoint | None: ...
    @property
    def played(self) -> Played | None: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    @property
    def chunk_received_ns(self) -> int: ...


class LoopStatus(Protocol):
    """The servo loop in words and counts (`vla_rft_hardware.servo_loop.ServoStatus`)."""

    @property
    def mode(self) -> Mode: ...
    @property
    def source(self) -> Source | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def chunks_accepted(self) -> int: ...
    @property
    def chunks_rejected(self) -> int: ...
    @property
    def targets_late(self) -> int: ...


class Intrinsics(Protocol):
    """Calibration of one rectified colour stream (`vla_rft_hardware.protocols.CameraInfo`)."""

    @property
    def camera(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fx(self) -> float: ...
    @property
    def fy(self) -> float: ...
    @property
    def cx(self) -> float: ...
    @property
    def cy(self) -> float: ...


class FrameTransform(Protocol):
    """A fixed frame: `child` expressed in `parent` (`vla_rft_hardware.description.frames.FixedFrame`)."""

    @property
    def parent(self) -> str: ...
    @property
    def child(self) -> str: ...
    @property
    def pose(self) -> Pose: ...


@dataclass(frozen=True, eq=False)
class ServoEntry:
    """One servo tick: what was asked for, what was safe, what was sent."""

    stamp_ns: int
    """When the set-point was sent."""
    source: str
    """Who made the chunk that plays, one of core's `Source`; empty before the first one."""
    sequence: int
    """Of that chunk."""
    requested: SetPoint
    safe: SetPoint
    sent: SetPoint
    moving: bool
    """A chunk plays and the set-point went out; False = hold."""
    reasons: tuple[str, ...] = ()
    """One for every difference between requested and sent."""
    chunk_received_ns: int = 0
    """When that chunk arrived; 0 = none yet."""

    @classmethod
    def from_report(cls, report: TickReport) -> ServoEntry:
        """The servo loop's report; what was not asked for or not sent repeats the set-point in force."""
        in_force = report.state.reference
        return cls(
            stamp_ns=report.stamp_ns,
            source=str(report.played.source) if report.played else "",
            sequence=report.played.sequence if report.played else 0,
            requested=report.requested or in_force,
            safe=report.safe or in_force,
            sent=report.sent or in_force,
            moving=report.played is not None and report.sent is not None,
            reasons=tuple(report.reasons),
            chunk_received_ns=report.chunk_received_ns,
        )


@dataclass(frozen=True)
class SafetyEvent:
    """What the arm was allowed to do, and why."""

    stamp_ns: int
    mode: str
    """One of core's `Mode`."""
    source: str
    """Lease holder; empty = none."""
    latched: bool
    """A hold waits to be re-armed."""
    reason: str
    """What latched it, in words."""
    chunks_accepted: int = 0
    chunks_rejected: int = 0
    targets_late: int = 0
    """Counts since the servo loop started."""

    @classmethod
    def from_status(cls, status: LoopStatus, *, stamp_ns: int) -> SafetyEvent:
        """The servo loop's status."""
        return cls(
            stamp_ns=stamp_ns,
            mode=str(status.mode),
            source=str(status.source) if status.source else "",
            latched=status.mode == Mode.HOLD_LATCHED,
            reason=status.reason,
            chunks_accepted=status.chunks_accepted,
            chunks_rejected=status.chunks_rejected,
            targets_late=status.targets_late,
        )


@dataclass(frozen=True)
class ChunkAnswer:
    """What became of a chunk when it arrived."""

    stamp_ns: int
    """When it arrived."""
    source: str
    outcome: ChunkOutcome


@dataclass(frozen=True)
class ColorIntrinsics:
    """Pinhole calibration of a rectified colour stream [pixels]."""

    camera: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True, eq=False)
class SimTruthEntry:
    """Ground truth of the simulated towel."""

    stamp_ns: int
    seed: int
    resets: int
    corners: Array
    """(4, 3) in base [m]."""
    grasped_vertices: int
    edge_gap: float
    """[m]"""
    mirrored_gap: float
    """[m]"""
    area_ratio: float
    max_height: float
    """[m]"""
    success: bool


@dataclass(frozen=True)
class SimStateEntry:
    """The whole state of a simulated world."""

    stamp_ns: int
    format: str
    """Names the layout of `data`, with its version."""
    data: bytes
