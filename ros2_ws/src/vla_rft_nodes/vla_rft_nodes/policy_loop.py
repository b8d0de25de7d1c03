"""PolicyLoop: one decision after the other: wait for the picture, observe, ask the policy, splice, say what it took.

Part of policy_node. The chunk is timed by its observation's stamp, so that targets which are late by then are dropped
by the executor; how late answers come is measured on robot_node's verdicts, not assumed.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from deploy.bundle import Bundle, BundleError
from deploy.runtime.policies import NoChunkError, RunningPolicy
from vla_rft_core.clock import nanoseconds
from vla_rft_core.errors import StaleInputError
from vla_rft_core.splice import SpliceConfig, SpliceMode, Splicer
from vla_rft_interfaces.msg import ActionChunk, PolicyReport
from vla_rft_nodes import convert
from vla_rft_nodes.client import CellClient

REMEMBERED = 20
"""Measured latencies; the largest of them counts."""
STAGES = ("preprocess", "encode", "flow", "postprocess")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How decisions are made."""

    splice: SpliceMode | None = None
    """How chunks are joined; None: as each bundle says."""
    blend_steps: int = SpliceConfig().blend_steps
    decay: float = SpliceConfig().decay
    n_action_steps: int = 4
    """Control periods between two observations."""
    expected_latency_s: float = 0.15
    """From picture to robot, before it was measured."""
    shadow: bool = False

    def __post_init__(self) -> None:
        if self.n_action_steps < 1 or not self.expected_latency_s >= 0.0:
            raise ValueError(
                f"n_action_steps must be at least 1 and expected_latency not negative, got {self.n_action_steps} and "
                f"{self.expected_latency_s:g}"
            )
        SpliceConfig(blend_steps=self.blend_steps, decay=self.decay)

    def splice_of(self, bundle: Bundle) -> SpliceConfig:
        """How this bundle's chunks are joined."""
        return SpliceConfig(mode=self.splice or bundle.splice, blend_steps=self.blend_steps, decay=self.decay)


@dataclass(frozen=True, eq=False, kw_only=True)
class Acting:
    """The policy in charge."""

    policy: RunningPolicy
    label: str
    """What its chunks are signed with."""
    prompt: str
    seed: int
    supervised: bool = False
    """In a study's trial: nothing moves without its evaluator."""


class PolicyLoop:
    """`step` and `rest` are for one thread; `measured` for any."""

    def __init__(self, cell: CellClient, config: LoopConfig) -> None:
        self._cell, self._config, self._spec = cell, config, cell.spec
        self._splicer = Splicer()
        self._latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._every_ns = config.n_action_steps * cell.spec.control_period_ns
        self._acting: Acting | None = None
        self._begun_ns = self._next_ns = 0
        self._sequence = 0

    @property
    def latency_s(self) -> float:
        """From picture to robot: the largest of the last ones measured."""
        return max(list(self._latencies), default=self._config.expected_latency_s)

    def measured(self, latency_s: float) -> None:
        """A chunk of ours reached the robot so long after its picture was taken."""
        self._latencies.append(latency_s)

    def rest(self) -> None:
        """The policy has no lease: what played is over, and the next decision begins a new attempt."""
        self._acting = None
        self._cell.keep_up()

    def step(self, acting: Acting, *, timeout_s: float) -> tuple[PolicyReport | None, ActionChunk | None]:
        """One decision: (what became of it, the chunk to publish now). (None, None) while there is no new picture."""
        if acting is not self._acting:
            acting.policy.begin(acting.seed)
            self._splicer = Splicer(self._config.splice_of(acting.policy.bundle))
            self._acting, self._begun_ns = acting, time.time_ns()
            self._next_ns = self._begun_ns - self._every_ns
        received_ns = self._cell.pictures_since(self._next_ns, timeout_s)
        if received_ns == 0:
            return None, None
        report = PolicyReport(policy_id=acting.label, shadow=self._config.shadow)
        arrived_ns = max(received_ns, self._begun_ns)  # nobody waited while it lay there before the attempt
        report.image_received, report.began = convert.to_time(arrived_ns), convert.to_time(time.time_ns())
        try:
            return report, self._answer(acting, report)
        except (StaleInputError, NoChunkError, BundleError) as error:
            report.problem = str(error)
            self._next_ns = time.time_ns()
            return report, None

    def _answer(self, acting: Acting, report: PolicyReport) -> ActionChunk:
        began = time.perf_counter()
        observation = replace(self._cell.observe(), prompt=acting.prompt)
        report.header = convert.to_header(observation.stamp_ns)
        report.assemble = time.perf_counter() - began
        # Before its time has come nothing is due; a picture that comes a little early is as good as the next one.
        self._next_ns = observation.stamp_ns + self._every_ns - self._spec.control_period_ns // 4
        committed = self._splicer.committed(
            observation.stamp_ns, observation.commanded, latency_ns=nanoseconds(self.latency_s), spec=self._spec
        )
        report.committed = len(committed)
        decision = acting.policy.decide(observation, committed=committed)
        if not decision.chunk.finite:
            raise NoChunkError("the policy's answer is not finite")
        for stage in STAGES:
            setattr(report, stage, float(decision.seconds.get(stage, 0.0)))
        if "network" in decision.seconds:  # a backend that cannot tell its parts apart
            report.flow = float(decision.seconds["network"])
        began = time.perf_counter()
        now_ns = time.time_ns()
        if decision.chunk.due_ns(len(decision.chunk) - 1) <= now_ns:
            raise NoChunkError(
                f"the answer came {(now_ns - observation.stamp_ns) / 1e9:.2f} s late: nothing of it is left"
            )
        self._sequence += 1
        chunk = replace(decision.chunk, sequence=self._sequence, policy_id=acting.label)
        message = convert.to_chunk(self._splicer.splice(chunk, now_ns=now_ns))
        report.sequence, report.splice = self._sequence, time.perf_counter() - began
        report.published = convert.to_time(time.time_ns())
        return message
