"""Action vectors <-> set-points: the deltas that a policy predicts, in the order of the spec's `action_layout`.

Translation delta [m] and rotation-vector delta [rad] in base, from one set-point to the next; the gripper's width is
absolute [m]. Knows nothing of time: which two set-points an action lies between is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_rft_core.config import did_you_mean
from vla_rft_core.geometry import Array
from vla_rft_core.spec import RobotSpec
from vla_rft_core.types import SetPoint

NAMES = ("delta.x", "delta.y", "delta.z", "delta.rx", "delta.ry", "delta.rz", "gripper.width")
"""What a layout may name; all of them must be there, in any order."""


def action_between(before: SetPoint, after: SetPoint, spec: RobotSpec) -> NDArray[np.float32]:
    """The action (action_dim,) that leads from one set-point to the other."""
    translation, rotvec = before.T_base_tcp.delta_to(after.T_base_tcp)
    values = np.array([*translation, *rotvec, after.width])
    return values[_order(spec)].astype(np.float32)


def accumulate(reference: SetPoint, actions: ArrayLike, spec: RobotSpec) -> list[SetPoint]:
    """The set-points that actions (T, action_dim) lead to, each from the one before, the first from `reference`."""
    order = _order(spec)
    array = np.asarray(actions, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != spec.action_dim:
        raise ValueError(f"actions have shape {array.shape}, expected (T, {spec.action_dim}) as in spec {spec.name!r}")
    return list(_walk(reference, array, order))


def _walk(reference: SetPoint, actions: Array, order: list[int]) -> Iterable[SetPoint]:
    pose = reference.T_base_tcp
    for action in actions:
        values = np.empty(len(NAMES))
        values[order] = action
        pose = pose.moved(values[:3], values[3:6])
        yield SetPoint(pose, float(values[6]))


def _order(spec: RobotSpec) -> list[int]:
    """Index into NAMES per dimension of the layout."""
    for name in spec.action_layout:
        if name not in NAMES:
            hint = did_you_mean(name, list(NAMES))
            raise ValueError(f"spec {spec.name!r}: action_layout has {name!r}, which is no action of an arm{hint}")
    missing = [name for name in NAMES if name not in spec.action_layout]
    if missing:
        raise ValueError(f"spec {spec.name!r}: action_layout lacks {', '.join(missing)}")
    return [NAMES.index(name) for name in spec.action_layout]
