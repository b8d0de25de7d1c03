"""SimulatedScene: the towel of a simulated cell, for whoever records in it. Reads the truth; never part of a policy."""

from __future__ import annotations

import time

from rclpy.node import Node

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import SimTruth
from vla_rft_interfaces.srv import ResetScene
from vla_rft_nodes import qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.record_session import SimulatedTable

SETTLE_S = 0.5
TRUTH_S = 2.0


class SimulatedScene:
    """The towel of a simulated cell: laid out with successive seeds, looked at in `sim/truth`."""

    def __init__(self, node: Node, cell: CellClient, *, seed: int) -> None:
        self._cell, self._seed = cell, seed
        self._truth: SimTruth | None = None
        self._client = node.create_client(ResetScene, topics.SIM_RESET)
        node.create_subscription(SimTruth, topics.SIM_TRUTH, self._on_truth, qos.STATE)

    def table(self) -> SimulatedTable:
        """For a session."""
        return SimulatedTable(self._reset, lambda: self._truth is not None and bool(self._truth.success))

    def _reset(self) -> str:
        seed, self._seed = self._seed, self._seed + 1
        response = self._cell.call(self._client, ResetScene.Request(seed=seed))
        if response.error_code:
            raise DeviceError(f"the scene cannot be reset: {response.error_msg}")
        if not self._cell.wait_until(lambda: self._truth is not None and self._truth.seed == seed, TRUTH_S):
            raise DeviceError("sim_node published no truth after the reset")
        time.sleep(SETTLE_S)
        return str(response.placement)

    def _on_truth(self, message: SimTruth) -> None:
        self._truth = message
