"""When the fingers hold the towel: attach what lies between them as they close, let go when they open or it slips.

Optimistic on purpose (no friction cone), but a grasp can miss, slip and drop.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.geometry import Array
from vla_rft_sim.gl import mujoco
from vla_rft_sim.kinematics import FLANGE_TO_TCP_M

CLOSED_WIDTH_M = 0.012
"""The fingers grasp when their opening falls below this, and let go when it rises above."""
_REACH_M = (0.024, 0.015, 0.014)
"""Half size of the box at the tcp within which a vertex is caught: along the pads, across the opening, in height."""
_MAX_VERTICES = 3
_DROP_WITHIN_STEPS = 400
_EQUALITY = int(mujoco.mjtConstraint.mjCNSTR_EQUALITY)
_CHECK_EVERY = 2
"""Steps between two looks at the pulling force."""


class Grasp:
    """Which vertices of the towel the fingers hold; `held` lists their indices."""

    def __init__(self, model: mujoco.MjModel, slip_force: float, drop_probability: float) -> None:
        self._model = model
        self._slip_force = slip_force
        self._drop_probability = drop_probability
        self._hand = model.body("gripper").id
        names = [model.eq(i).name for i in range(model.neq)]
        self._first = names.index("grasp_0")
        count = sum(name.startswith("grasp_") for name in names)
        self._constraints = slice(self._first, self._first + count)
        first_body = model.body("towel_0").id
        self._bodies = slice(first_body, first_body + count)
        # The towel's own origin is the constraint's second anchor: a vertex is a point.
        model.eq_data[self._constraints, 3:6] = 0.0
        self.held: list[int] = []
        self._was_closed = True
        self._steps_held = 0
        self._drop_at = -1

    def restart(self, data: mujoco.MjData, seed: int) -> None:
        """Let go, and draw the same drops again after the same seed."""
        self._random = np.random.default_rng([seed, 1])
        self._was_closed = True
        self._steps_held, self._drop_at = 0, -1
        self._release(data)

    def update(self, data: mujoco.MjData, *, width: float, wanted_width: float) -> None:
        """Once per physics step, with the fingers' measured and commanded opening [m]."""
        closed = width < CLOSED_WIDTH_M
        if self.held:
            self._steps_held += 1
            opened = wanted_width > CLOSED_WIDTH_M and not closed
            dropped = self._steps_held == self._drop_at
            if opened or dropped or (self._steps_held % _CHECK_EVERY == 0 and self._pull(data) > self._slip_force):
                self._release(data)
        elif closed and not self._was_closed:
            self._catch(data)
        self._was_closed = closed

    def drop(self, data: mujoco.MjData) -> None:
        """Let go for no reason; nothing is caught again before the fingers have opened."""
        self._release(data)

    def save(self) -> dict[str, Any]:
        """Plain values from which `restore` goes on; the anchors come apart from `anchors`."""
        return {
            "held": self.held,
            "was_closed": self._was_closed,
            "steps_held": self._steps_held,
            "drop_at": self._drop_at,
            "random": self._random.bit_generator.state,
        }

    def restore(self, data: mujoco.MjData, state: dict[str, Any]) -> None:
        """Hold what was held; the anchors must have been put back before."""
        self._release(data)
        self.held = list(state["held"])
        data.eq_active[[self._first + vertex for vertex in self.held]] = 1
        self._was_closed, self._steps_held = state["was_closed"], state["steps_held"]
        self._drop_at = state["drop_at"]
        self._random.bit_generator.state = state["random"]

    def anchors(self, eq_active: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Where in the hand the vertices held now, or while these constraints were active, are attached."""
        active = eq_active[self._constraints].astype(bool)
        active[self.held] = True
        vertices = np.flatnonzero(active)
        return {"anchored": vertices, "anchors": self._model.eq_data[self._first + vertices, :3]}

    def put_anchors(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Undo `anchors`."""
        self._model.eq_data[self._first + arrays["anchored"], :3] = arrays["anchors"]

    def _catch(self, data: mujoco.MjData) -> None:
        in_hand = (data.xpos[self._bodies] - data.xpos[self._hand]) @ data.xmat[self._hand].reshape(3, 3)
        offset = in_hand - np.array([0.0, 0.0, FLANGE_TO_TCP_M])
        within = np.flatnonzero((np.abs(offset) < _REACH_M).all(axis=1))
        cost = (offset[within] ** 2) @ np.array([1.0, 4.0, 1.0])
        caught = within[np.argsort(cost, kind="stable")[:_MAX_VERTICES]]
        for vertex in caught:
            self._model.eq_data[self._first + vertex, :3] = in_hand[vertex]
            data.eq_active[self._first + vertex] = 1
        self.held = [int(vertex) for vertex in caught]
        self._steps_held = 0
        dropped = self._random.random() < self._drop_probability
        self._drop_at = int(self._random.integers(1, _DROP_WITHIN_STEPS)) if dropped else -1

    def _release(self, data: mujoco.MjData) -> None:
        data.eq_active[self._constraints] = 0
        self.held = []

    def _pull(self, data: mujoco.MjData) -> float:
        """Force [N] between the towel and the fingers."""
        rows = data.ne
        constraint: Array = data.efc_id[:rows]
        ours = (data.efc_type[:rows] == _EQUALITY) & (constraint >= self._first)
        ours &= constraint < self._constraints.stop
        forces = data.efc_force[:rows][ours].reshape(-1, 3)
        return math.sqrt(float((forces.sum(axis=0) ** 2).sum()))
