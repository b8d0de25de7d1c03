"""TeleopMapping: which axis and button of a device does what, from YAML, and the step that the axes ask for.

Knows no device: axes and buttons are names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np

from vla_rft_core import config
from vla_rft_core.geometry import Array
from vla_rft_hardware.protocols import RECORDER_KEYS

T = TypeVar("T")
Names = tuple[str, ...]
Axes = tuple[str, str, str]

MAX_SPEED = 0.5
"""No map asks for more [m/s]; the safety filter has limits of its own."""
MAX_TURN_RATE = 2.0
"""[rad/s]"""
ACTIONS = ("dead_man", "clutch", "gripper", "slow")


@dataclass(frozen=True, kw_only=True)
class TeleopMapping:
    """The map of a device with axes. Buttons are lists of names: any of them does it.

    Example of `translation`: ("-y", "-x", "-z"): x of base follows the device's axis y the other way round; "" = none.
    """

    translation: Axes
    """The device's axes along x, y, z of base."""
    rotation: Axes
    """The device's axes about x, y, z of base."""
    speed: float
    """At full deflection [m/s]."""
    turn_rate: float
    """At full deflection [rad/s]."""
    dead_band: float
    """Deflection that counts as none, 0 to 0.9; what is above it starts from 0."""
    dead_man: Names
    """Held: the device moves the arm."""
    clutch: Names = ()
    """Held with the dead-man: the arm stays where it is whatever the axes do."""
    gripper: Names = ()
    """Pressed with the dead-man: opens a closed gripper, closes an open one."""
    slow: Names = ()
    """Held: `slow_factor` of the speeds."""
    slow_factor: float = 0.25
    keep: Names = ()
    discard: Names = ()
    undo: Names = ()
    stop: Names = ()
    open_width: float = 0.08
    """[m]"""
    closed_width: float = 0.0
    """[m]"""
    period_s: float = 0.1
    """The spec's control period: a step is the way of this long [s]."""
    deflected_silence_s: float
    """A device that is deflected and says nothing for longer is lost: its dead-man counts as released [s]."""
    silence_s: float = 10.0
    """The same for one at rest under a held dead-man [s]."""

    def __post_init__(self) -> None:
        for name, highest in (("speed", MAX_SPEED), ("turn_rate", MAX_TURN_RATE), ("slow_factor", 1.0)):
            if not 0.0 < getattr(self, name) <= highest:
                raise ValueError(f"{name}: must be above 0 and at most {highest}, got {getattr(self, name)}")
        for name in ("period_s", "deflected_silence_s", "silence_s"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name}: must be positive, got {getattr(self, name)}")
        if not 0.0 <= self.dead_band <= 0.9:
            raise ValueError(f"dead_band: must be 0 to 0.9, got {self.dead_band}")
        if not 0.0 <= self.closed_width < self.open_width:
            raise ValueError(f"closed_width {self.closed_width} and open_width {self.open_width} are not in order")
        if not self.dead_man:
            raise ValueError("dead_man: at least one button is needed")
        moving = {button for action in ACTIONS for button in getattr(self, action)}
        for key in RECORDER_KEYS:
            for button in getattr(self, key):
                if button in moving:
                    raise ValueError(f"{key}: {button!r} moves the arm already; recorder keys never do")

    @property
    def names(self) -> frozenset[str]:
        """Every axis and button that the map names."""
        axes = {text.lstrip("+-") for text in (*self.translation, *self.rotation)} - {""}
        return frozenset(axes | {button for field in (*ACTIONS, *RECORDER_KEYS) for button in getattr(self, field)})

    def step(self, axes: Mapping[str, float], held: frozenset[str]) -> tuple[Array, Array]:
        """(translation (3,) [m], rotvec (3,) [rad]) in base for one control period; zeros under the clutch."""
        if held.intersection(self.clutch):
            return np.zeros(3), np.zeros(3)
        scale = self.period_s * (self.slow_factor if held.intersection(self.slow) else 1.0)
        translation, rotation = self._vector(self.translation, axes), self._vector(self.rotation, axes)
        return scale * self.speed * translation, scale * self.turn_rate * rotation

    def toggled(self, width: float) -> float:
        """The other one of the two widths [m]."""
        middle = 0.5 * (self.open_width + self.closed_width)
        return self.closed_width if width > middle else self.open_width

    def recorder_keys(self, pressed: Names) -> list[str]:
        """The recorder's keys among the buttons pressed, in order."""
        return [key for button in pressed for key in RECORDER_KEYS if button in getattr(self, key)]

    def _vector(self, names: Axes, axes: Mapping[str, float]) -> Array:
        """The deflection along or about x, y, z of base; its length is at most 1."""
        vector = np.array([self._deflection(text, axes) for text in names])
        return vector / max(1.0, float(np.linalg.norm(vector)))

    def _deflection(self, text: str, axes: Mapping[str, float]) -> float:
        value = axes[text.lstrip("+-")] if text else 0.0
        above = max(0.0, min(1.0, abs(value)) - self.dead_band) / (1.0 - self.dead_band)
        return above if (value > 0.0) is not text.startswith("-") else -above


def load_map(cls: type[T], name: str) -> T:
    """A map from YAML: the path of a file, or the name of one that ships with the package."""
    shipped = Path(str(resources.files("vla_rft_hardware.teleop").joinpath("maps")))
    known = sorted(path.stem for path in shipped.glob("*.yaml"))
    if name in known:
        return config.load(cls, shipped / f"{name}.yaml")
    if name.endswith((".yaml", ".yml")):
        return config.load(cls, Path(name))
    raise ValueError(f"map {name!r} is neither a .yaml file nor one that ships{config.did_you_mean(name, known)}")


def check_names(mapping: TeleopMapping, offered: frozenset[str], device: str) -> None:
    """ValueError when the map names an axis or a button that the device does not have."""
    for field in fields(mapping):
        value = getattr(mapping, field.name)
        for text in value if isinstance(value, tuple) else ():
            name = text.lstrip("+-")
            if name and name not in offered:
                raise ValueError(f"{field.name}: {device} has no {name!r}{config.did_you_mean(name, sorted(offered))}")
