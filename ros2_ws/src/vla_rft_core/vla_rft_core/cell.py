"""Cell: a robot set-up to observe and act in, and the folder that describes one.

In-process it is the simulator, on the arm a ROS client; calibration, closed-loop evaluation and studies take one by
factory string ("module:function") and never know which.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from vla_rft_core import config
from vla_rft_core.calibration import Calibration
from vla_rft_core.motion_profile import MotionProfile
from vla_rft_core.safety_profile import SafetyProfile
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import ActionChunk, Observation, RobotState


@dataclass(frozen=True, kw_only=True)
class ChunkOutcome:
    """What became of a chunk on arrival."""

    sequence: int
    accepted: bool
    reason: str
    """Why it was rejected; empty when it was not."""
    targets_late: int
    """Targets dropped because they were due already."""
    age_ns: int
    """Its stamp to its arrival."""


class Cell(Protocol):
    """What a policy, an evaluation or a calibration may do with a robot set-up."""

    spec: RobotSpec

    def observe(self) -> Observation:
        """The present observation; StaleInputError when an input is too old."""

    def execute(self, chunk: ActionChunk) -> ChunkOutcome:
        """Hand a chunk to the executor; returns at once, it plays while time passes."""

    def wait(self, duration_ns: int) -> None:
        """Let time pass."""

    def state(self) -> RobotState:
        """The newest measured state and the set-point last sent."""


@dataclass(frozen=True, kw_only=True)
class CellFolder:
    """Spec, safety profile, calibration and motion profile of one real (or simulated) set-up, read from its folder."""

    path: Path
    spec: RobotSpec
    safety: SafetyProfile
    calibration: Calibration
    motion: MotionProfile | None = None
    """From `motion.yaml`; None where the folder has none, as an arm's own driver needs it only."""

    @classmethod
    def load(cls, path: Path) -> CellFolder:
        """Read its YAML files (`motion.yaml` where there is one); ValueError names the file and the wrong field."""
        if not path.is_dir():
            raise ValueError(f"{path}: no such cell folder")
        folder = cls(
            path=path,
            spec=RobotSpec.load(path / "spec.yaml"),
            safety=SafetyProfile.load(path / "safety.yaml"),
            calibration=config.load(Calibration, path / "calibration.yaml"),
            motion=MotionProfile.load(path / "motion.yaml") if (path / "motion.yaml").exists() else None,
        )
        mounted = {mount.name for mount in folder.calibration.cameras}
        for camera in folder.spec.cameras:
            if camera.name not in mounted:
                raise ValueError(f"{path / 'calibration.yaml'}: camera {camera.name!r} of the spec is not calibrated")
        return folder


def find_cell(text: str) -> CellFolder:
    """The cell folder named on a command line: a path, or "package:folder" for one that ships with a package."""
    package, colon, folder = text.partition(":")
    if not colon:
        return CellFolder.load(Path(text))
    try:
        return CellFolder.load(Path(str(resources.files(package).joinpath(folder))))
    except ModuleNotFoundError:
        raise ValueError(f"cell {text!r}: there is no package {package!r}") from None


def from_factory(factory: str, *args: Any, **kwargs: Any) -> Any:
    """Call "package.module:function" with the arguments: how a device, cell or world is chosen without importing it."""
    module, _, name = factory.partition(":")
    if not module or not name:
        raise ValueError(f"factory {factory!r} is not of the form 'package.module:function'")
    try:
        made_by = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"factory {factory!r} cannot be loaded: {error}") from None
    return made_by(*args, **kwargs)
