"""Policies that a study in simulation can name without a checkpoint: the scripted expert, plain or with a shaky hand.

Factories for `PolicyEntry.factory`. They are teleoperation devices, told which trial it is, so that what they draw
follows from that alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_rft_core.clock import Clock, SystemClock
from vla_rft_sim.expert import ExpertConfig, ScriptedExpert


class ShakyExpert(ScriptedExpert):
    """Closes its fingers beside where it means to, and does not know it."""

    def __init__(self, clock: Clock, *, grasp_noise_m: float) -> None:
        if not grasp_noise_m >= 0.0:
            raise ValueError(f"grasp_noise_m must not be negative, got {grasp_noise_m}")
        super().__init__(clock)
        self._plain, self._noise_m = ExpertConfig(), grasp_noise_m

    def begin_trial(self, seed: int) -> None:
        """Draw this trial's error: normal along and across the towel's edge, each with the noise as deviation."""
        inward, along = np.random.default_rng(seed).normal(0.0, self._noise_m, 2).tolist()
        plain = self._plain
        # The way is laid out as if the towel had been taken where it was meant to be.
        self.config = replace(
            plain,
            inset=plain.inset + inward,
            overshoot=plain.overshoot + inward,
            along=plain.along + along,
            release_along=plain.release_along - along,
        )


def expert(*, clock: Clock | None = None, grasp_noise_m: float = 0.0) -> ShakyExpert:
    """The scripted expert; with noise, one that grasps that far from where it means to [m, standard deviation]."""
    return ShakyExpert(clock or SystemClock(), grasp_noise_m=grasp_noise_m)
