"""policy_node: a bundle moves the arm. Newest observation -> `deploy.runtime` -> spliced ActionChunk; no torch.

It decides while the policy holds the lease, or all the time in shadow mode, where its chunks go to a topic that nothing
acts on. `SelectPolicy` puts a study's bundles in charge by code name; bundles are swapped while nothing plays only.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from deploy import runtime
from deploy.runtime.policies import RunningPolicy
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.priority import DECIDES, in_real_time
from vla_rft_core.splice import SpliceMode
from vla_rft_core.types import Source
from vla_rft_interfaces.msg import ActionChunk, ChunkVerdict, PolicyReport, SafetyStatus
from vla_rft_interfaces.srv import SelectPolicy
from vla_rft_nodes import qos, sealed_policy, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.latency import POLICY_STAGES, StageLatency
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.policy_loop import Acting, LoopConfig, PolicyLoop
from vla_rft_nodes.policy_switch_node import EVALUATOR, EVALUATOR_SILENCE_S
from vla_rft_nodes.ros import HEARTBEAT_HZ, ShellNode, run

UNVERIFIED = "unverified"
"""Ends the policy_id of every chunk while bundles without a passed gate are allowed."""
WAIT_S = 0.05
PROBLEM_S = 2.0
"""How long a decision without a chunk is shown as a problem [s]."""


@dataclass(frozen=True, kw_only=True)
class PolicyNodeConfig:
    """Parameters of policy_node."""

    cell: str
    """Cell folder: a path, or "package:folder"."""
    bundle: str = ""
    """Folder of the bundle in charge from the start; empty: none until SelectPolicy."""
    network_backend: str = runtime.DEFAULT_BACKEND
    """onnxruntime-cpu, onnxruntime-cuda or tensorrt."""
    threads: int = 1
    """Of the network on the CPU."""
    prompt: str = "fold the towel in half"
    """Put to the policy; a study brings its own."""
    allow_unverified: bool = False
    """Run bundles that have not passed the closed-loop gate; every chunk says so."""
    shadow: bool = False
    """Decide all the time, and send nothing to the robot."""
    seed: int = 0
    """Of what the policy draws at random; a study's trials bring their own."""
    splice: str = ""
    """How chunks are joined: hard, blend, ensemble or rtc; empty: as each bundle says."""
    blend_steps: int = 4
    """blend: targets that go over from chunk to chunk."""
    decay: float = 0.1
    """ensemble: exp(-decay k) is the weight of the k-th oldest chunk."""
    n_action_steps: int = 4
    """Control periods between two observations."""
    expected_latency: float = 0.15
    """From picture to robot before it has been measured [s]."""

    def __post_init__(self) -> None:
        if self.splice not in ("", *SpliceMode):
            raise ValueError(f"splice: must be empty or one of {', '.join(SpliceMode)}, got {self.splice!r}")


class PolicyNode(ShellNode):
    """One bundle at a time, kept once loaded; the loop has a thread of its own."""

    def __init__(self) -> None:
        super().__init__("policy_node", heartbeat=False)  # beats while somebody supervises a study's trial
        config = self._config = read_parameters(self, PolicyNodeConfig)
        self._spec = find_cell(config.cell).spec
        self._loaded: dict[str, RunningPolicy] = {}
        self._acting: Acting | None = None
        self._trials = 0
        if config.bundle:
            policy = self._policy(Path(config.bundle))
            label = policy.bundle.digest
            self._acting = Acting(policy=policy, label=self._labelled(label), prompt=config.prompt, seed=config.seed)
        self._cell = CellClient(self, self._spec)
        self._loop = PolicyLoop(
            self._cell,
            LoopConfig(
                splice=SpliceMode(config.splice) if config.splice else None,
                blend_steps=config.blend_steps,
                decay=config.decay,
                n_action_steps=config.n_action_steps,
                expected_latency_s=config.expected_latency,
                shadow=config.shadow,
            ),
        )
        self._stages = StageLatency()
        self._problem, self._problem_at = "", -math.inf
        self._decided = self._refused = 0
        self._supervisor_beat = -math.inf
        self._beats = self.create_publisher(Header, topics.HEARTBEAT, qos.EVENT)
        self._reports = self.create_publisher(PolicyReport, topics.POLICY_REPORT, qos.EVENT)
        self._shadows = self.create_publisher(ActionChunk, topics.SHADOW_CHUNK, qos.COMMAND)
        self.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, self._on_verdict, qos.EVENT)
        self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, qos.EVENT)
        # Loading a bundle takes seconds: in a group of its own, so that pictures and states go on.
        self.create_service(
            SelectPolicy, topics.SELECT_POLICY, self._select, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.create_timer(1.0 / HEARTBEAT_HZ, self._beat_if_supervised)
        self.start_worker(self._decide, "decide")

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """What keeps the policy from answering, and where the time goes."""
        acting = self._acting
        values: dict[str, object] = {
            "policy_id": acting.label if acting else "",
            "decisions": self._decided,
            "without_chunk": self._refused,
            "splice": self._config.splice or (str(acting.policy.bundle.splice) if acting else ""),
            "latency_ms": f"{1e3 * self._loop.latency_s:.0f}",
            POLICY_STAGES: json.dumps(self._stages.figures()),
        }
        recent = time.monotonic() - self._problem_at < PROBLEM_S
        return (self._problem if recent else ""), values

    # --- the loop -------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        in_real_time(DECIDES)
        while not self.stopping:
            acting = self._acting
            if acting is None or not (self._config.shadow or self._has_lease()):
                self._loop.rest()
                time.sleep(WAIT_S)
                continue
            report, chunk = self._loop.step(acting, timeout_s=WAIT_S)
            if report is None:
                continue
            if chunk is not None and (self._config.shadow or self._has_lease()):
                (self._shadows.publish if self._config.shadow else self._cell.publish)(chunk)
            self._note(report)

    def _has_lease(self) -> bool:
        status = self._cell.status
        return status is not None and status.mode == SafetyStatus.ACTIVE and status.source == Source.POLICY

    def _note(self, report: PolicyReport) -> None:
        self._decided += 1
        self._reports.publish(report)
        if report.problem:
            self._refused += 1
            self._problem, self._problem_at = report.problem, time.monotonic()
            self.get_logger().warning(f"no chunk: {report.problem}", throttle_duration_sec=1.0)
        else:
            self._stages.see(report)

    def _on_verdict(self, verdict: ChunkVerdict) -> None:
        if verdict.source == Source.POLICY and verdict.accepted:
            self._loop.measured(verdict.age)

    # --- who is in charge -----------------------------------------------------------------------------------------

    def _select(self, request: SelectPolicy.Request, response: SelectPolicy.Response) -> SelectPolicy.Response:
        status = self._cell.status
        if status is not None and status.mode == SafetyStatus.ACTIVE:
            response.error_code = SelectPolicy.Response.REFUSED
            response.error_msg = f"{status.source} holds the lease; bundles are swapped in READY only"
            return response
        self._acting = None
        found = sealed_policy.opened(request, response)
        if found is None:
            return response
        study, entry, stamp = found
        try:
            if not entry.bundle:
                raise ValueError("policies made by a factory are policy_switch_node's")
            policy = self._policy(Path(entry.bundle))
        except (ValueError, VlaRftError) as error:
            return sealed_policy.refuse(response, study, request.code, error)
        # A chunk's policy_id is read by everybody: a blinded study's tells no more than the code name.
        label = request.code if study.protocol.blinded else policy.bundle.digest
        self._supervisor_beat = time.monotonic()
        self._acting = Acting(
            policy=policy,
            label=self._labelled(label),
            prompt=study.protocol.prompt,
            seed=int(np.random.SeedSequence([self._config.seed, request.trial]).generate_state(1)[0]),
            supervised=True,
        )
        response.source, response.stamp = str(Source.POLICY), stamp
        return response

    def _policy(self, folder: Path) -> RunningPolicy:
        """Loaded once; every file is hashed again each time by whoever locked it, or by the loading."""
        key = str(folder.resolve())
        if key not in self._loaded:
            policy = runtime.load(
                folder,
                backend=self._config.network_backend,
                threads=self._config.threads,
                allow_unverified=self._config.allow_unverified,
            )
            policy.bundle.spec.require_same(self._spec, ours="the bundle", theirs="the cell")
            self._loaded[key] = policy
        return self._loaded[key]

    def _labelled(self, label: str) -> str:
        return f"{label} {UNVERIFIED}" if self._config.allow_unverified else label

    # --- heartbeats -------------------------------------------------------------------------------------------------

    def _on_heartbeat(self, message: Header) -> None:
        if message.frame_id == EVALUATOR:
            self._supervisor_beat = time.monotonic()

    def _beat_if_supervised(self) -> None:
        """When a trial's evaluator dies, this node is silent, and the watchdog holds the arm."""
        acting = self._acting
        silent_s = time.monotonic() - self._supervisor_beat
        if acting is None or not acting.supervised or silent_s < EVALUATOR_SILENCE_S:
            self._beats.publish(self.stamp_now())


def main() -> None:
    """Entry point of the executable."""
    run(PolicyNode, threads=2, urgent=True)


if __name__ == "__main__":
    main()
