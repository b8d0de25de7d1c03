"""`python -m calibration.latency --cell DIR`: how late camera, arm and gripper are, by cross-correlation (as in UMI).

Camera: the board on the moving gripper is seen later than the arm was there (or a lamp blinks: `--lamp`). Arm:
set-points sent against poses measured. Gripper: widths sent against widths measured, at the fingers' own speed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from tqdm import tqdm

from calibration import pictures
from calibration.board import Board, add_board_arguments, board_from
from calibration.command import conclude, devices, opened, parser, run
from calibration.detect import detect
from calibration.errors import BoardNotSeenError, CalibrationError
from calibration.poses import Showing
from calibration.results import Measurement, Verdict, with_mount
from calibration.rig import CalibrationCell, Guide
from calibration.solve.latency import Lag, find_lag, finger_speed, ramped
from vla_rft_core.calibration import Calibration, Delay
from vla_rft_core.geometry import Array, Pose
from vla_rft_core.types import CameraFrame, RobotState, SetPoint, Source

MOTION_S = 9.0
SETTLE_S = 1.0
STATE_PERIOD_S = 0.01
TRUST_STD_S, DOUBT_STD_S = 0.004, 0.015
_WIDTH_STEPS = (0.09, 0.03, 0.07, 0.02, 0.08, 0.04, 0.06, 0.02, 0.09)
_BLINK_S, _BLINKS = (0.25, 0.75), 60


@dataclass(eq=False)
class Recording:
    """What was sent, measured and seen while something moved. Times [s] count from the first state."""

    states: list[RobotState]
    frames: list[CameraFrame]

    @property
    def start_ns(self) -> int:
        """Stamp of the first state."""
        return self.states[0].arm.stamp_ns

    def seconds(self, stamp_ns: int) -> float:
        """Since the first state."""
        return (stamp_ns - self.start_ns) * 1e-9

    @property
    def times(self) -> Array:
        """(N,) of the states."""
        return np.array([self.seconds(state.arm.stamp_ns) for state in self.states])

    @property
    def measured(self) -> Array:
        """(N, 3) tcp positions measured [m]."""
        return np.array([state.arm.T_base_tcp.position for state in self.states])

    @property
    def sent(self) -> Array:
        """(N, 3) tcp positions sent [m]."""
        return np.array([state.reference.T_base_tcp.position for state in self.states])

    @property
    def widths(self) -> Array:
        """(N,) measured [m]."""
        return np.array([state.gripper.width for state in self.states])

    @property
    def widths_sent(self) -> Array:
        """(N,) [m]"""
        return np.array([state.reference.width for state in self.states])


def record(
    guide: Guide, duration_s: float, *, camera: str = "", tell: Callable[[float], None] = lambda time_s: None
) -> Recording:
    """States at 100 Hz, and pictures at the camera's rate where one is named, for a while; `tell` hears the time."""
    cell = guide.cell
    states, frames = [cell.state()], []
    every = max(1, round(1.0 / (cell.spec.camera(camera).fps * STATE_PERIOD_S))) if camera else 0
    ticks = round(duration_s / STATE_PERIOD_S)
    for tick in tqdm(range(ticks), desc="recording", unit="tick", file=sys.stderr, mininterval=1.0):
        tell(tick * STATE_PERIOD_S)
        guide.pass_time(STATE_PERIOD_S)
        states.append(cell.state())
        if every and tick % every == 0:
            frames.append(cell.frame(camera))
    return Recording(states, frames)


def wave(center: Pose, width: float, period_s: float) -> list[SetPoint]:
    """A smooth motion that never repeats itself, along y and z: one target per control period."""
    points = []
    for i in range(round(MOTION_S / period_s)):
        t = (i + 1) * period_s
        swell = min(1.0, t, MOTION_S - t)
        y = 0.045 * math.sin(2.0 * math.pi * 0.45 * t) + 0.015 * math.sin(2.0 * math.pi * 1.1 * t)
        z = 0.025 * math.sin(2.0 * math.pi * 0.7 * t)
        points.append(SetPoint(center.moved((0.0, swell * y, swell * z), (0.0, 0.0, 0.0)), width))
    return points


def arm_and_camera(cell: CalibrationCell, camera: str, board: Board | None) -> tuple[Lag, Lag | None, Recording]:
    """Lags of the arm, and of the camera if a board on the gripper is to be followed."""
    guide = Guide(cell)
    center = Pose(Showing().center, cell.spec.home.quaternion)  # type: ignore[arg-type]
    state = guide.go(center)
    guide.play(wave(center, state.reference.width, guide.period_ns * 1e-9))
    made = record(guide, MOTION_S + SETTLE_S, camera=camera if board else "")
    arm = find_lag(made.times, made.sent, made.times, made.measured)
    if board is None:
        return arm, None, made
    seen = [(made.seconds(f.stamp_ns), _middle(f, board)) for f in made.frames]
    found = [(t, p) for t, p in seen if p is not None]
    if len(found) < 0.6 * len(seen):
        raise CalibrationError(f"the board is seen in {len(found)} of {len(seen)} pictures of the moving arm only")
    times, pixels = np.array([t for t, _ in found]), np.array([p for _, p in found])
    return arm, find_lag(made.times, made.measured, times, pixels), made


def _middle(frame: CameraFrame, board: Board) -> Array | None:
    """Where the board's plane has its middle in a picture [px]; None: not seen. Any corners will do."""
    try:
        found = detect(frame.color, board)
    except BoardNotSeenError:
        return None
    flat = board.corners[found.ids][:, :2]
    homography, _ = cv2.findHomography(flat, found.pixels)
    if homography is None:
        return None
    middle = homography @ [*board.corners[:, :2].mean(axis=0), 1.0]
    return np.asarray(middle[:2] / middle[2])


def lamp_lag(cell: CalibrationCell, camera: str) -> Lag:
    """Lag of the camera from a lamp that blinks in its view, in no regular way; an edge is seen to a frame at best."""
    guide = Guide(cell)
    edges = np.cumsum(np.random.default_rng(0).uniform(*_BLINK_S, _BLINKS)).tolist()
    cell.blink(False)
    switched: list[int] = []

    def blink(time_s: float) -> None:
        while len(switched) < len(edges) and time_s >= edges[len(switched)]:
            cell.blink(len(switched) % 2 == 0)
            switched.append(guide.now_ns())

    made = record(guide, edges[-1] + SETTLE_S, camera=camera, tell=blink)
    cell.blink(False)
    stack = np.stack([_gray(f) for f in made.frames])
    row, column = (int(v) for v in np.unravel_index(int(np.argmax(stack.std(axis=0))), stack.shape[1:]))
    patch = stack[:, max(0, row - 4) : row + 5, max(0, column - 4) : column + 5].mean(axis=(1, 2))
    times = np.array([made.seconds(f.stamp_ns) for f in made.frames])
    at = np.array([made.seconds(stamp) for stamp in switched])
    # Steps, not ramps: each edge twice, just before and at the switch.
    steps_t = np.concatenate(
        [[made.times[0] - 1.0], np.repeat(at, 2) - np.tile([1e-6, 0.0], len(at)), [made.times[-1]]]
    )
    level = np.arange(len(at) + 1) % 2
    steps = np.concatenate([[0.0], np.column_stack([level[:-1], level[1:]]).ravel(), [level[-1]]])
    return find_lag(steps_t, steps[:, None].astype(np.float64), times, patch[:, None])


def _gray(frame: CameraFrame) -> Array:
    """Brightness (H, W)."""
    return np.asarray(frame.color.mean(axis=2), dtype=np.float32)


def gripper_lag(cell: CalibrationCell) -> tuple[Lag, float, Recording]:
    """Lag of the fingers, and their speed [m/s]."""
    guide = Guide(cell)
    cell.activate(Source.HOME)
    pose = cell.state().reference.T_base_tcp
    hold = round(0.7 / (guide.period_ns * 1e-9))
    points = [SetPoint(pose, width) for width in _WIDTH_STEPS for _ in range(hold)]
    guide.play([SetPoint(pose, 0.05)] * 5)
    guide.pass_time(1.5)
    guide.play(points)
    made = record(guide, len(points) * guide.period_ns * 1e-9 + SETTLE_S)
    speed = finger_speed(made.times, made.widths)
    expected = ramped(made.times, made.widths_sent, speed=speed, start=float(made.widths[0]))
    return find_lag(made.times, expected[:, None], made.times, made.widths[:, None]), speed, made


def judge(lags: dict[str, Lag]) -> tuple[Verdict, tuple[str, ...]]:
    """Whether to trust the lags, and why."""
    verdict, reasons = Verdict.TRUST, []
    for name, lag in lags.items():
        if lag.std > DOUBT_STD_S:
            verdict = Verdict.REJECT
        elif lag.std > TRUST_STD_S and verdict is Verdict.TRUST:
            verdict = Verdict.DOUBTFUL
        reasons.append(
            f"{name}: {1e3 * lag.seconds:.1f} ± {1e3 * lag.std:.1f} ms, {lag.share:.1%} of the motion explained "
            f"(trust up to ± {1e3 * TRUST_STD_S:.0f} ms)"
        )
    return verdict, tuple(reasons)


def in_force(calibration: Calibration, camera: str, lags: dict[str, Lag]) -> Calibration:
    """The calibration with the delays that were measured; the others stay."""
    delays = {name: Delay(seconds=lag.seconds, std=lag.std) for name, lag in lags.items()}
    if "camera" in delays:
        calibration = with_mount(calibration, replace(calibration.camera(camera), latency=delays["camera"]))
    return replace(
        calibration,
        robot_latency=delays.get("robot", calibration.robot_latency),
        gripper_latency=delays.get("gripper", calibration.gripper_latency),
    )


def take(
    cell: CalibrationCell, camera: str, options: argparse.Namespace
) -> tuple[dict[str, Lag], dict[str, Recording]]:
    """The lags asked for, by name, and the recordings of arm and gripper."""
    lags: dict[str, Lag] = {}
    recordings: dict[str, Recording] = {}
    follow = "camera" in options.of and not options.lamp
    if follow or "robot" in options.of:
        cell.set_up("board on gripper" if follow else "nothing")
        arm, seen, recordings["robot"] = arm_and_camera(cell, camera, board_from(options) if follow else None)
        lags |= {"robot": arm} if "robot" in options.of else {}
        lags |= {"camera": seen} if seen is not None else {}
    if "camera" in options.of and options.lamp:
        cell.set_up("lamp")
        lags["camera"] = lamp_lag(cell, camera)
    if "gripper" in options.of:
        cell.set_up("nothing")
        lags["gripper"], _, recordings["gripper"] = gripper_lag(cell)
    return lags, recordings


def measurement(lags: dict[str, Lag], camera: str, serials: dict[str, str]) -> Measurement:
    """The result as it is kept."""
    verdict, reasons = judge(lags)
    return Measurement(
        kind="latency",
        verdict=verdict,
        reasons=reasons,
        values={"camera_name": camera, **{f"{name}_s": lag.seconds for name, lag in lags.items()}},
        residuals={f"{name}_std_ms": 1e3 * lag.std for name, lag in lags.items()},
        serials=serials,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Move, record, correlate, judge; the exit code."""
    made = parser("latency", __doc__)
    made.add_argument("--of", nargs="+", choices=("camera", "robot", "gripper"), default=["camera", "robot", "gripper"])
    made.add_argument("--lamp", action="store_true", help="camera: a lamp blinks in its view; the arm does not move")
    add_board_arguments(made)
    options = made.parse_args(argv)

    def body() -> int:
        with opened(options) as (cell, camera):
            lags, recordings = take(cell, camera, options)
            named = devices(cell, "robot", *([camera] if "camera" in lags else []))
            print("latency:")
            return conclude(
                cell.folder,
                measurement(lags, camera, named),
                accept=options.accept,
                write=lambda out: pictures.latency(lags, recordings, out / "latency.png"),
                change=lambda c: in_force(c, camera, lags),
            )

    return run("latency", body)


if __name__ == "__main__":
    sys.exit(main())
