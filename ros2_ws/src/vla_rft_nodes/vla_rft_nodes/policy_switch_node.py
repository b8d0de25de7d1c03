"""policy_switch_node: the policies of a study behind their code names; `SelectPolicy` puts one of them in charge.

Only this process opens the sealed mapping. What it publishes, logs and answers tells no more than code names. Policies
are teleoperation devices made by factory; bundles are policy_node's, which serves `SelectPolicy` in the same words.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from std_msgs.msg import Header

from vla_rft_core.cell import find_cell, from_factory
from vla_rft_core.clock import SystemClock
from vla_rft_core.types import RobotState, Source
from vla_rft_hardware.protocols import TeleopCommand
from vla_rft_interfaces.srv import SelectPolicy
from vla_rft_nodes import qos, sealed_policy, topics
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run
from vla_rft_nodes.teleop import Teleop
from vla_rft_trials.protocol import PolicyEntry
from vla_rft_trials.study import Study

EVALUATOR = "evaluator_node"
EVALUATOR_SILENCE_S = 0.5
"""Without its heartbeat for longer, a trial is nobody's."""


@dataclass(frozen=True, kw_only=True)
class PolicySwitchConfig:
    """Parameters of policy_switch_node."""

    cell: str
    """Cell folder: a path, or "package:folder"."""


class SwitchedDevice:
    """A `PrivilegedDevice` that is whichever one was put in charge; nobody at first."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.inner: Any = None

    def start(self) -> None:
        """Begin anew."""
        if self.inner is not None:
            self.inner.start()

    def observe_corners(self, corners: np.ndarray) -> None:
        """The towel's corners (4, 3) in base [m], for those who may look at the truth."""
        if hasattr(self.inner, "observe_corners"):
            self.inner.observe_corners(corners)

    def read(self, state: RobotState) -> TeleopCommand:
        """The next step; not enabled while nobody is in charge."""
        if self.inner is None:
            still = np.zeros(3)
            return TeleopCommand(self._clock.realtime_ns(), False, still, still, state.reference.width)
        command: TeleopCommand = self.inner.read(state)
        return command

    def close(self) -> None:
        """Release it."""
        if self.inner is not None:
            self.inner.close()


class PolicySwitchNode(ShellNode):
    """Made once per policy and kept: changing over takes no time."""

    def __init__(self) -> None:
        super().__init__("policy_switch_node", heartbeat=False)  # Teleop beats
        spec = find_cell(read_parameters(self, PolicySwitchConfig).cell).spec
        self._device = SwitchedDevice()
        self._evaluator_beat = -math.inf
        self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, qos.EVENT)
        self._teleop = Teleop(self, self._device, spec, on_key=lambda key: None, alive=self._supervised)
        self._made: dict[tuple[str, str], Any] = {}
        self._code = ""
        self.create_service(SelectPolicy, topics.SELECT_POLICY, self._select)
        self.create_timer(spec.control_period_s, self._teleop.tick)

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """Who is in charge, by code name, and the lease."""
        return "", {"code": self._code, "lease": self._teleop.ours, "chunks": self._teleop.chunks}

    def close(self) -> None:
        """Release every policy."""
        self._teleop.close()

    def _on_heartbeat(self, message: Header) -> None:
        if message.frame_id == EVALUATOR:
            self._evaluator_beat = time.monotonic()

    def _supervised(self) -> bool:
        """Somebody watches the trial. When the evaluator dies, this node is silent, and the watchdog holds the arm."""
        return time.monotonic() - self._evaluator_beat < EVALUATOR_SILENCE_S

    def _select(self, request: SelectPolicy.Request, response: SelectPolicy.Response) -> SelectPolicy.Response:
        self._code, self._device.inner = "", None
        found = sealed_policy.opened(request, response)
        if found is None:
            return response
        study, entry, stamp = found
        try:
            policy = self._policy(study, request.code, entry)
            if hasattr(policy, "begin_trial"):
                policy.begin_trial(request.trial)
        except Exception as error:  # whatever a factory raises may name what is sealed
            return sealed_policy.refuse(response, study, request.code, error)
        self._code, self._device.inner = request.code, policy
        response.source, response.stamp = str(Source.TELEOP), stamp
        return response

    def _policy(self, study: Study, code: str, entry: PolicyEntry) -> Any:
        key = (study.digest, code)
        if key not in self._made:
            if entry.bundle:
                raise ValueError("bundles are not run here but by policy_node (policies:=bundles)")
            self._made[key] = from_factory(entry.factory, **entry.options)
        return self._made[key]


def main() -> None:
    """Entry point of the executable."""
    run(PolicySwitchNode, urgent=True)


if __name__ == "__main__":
    main()
