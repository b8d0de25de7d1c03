"""What an evaluator sees of a running cell: pictures, the simulation's truth, what the nodes say of themselves.

And what follows from it: whether the scene is as required, whether a trial may begin, how far it has come.
"""

from __future__ import annotations

import json
import math
import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import CameraInfo, Image

from vla_rft_core.cell import CellFolder
from vla_rft_core.errors import DeviceError
from vla_rft_core.types import CameraFrame
from vla_rft_interfaces.msg import SafetyStatus, SimTruth
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.latency import CHUNK_LATENCY
from vla_rft_nodes.ros import ShellNode
from vla_rft_nodes.trial_video import TrialVideo
from vla_rft_trials.placements import Placement
from vla_rft_trials.referee import Look
from vla_rft_trials.scene_match import SceneMatch, View, ghost, match, required_mask, seen_mask

FRESH_S = 1.0
"""A picture older than this is none [s]."""
TROUBLE_S = 3.0
"""A node's word of trouble counts for so long [s]."""
METRICS = ("edge_gap", "mirrored_gap", "area_ratio", "max_height")


class Senses:
    """Of one camera and one cell; messages come in on the node's executor, everything else from a worker thread."""

    def __init__(self, node: ShellNode, folder: CellFolder, *, camera: str, simulated: bool) -> None:
        """simulated: there is a truth to be heard."""
        self._folder, self._camera, self._simulated = folder, camera, simulated
        self.similarity = math.nan
        """Of the scene with what the present trial requires, at the last look; NaN before the first."""
        self.video: TrialVideo | None = None
        """Of the running trial: pictures go there, too."""
        self._picture: tuple[Image, float] | None = None
        self._info: CameraInfo | None = None
        self._truth: SimTruth | None = None
        self.latencies_ms: dict[str, float] = {}
        """From a chunk's picture to the arm, as robot_node last summed it up."""
        self._troubles: dict[str, tuple[str, float]] = {}
        self._overlay = node.create_publisher(Image, topics.SCENE_OVERLAY, qos.IMAGE)
        node.create_subscription(SimTruth, topics.SIM_TRUTH, partial(setattr, self, "_truth"), qos.STATE)
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENT)
        node.create_subscription(Image, topics.color_image(camera), self._on_image, qos.IMAGE_RECORDED)
        node.create_subscription(CameraInfo, topics.color_info(camera), partial(setattr, self, "_info"), qos.IMAGE)

    @property
    def picture(self) -> Image:
        """The newest; DeviceError before the first."""
        if self._picture is None:
            raise DeviceError(f"camera {self._camera!r} has delivered no picture yet")
        return self._picture[0]

    @property
    def truth(self) -> SimTruth | None:
        """The newest, in simulation."""
        return self._truth if self._simulated else None

    @property
    def resets(self) -> int:
        """How often the simulated scene was laid out."""
        return int(self._truth.resets) if self._truth is not None else 0

    def compare(self, placement: Placement, size_m: tuple[float, float]) -> SceneMatch:
        """The picture with the required start of an object of that size; publishes the ghost."""
        mount = next(m for m in self._folder.calibration.cameras if m.name == self._camera)
        if self._info is None:
            raise DeviceError(f"camera {self._camera!r} has not told its intrinsics yet")
        info, picture = self._info, convert.from_color_image(self.picture)
        view = View(
            width=info.width,
            height=info.height,
            fx=info.k[0],
            fy=info.k[4],
            cx=info.k[2],
            cy=info.k[5],
            T_base_camera=mount.T_base_camera,
        )
        required = required_mask(placement, size_m, view, table_z=self._folder.safety.table_height)
        seen = seen_mask(picture, required)
        shown = ghost(picture, required, seen)
        now_ns = time.time_ns()
        frame = CameraFrame(camera=self._camera, stamp_ns=now_ns, received_ns=now_ns, number=0, color=shown, depth=None)
        self._overlay.publish(convert.to_color_image(frame))
        found = match(required, seen)
        self.similarity = found.overlap
        return found

    def checked(self, status: SafetyStatus | None) -> tuple[dict[str, str], list[str]]:
        """(what was found, by name; what of it is not green)."""
        now = time.monotonic()
        found = {"mode": "no status from robot_node", "camera": "no picture"}
        problems = []
        if status is not None:
            found["mode"] = status.mode + (f": {status.reason}" if status.latched else "")
        if status is None or status.latched or status.mode != SafetyStatus.READY:
            problems.append(f"mode is {found['mode']}")
        if self._picture is not None:
            found["camera"] = f"picture {1e3 * (now - self._picture[1]):.0f} ms old"
        if self._picture is None or now - self._picture[1] > FRESH_S:
            problems.append(found["camera"])
        troubles = [f"{name}: {text}" for name, (text, at) in self._troubles.items() if now - at < TROUBLE_S]
        found["nodes"] = "; ".join(troubles) or "none reports trouble"
        return found, problems + troubles

    def progress(self, now: float, status: SafetyStatus, *, wanted: float) -> Look:
        """Of a trial after `now` seconds. wanted: the gripper's reference [m]."""
        truth = self.truth
        hold = status.reason if status.latched else ""
        idle = status.mode == SafetyStatus.READY
        if truth is None:  # a person says when it is done; a policy that stops may still be waited for
            return Look(seconds=now, success=False, grasped=True, wanted_width=wanted, idle=False, hold=hold)
        grasped = truth.grasped_vertices > 0
        return Look(seconds=now, success=truth.success, grasped=grasped, wanted_width=wanted, idle=idle, hold=hold)

    def described(self, now: float) -> str:
        """The same in words."""
        truth = self.truth
        if truth is None:
            return f"{now:4.1f} s"
        grip = f", holding {truth.grasped_vertices} vertices" if truth.grasped_vertices else ""
        return f"{now:4.1f} s, edge gap {truth.edge_gap * 100:4.1f} cm{grip}"

    def metrics(self) -> dict[str, float]:
        """Of the towel, in simulation; else empty."""
        truth = self.truth
        return {} if truth is None else {name: float(getattr(truth, name)) for name in METRICS}

    def _on_image(self, message: Image) -> None:
        self._picture = (message, time.monotonic())
        video = self.video
        if video is not None:
            video.add(message)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.level >= DiagnosticStatus.ERROR:
                self._troubles[status.name] = (status.message, time.monotonic())
            else:
                self._troubles.pop(status.name, None)
            for value in status.values:
                if value.key == CHUNK_LATENCY:
                    found = json.loads(value.value)
                    self.latencies_ms = {name: float(ms) for name, ms in found.items() if name != "n"}
