"""The gripper: which width it reaches for which command, whether it closes and opens, and the sign of its force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.errors import CalibrationError
from vla_rft_core.calibration import GripperCurve
from vla_rft_core.geometry import Array

MIN_WIDTHS = 5


@dataclass(frozen=True, eq=False)
class GripperFound:
    """The result. All widths in metres."""

    curve: GripperCurve
    """Mean of opening and closing, by command."""
    hysteresis: float
    """Largest difference between opening and closing to one command."""
    largest_error: float
    """Largest |measured - commanded|."""
    at_error: float
    """The command at which it is."""
    closed: float
    """Measured at the smallest command."""
    opened: float
    """Measured at the largest."""
    free_force: float
    """Largest |force| while nothing is held [N]."""
    block_width: float
    """Measured on a block; nan: none was tried."""
    block_force: float
    """Force sensed while squeezing it [N], + opening."""


def solve(
    commanded: Array,
    measured: Array,
    forces: Array,
    *,
    block: tuple[Array, Array] | None = None,
) -> GripperFound:
    """From a sweep up and down over the same commands: commanded, measured (N,) [m], forces (N,) [N].

    block: widths [m] and forces [N] sensed while squeezing something. CalibrationError when the fingers do not follow.
    """
    commanded = np.round(commanded, 6)
    widths = np.unique(commanded)
    if len(widths) < MIN_WIDTHS:
        raise CalibrationError(f"{len(widths)} different widths were commanded, {MIN_WIDTHS} are needed")
    groups = [measured[commanded == width] for width in widths]
    means = np.array([group.mean() for group in groups])
    if not (np.diff(means) > 0.0).all():
        at = widths[int(np.argmin(np.diff(means))) + 1]
        raise CalibrationError(
            f"the fingers do not follow: commanded {1e3 * at:.0f} mm they stand no wider than before; is something "
            "between them, or is the gripper not initialised?"
        )
    off = means - widths
    worst = int(np.argmax(abs(off)))
    squeezed, pressed = block if block is not None else (np.array([np.nan]), np.array([np.nan]))
    return GripperFound(
        curve=GripperCurve(commanded=tuple(widths.tolist()), measured=tuple(means.tolist())),
        hysteresis=float(max(np.ptp(group) for group in groups)),
        largest_error=float(abs(off[worst])),
        at_error=float(widths[worst]),
        closed=float(means[0]),
        opened=float(means[-1]),
        free_force=float(abs(forces).max()),
        block_width=float(np.mean(squeezed)),
        block_force=float(np.mean(pressed)),
    )
