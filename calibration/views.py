"""Views of a board: what one picture showed, from where the arm stood. Kept with the result, to be solved again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from calibration.board import Board
from calibration.detect import Detection
from calibration.errors import CalibrationError
from vla_rft_core import config
from vla_rft_core.calibration import Intrinsics
from vla_rft_core.geometry import Pose
from vla_rft_core.types import Image

FILE = "views.npz"
SET_FILE = "views.yaml"


@dataclass(frozen=True, eq=False)
class View:
    """One picture of the board while everything stood still."""

    T_base_tcp: Pose
    """As the arm reported it."""
    detection: Detection
    serial: str = ""
    """Of the camera."""
    image: Image | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ViewSetInfo:
    """What the views of a set have in common."""

    camera: str
    intrinsics: Intrinsics
    board: Board


@dataclass(frozen=True, eq=False)
class ViewSet:
    """Views of one board through one camera, in the order they were taken."""

    info: ViewSetInfo
    views: tuple[View, ...]

    def with_intrinsics(self, intrinsics: Intrinsics) -> ViewSet:
        """The same views through a camera of other intrinsics."""
        return ViewSet(replace(self.info, intrinsics=intrinsics), self.views)

    def require_one_camera(self) -> str:
        """The serial number of all views; CalibrationError when they come from several cameras."""
        serials = sorted({view.serial for view in self.views})
        if len(serials) > 1:
            raise CalibrationError(
                f"the views come from several cameras ({', '.join(serials)}): take them anew with one"
            )
        return serials[0] if serials else ""

    def save(self, folder: Path) -> None:
        """Corners and poses as one file, pictures beside it."""
        config.save(self.info, folder / SET_FILE)
        arrays = {f"ids_{i}": view.detection.ids for i, view in enumerate(self.views)}
        arrays |= {f"pixels_{i}": view.detection.pixels for i, view in enumerate(self.views)}
        arrays["poses"] = np.array([[*v.T_base_tcp.position, *v.T_base_tcp.quaternion] for v in self.views])
        arrays["serials"] = np.array([view.serial for view in self.views])
        np.savez(folder / FILE, **arrays)
        for i, view in enumerate(self.views):
            if view.image is not None:
                cv2.imwrite(str(folder / f"view_{i:02d}.png"), view.image[..., ::-1])

    @classmethod
    def load(cls, folder: Path) -> ViewSet:
        """As saved; ValueError when it is none."""
        info = config.load(ViewSetInfo, folder / SET_FILE)
        try:
            with np.load(folder / FILE, allow_pickle=False) as arrays:
                views = tuple(
                    View(Pose(pose[:3], pose[3:]), Detection(arrays[f"ids_{i}"], arrays[f"pixels_{i}"]), str(serial))
                    for i, (pose, serial) in enumerate(zip(arrays["poses"], arrays["serials"], strict=True))
                )
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{folder / FILE}: cannot be read ({error})") from None
        return cls(info, views)
