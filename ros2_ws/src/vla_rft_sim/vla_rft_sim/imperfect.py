"""An arm that is not quite the published one: link origins a little elsewhere, as every real arm's are.

Its controller knows the nominal numbers only, so that the tcp it reports is off, by another amount in every posture.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from vla_rft_core.geometry import Array
from vla_rft_hardware.description import load_rizon4s
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q

_RADIANS_PER_M = 1.0
"""A link that is off by a millimetre is turned by a milliradian."""
_POSTURES = 200
_SPREAD_RAD = 0.4
"""Of the joints around home, over which the error is made as large as asked for."""


def perturbed_description(seed: int, error_m: float) -> dict[str, Any]:
    """The arm's description with every joint's origin moved and turned.

    error_m: root mean square of the tcp's position error over postures around home [m], all three axes together.
    """
    nominal, random = load_rizon4s(), np.random.default_rng([seed, 7])
    moves = random.normal(size=(len(nominal["joints"]), 6))
    postures = HOME_Q + random.normal(scale=_SPREAD_RAD, size=(_POSTURES, len(HOME_Q)))
    scale = error_m
    for _ in range(3):  # nearly linear: three times is plenty
        made = _moved(nominal, scale * moves)
        scale *= error_m / max(_rms_error(made, postures), 1e-12)
    return _moved(nominal, scale * moves) if error_m > 0.0 else copy.deepcopy(nominal)


def _moved(nominal: dict[str, Any], moves: Array) -> dict[str, Any]:
    made = copy.deepcopy(nominal)
    for joint, move in zip(made["joints"], moves, strict=True):
        joint["origin_xyz"] = (np.array(joint["origin_xyz"]) + move[:3]).tolist()
        joint["origin_rpy"] = (np.array(joint["origin_rpy"]) + _RADIANS_PER_M * move[3:]).tolist()
    return made


def _rms_error(description: dict[str, Any], postures: Array) -> float:
    true, nominal = ArmKinematics(description), ArmKinematics()
    errors = [true.tcp_pose(q).position - nominal.tcp_pose(q).position for q in postures]
    return float(np.sqrt(np.mean(np.sum(np.square(errors), axis=1))))
