"""Inputs: named axes and buttons, whatever library they came from. Knows nothing of what they are used for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, eq=False)
class Inputs:
    """A device as it is now, and what was pressed since it was looked at last.

    Example: `Inputs(axes={"x": 0.5, "y": 0.0}, held=frozenset({"button_0"}), pressed=("button_0",), heard=True)`
    """

    axes: Mapping[str, float]
    """Named, -1 to 1, 0 at rest."""
    held: frozenset[str]
    """Buttons that are down; a button may have several names."""
    pressed: tuple[str, ...]
    """Buttons that went down since the last poll, in order, also those that are up again."""
    heard: bool
    """The device said anything since the last poll."""


class InputSource(Protocol):
    """A device that is polled."""

    @property
    def name(self) -> str:
        """Which device, for an operator."""

    @property
    def offers(self) -> frozenset[str]:
        """Names of its axes and buttons."""

    def poll(self) -> Inputs:
        """All that has come since the last call; never blocks. DeviceError when the device is gone."""

    def close(self) -> None:
        """Release the device."""
