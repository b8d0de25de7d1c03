"""sim_node: what no real lab has. Publishes the towel's truth on `sim/truth`, lays the towel out on `sim/reset`.

Exists in simulation only; read by the scripted expert, the trial runner's labels and tests, never by a policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from geometry_msgs.msg import Point

from vla_rft_core.cell import from_factory
from vla_rft_core.clock import SystemClock
from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import SimTruth
from vla_rft_interfaces.srv import ResetScene
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run


@dataclass(frozen=True, kw_only=True)
class SimNodeConfig:
    """Parameters of sim_node."""

    world: str
    """Factory "module:function" of the connection to the world; called with `address`."""
    address: str = ""
    """Socket of the simulated world."""
    rate: float = 10.0
    """Truths per second [Hz]."""


class SimNode(ShellNode):
    """Asks the world at the control rate."""

    def __init__(self) -> None:
        super().__init__("sim_node", heartbeat=False)
        config = read_parameters(self, SimNodeConfig)
        self._world = from_factory(config.world, config.address)
        self._host_clock = SystemClock()
        self._seed = self._resets = 0
        self._truths = self.create_publisher(SimTruth, topics.SIM_TRUTH, qos.STATE)
        self.create_service(ResetScene, topics.SIM_RESET, self._reset)
        self.create_timer(1.0 / config.rate, self._publish)

    def close(self) -> None:
        """Let go of the world."""
        self._world.close()

    def _publish(self) -> None:
        truth = self._world.truth()
        self._truths.publish(
            SimTruth(
                header=convert.to_header(self._host_clock.realtime_ns(), convert.BASE),
                seed=self._seed,
                resets=self._resets,
                corners=[Point(x=x, y=y, z=z) for x, y, z in truth.corners.tolist()],
                grasped_vertices=truth.grasped_vertices,
                edge_gap=truth.edge_gap,
                mirrored_gap=truth.mirrored_gap,
                area_ratio=truth.area_ratio,
                max_height=truth.max_height,
                success=truth.success,
            )
        )

    def _reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        try:
            response.placement = str(self._world.reset(request.seed))
            response.success = [f"{name}: {words}" for name, words in self._world.success.items()]
        except DeviceError as error:
            response.error_code, response.error_msg = ResetScene.Response.REFUSED, str(error)
        else:
            self._seed, self._resets = request.seed, self._resets + 1
        return response


def main() -> None:
    """Entry point of the executable."""
    run(SimNode)


if __name__ == "__main__":
    main()
