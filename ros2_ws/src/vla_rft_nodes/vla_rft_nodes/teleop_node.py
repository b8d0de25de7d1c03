"""teleop_node: a teleoperation device -> chunks of one target, and its recorder keys -> whoever records.

The scripted expert is such a device; in simulation it is shown the ground truth on `sim/truth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from std_msgs.msg import String

from vla_rft_core.cell import find_cell, from_factory
from vla_rft_hardware.protocols import TeleopDevice
from vla_rft_nodes import qos, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run
from vla_rft_nodes.teleop import Teleop


@dataclass(frozen=True, kw_only=True)
class TeleopConfig:
    """Parameters of teleop_node."""

    device: str
    """Factory "module:function" of the device; called with no arguments but `map` and `pedals` if given."""
    cell: str
    """Cell folder: a path, or "package:folder"."""
    pedals: str = ""
    """Factory of foot pedals whose buttons join the device's own; empty: none."""
    map: str = ""
    """YAML file with the device's axes and buttons; empty: the device's own."""


class TeleopNode(ShellNode):
    """Reads the device once per control period."""

    def __init__(self) -> None:
        super().__init__("teleop_node", heartbeat=False)  # Teleop beats
        config = read_parameters(self, TeleopConfig)
        spec = find_cell(config.cell).spec
        more: dict[str, Any] = {"map": config.map} if config.map else {}
        if config.pedals:
            more["pedals"] = from_factory(config.pedals)
        device: TeleopDevice = from_factory(config.device, **more)
        self._keys = self.create_publisher(String, topics.OPERATOR_KEY, qos.EVENT)
        self._teleop = Teleop(self, device, spec, on_key=self._on_key)
        self.create_timer(spec.control_period_s, self._teleop.tick)

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """Dead-man, lease and chunks sent."""
        teleop = self._teleop
        return "", {"dead_man": teleop.pressed, "lease": teleop.ours, "chunks": teleop.chunks}

    def close(self) -> None:
        """Release the device."""
        self._teleop.close()

    def _on_key(self, key: str) -> None:
        self._keys.publish(String(data=key))


def main() -> None:
    """Entry point of the executable."""
    run(TeleopNode, urgent=True)


if __name__ == "__main__":
    main()
