"""What the paper (VLA-RFT, arXiv 2510.00406) prints, for the columns beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Trials:
    """A column of Table 11: 10 trials on the real robot."""

    name: str
    seconds: tuple[int, ...]
    """Of the successes."""
    failures: Mapping[str, int]

    @property
    def score(self) -> str:
        """ "5/10"."""
        return f"{len(self.seconds)}/{len(self.seconds) + sum(self.failures.values())}"


TABLE_11: Mapping[str, Trials] = {
    "sft": Trials(
        name="Base, 20k SFT",
        seconds=(60, 56, 55, 52, 51),
        failures={"no grasp": 3, "poor grasp": 1, "joint limit": 1},
    ),
    "sft-4n": Trials(
        name="Base, 80k SFT",
        seconds=(48, 42, 50, 48, 49),
        failures={"no grasp": 2, "poor grasp": 2, "joint limit": 1},
    ),
    "rft": Trials(
        name="RFT, 20k SFT + 200 RFT",
        seconds=(41, 54, 60, 54, 56, 50, 52, 50, 60, 62),
        failures={},
    ),
}
TABLE_1 = {"mse": 0.0039, "psnr": 25.23, "ssim": 0.906, "perceptual": 0.059}
"""Averages over LIBERO's suites, 256 × 256; the last is LPIPS."""
TABLE_4 = {"sft": 86.6, "r1": 87.7, "r2": 87.1, "r3": 91.1}
"""Average success on LIBERO [%], base 150k and RFT."""
TABLE_3: Mapping[str, tuple[str, float, float]] = {
    "minor_towel": ("object ± 2.5", 69.3, 73.5),
    "major_towel": ("object ± 5", 48.0, 52.5),
    "minor_hand": ("robot state ± 20", 73.0, 76.5),
    "major_hand": ("robot state ± 50", 63.5, 67.0),
    "minor_both": ("combined ± 2.5 / 2.5 / 20", 63.5, 70.0),
    "major_both": ("combined ± 5 / 5 / 50", 34.0, 37.0),
}
"""LIBERO's perturbation, success of base and RFT [%]; a towel has no goal's position to perturb."""
