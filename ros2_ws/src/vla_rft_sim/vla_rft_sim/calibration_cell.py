"""A simulated cell to be calibrated: `connect` is the factory, and the truth is there to compare with.

What a person does at a real cell (screw the board on, hold a block between the fingers, take both away) happens here
when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vla_rft_core.calibration import Intrinsics
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.types import CameraFrame, Source
from vla_rft_sim.calibration_world import CalibrationTruth, CalibrationWorld, draw_truth
from vla_rft_sim.cell import SIM_CELL, SimCell
from vla_rft_sim.devices import SimCamera
from vla_rft_sim.rdk_calls import SERIAL
from vla_rft_sim.world import TowelWorldConfig

SET_UPS = ("board on gripper", "board on table", "nothing", "block", "lamp")
BLOCK_M = 0.030
GUESSED_TABLE_M = -0.015
"""As measured by hand, on the safe side for whoever touches it carefully: the table is higher."""


class CalibrationSimCell(SimCell):
    """Satisfies `calibration.rig.CalibrationCell`, in simulated time."""

    simulated = True

    def __init__(
        self, truth: CalibrationTruth, *, folder: CellFolder | None = None, config: TowelWorldConfig | None = None
    ) -> None:
        self.calibration_world = CalibrationWorld(truth, config)
        super().__init__(self.calibration_world, folder=folder)
        names = [camera.name for camera in self.spec.cameras]
        self._eyes = {name: SimCamera(self.calibration_world, self.clock, name) for name in names}
        self.reset(truth.seed)
        self.wait(500_000_000)  # there must be a past to take pictures of

    @property
    def errors(self) -> CalibrationTruth:
        """What is wrong with this set-up."""
        return self.calibration_world.errors

    def serials(self) -> Mapping[str, str]:
        """Serial numbers of robot and cameras."""
        return {"robot": SERIAL} | {name: eye.info().serial for name, eye in self._eyes.items()}

    def intrinsics(self, camera: str) -> Intrinsics:
        """As the camera reports them."""
        info = self._eyes[camera].info()
        return Intrinsics(width=info.width, height=info.height, fx=info.fx, fy=info.fy, cx=info.cx, cy=info.cy)

    def frame(self, camera: str) -> CameraFrame:
        """A picture that arrives now; it shows what was there the camera's latency ago."""
        return self._eyes[camera].capture()

    def activate(self, source: Source) -> None:
        """Ready the arm where it is not, and take the lease."""
        if self.loop.status().source is not source:
            self.loop.release()
            self.loop.activate(source)

    def set_up(self, what: str) -> None:
        """Put the board or the block where it is wanted; ValueError lists what there is."""
        if what not in SET_UPS:
            raise ValueError(f"there is no set-up {what!r}; there are {', '.join(SET_UPS)}")
        self.calibration_world.show_board(what.rpartition("board on ")[2] if what.startswith("board") else "")
        self.calibration_world.block = BLOCK_M if what == "block" else None

    def blink(self, on: bool) -> None:
        """Switch the lamp in the camera's view."""
        self.calibration_world.blink(on)


def connect(folder: CellFolder, *, seed: int = 0, **errors: float) -> CalibrationSimCell:
    """The set-up of a seed; `errors` replace what was drawn for it, by the fields of `CalibrationTruth`."""
    return CalibrationSimCell(replace(draw_truth(seed), **errors), folder=folder)  # type: ignore[arg-type]


def fresh_folder(path: Path) -> None:
    """A cell folder as it is before anything was calibrated: everything as published, the table's height a guess."""
    shipped = find_cell(SIM_CELL).path
    path.mkdir(parents=True)
    for file in sorted(shipped.glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        if file.name == "safety.yaml":
            text = text.replace("table_height: 0.0 ", f"table_height: {GUESSED_TABLE_M} ")
            text = text.replace("workspace_low: [0.36, -0.40, 0.0]", f"workspace_low: [0.36, -0.40, {GUESSED_TABLE_M}]")
        (path / file.name).write_text(text, encoding="utf-8")
