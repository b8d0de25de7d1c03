"""Writes what happens in a SimCell as an episode, through the writer that records the real arm.

Everything arrives the moment it is stamped: simulated time passes only while the cell waits. Beside what a robot has,
the tape holds the truth, below /sim/: how the towel lies and the world's whole state, once per control period.
"""

from __future__ import annotations

from vla_rft_core.cell import ChunkOutcome
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.types import ActionChunk, Observation
from vla_rft_episodes import channels, codec
from vla_rft_episodes.channels import Channel
from vla_rft_episodes.entries import SafetyEvent, ServoEntry, SimStateEntry, SimTruthEntry
from vla_rft_episodes.writer import EpisodeWriter
from vla_rft_hardware.description.frames import cell_frames
from vla_rft_hardware.description.urdf import rizon4s_urdf
from vla_rft_hardware.servo_loop import ServoReport
from vla_rft_sim.cell import SERVO_PERIOD_NS, SimCell
from vla_rft_sim.demonstrate import Onlooker
from vla_rft_sim.towel import TowelTruth
from vla_rft_sim.world_state import FORMAT


def expected_hz(cell: SimCell) -> dict[str, float]:
    """Messages per second that a tape of this cell holds, of the streams that never pause."""
    ticks = 1.0 / cell.spec.control_period_s
    pictures = {channels.color(camera.name).topic: ticks for camera in cell.spec.cameras}
    return {channels.ROBOT_STATE.topic: NS_PER_S / SERVO_PERIOD_NS, **pictures}


class EpisodeTape(Onlooker):
    """Hand it to `demonstrate` with an open writer; the last truth seen is at hand afterwards."""

    def __init__(self, cell: SimCell, writer: EpisodeWriter, *, seed: int) -> None:
        self._cell, self._writer, self._seed = cell, writer, seed
        self.truth: TowelTruth | None = None
        """As it was last seen."""

    def started(self, cell: SimCell) -> None:
        """Frames, description and the state before the first command; from now on every servo tick is written."""
        now_ns = cell.clock.realtime_ns()
        self._write(channels.TF_STATIC, codec.encode_tf_static(cell_frames(cell.folder), stamp_ns=now_ns), now_ns)
        urdf = rizon4s_urdf(cell.spec.tool)
        self._write(channels.ROBOT_DESCRIPTION, codec.encode_robot_description(urdf), now_ns)
        self._write(channels.ROBOT_STATE, codec.encode_robot_state(cell.state()), now_ns)
        cell.on_step = self._stepped

    def observed(self, observation: Observation) -> None:
        """One control period: pictures, safety status, truth, state of the world."""
        now_ns = self._cell.clock.realtime_ns()
        for camera, image in observation.images.items():
            stamp_ns = observation.image_stamps_ns[camera]
            color = codec.compress_color(image, camera=camera, stamp_ns=stamp_ns)
            self._write(channels.color(camera), color, stamp_ns)
            info = codec.encode_camera_info(self._cell.world.camera_info(camera), stamp_ns=stamp_ns)
            self._write(channels.camera_info(camera), info, stamp_ns)
        status = SafetyEvent.from_status(self._cell.status(), stamp_ns=now_ns)
        self._write(channels.SAFETY_STATUS, codec.encode_safety_status(status), now_ns)
        self.truth = truth = self._cell.world.truth()
        self._write(channels.SIM_TRUTH, codec.encode_sim_truth(truth_entry(truth, now_ns, self._seed)), now_ns)
        state = SimStateEntry(now_ns, FORMAT, self._cell.world.save())
        self._write(channels.SIM_STATE, codec.encode_sim_state(state), now_ns)

    def commanded(self, chunk: ActionChunk, outcome: ChunkOutcome) -> None:
        """A chunk and what became of it."""
        now_ns = self._cell.clock.realtime_ns()
        self._write(channels.ACTION_CHUNK, codec.encode_action_chunk(chunk), chunk.stamp_ns)
        answer = codec.encode_chunk_verdict(outcome, source=str(chunk.source), received_ns=now_ns)
        self._write(channels.CHUNK_VERDICT, answer, now_ns)

    def ended(self) -> None:
        """Write no more servo ticks."""
        self._cell.on_step = None

    def _stepped(self, report: ServoReport) -> None:
        stamp_ns = report.state.arm.stamp_ns
        self._write(channels.ROBOT_STATE, codec.encode_robot_state(report.state), stamp_ns)
        if report.played is not None or report.sent is not None:
            entry = ServoEntry.from_report(report)
            self._write(channels.SERVO_REPORT, codec.encode_servo_report(entry), report.stamp_ns)

    def _write(self, channel: Channel, data: bytes, stamp_ns: int) -> None:
        self._writer.write(channel, data, stamp_ns=stamp_ns, received_ns=self._cell.clock.realtime_ns())


def truth_entry(truth: TowelTruth, stamp_ns: int, seed: int) -> SimTruthEntry:
    """A towel's truth as it is recorded."""
    return SimTruthEntry(
        stamp_ns=stamp_ns,
        seed=seed,
        resets=1,
        corners=truth.corners,
        grasped_vertices=truth.grasped_vertices,
        edge_gap=truth.edge_gap,
        mirrored_gap=truth.mirrored_gap,
        area_ratio=truth.area_ratio,
        max_height=truth.max_height,
        success=truth.success,
    )
