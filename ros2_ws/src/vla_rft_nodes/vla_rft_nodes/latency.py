"""Where the time between a picture and the arm's command goes, from the stamps that the nodes themselves recorded.

`python -m vla_rft_nodes.latency --seconds 60 [--json]` listens to a running graph. Of every chunk it knows when it was
received and first sent; of a policy's chunks also the picture's capture, and what each stage of the decision took.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray

from vla_rft_interfaces.msg import ChunkVerdict, PolicyReport, ServoReport
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.ros import prepare_environment

CHUNK_LATENCY = "chunk_received_to_set_point_sent_ms"
"""Key of these figures (JSON) in robot_node's diagnostics."""
ROBOT_COSTS = ("chunk_handling_ms", "servo_step_ms", "servo_devices_ms")
"""Keys (JSON) in robot_node's diagnostics: reading, judging and splicing a chunk; one servo tick with executor, filter
and the devices' calls; those calls alone."""
CHUNK_COSTS = "policy_chunk_costs_ms"
"""Key (JSON) in robot_node's diagnostics: sequence of a chunk of the policy -> what our code spent on it there."""
POLICY_STAGES = "policy_stages_ms"
"""Key (JSON) in policy_node's diagnostics: stage -> figures."""
OURS_MS = "ours_from_picture_to_command_ms"
"""Of each chunk the sum of what our code spent on it in policy_node and robot_node, without model and devices."""
OURS = ("assemble", "preprocess", "postprocess", "splice")
MODEL = ("encode", "flow")
KEPT = 10_000
"""Samples kept of each figure."""
CHUNKS_SAID = 32
"""So many of the newest chunks' costs are in a diagnostic; one comes each second."""


class Samples:
    """The newest figures of one kind [ms]."""

    def __init__(self) -> None:
        self._values_ms: deque[float] = deque(maxlen=KEPT)

    def add(self, value_s: float) -> None:
        """One more [s]."""
        self._values_ms.append(1e3 * value_s)

    def figures(self) -> dict[str, float]:
        """p50, p95, p99, max [ms] and the count n; empty for no samples."""
        return summary_ms(tuple(self._values_ms))


class ChunkLatency:
    """Collects one figure per chunk that played; the newest ten thousand."""

    def __init__(self) -> None:
        self._samples = Samples()
        self._last: tuple[str, int] | None = None

    def see(self, *, source: str, sequence: int, received_ns: int, sent_ns: int) -> float | None:
        """A set-point was sent; the first of every chunk counts: its wait [s]. `received_ns` is 0 when not known."""
        if (source, sequence) == self._last or received_ns == 0:
            return None
        self._last = (source, sequence)
        self._samples.add((sent_ns - received_ns) / 1e9)
        return (sent_ns - received_ns) / 1e9

    def figures(self) -> dict[str, float]:
        """p50, p95, p99 and max [ms] and the count; empty when no chunk played."""
        return self._samples.figures()


class ChunkCosts:
    """What our code in robot_node spent on each of the policy's newest chunks. Call it from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent_s: dict[int, float] = {}

    def add(self, sequence: int, spent_s: float) -> None:
        """More was spent on that chunk: on its handling, or in the tick that first sent it, without the devices [s]."""
        with self._lock:
            self._spent_s[sequence] = self._spent_s.get(sequence, 0.0) + spent_s
            while len(self._spent_s) > CHUNKS_SAID:
                del self._spent_s[next(iter(self._spent_s))]

    def figures(self) -> dict[int, float]:
        """Sequence -> cost [ms]."""
        with self._lock:
            return {sequence: round(1e3 * spent_s, 3) for sequence, spent_s in self._spent_s.items()}


class StageLatency:
    """What policy_node's decisions took, stage by stage."""

    def __init__(self) -> None:
        self._stages = {name: Samples() for name in ("picture_to_node", "wait", *OURS, *MODEL, "model", "ours")}

    def see(self, report: PolicyReport) -> float:
        """One decision that made a chunk: what it took without the model [s]."""
        times = {name: float(getattr(report, name)) for name in (*OURS, *MODEL)}
        received, began, published = map(convert.to_ns, (report.image_received, report.began, report.published))
        model = sum(times[name] for name in MODEL)
        times |= {
            "picture_to_node": (received - convert.to_ns(report.header.stamp)) / 1e9,
            "wait": (began - received) / 1e9,
            "model": model,
            "ours": (published - received) / 1e9 - model,
        }
        for name, value_s in times.items():
            self._stages[name].add(value_s)
        return times["ours"]

    def figures(self) -> dict[str, dict[str, float]]:
        """Stage -> figures [ms]. "ours": from the picture's arrival to the chunk's publishing, without the model."""
        return {name: samples.figures() for name, samples in self._stages.items() if samples.figures()}


def summary_ms(samples_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99, max [ms] and the count n; empty for no samples."""
    if not samples_ms:
        return {}
    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(samples_ms, [50, 95, 99]))
    return {"p50": p50, "p95": p95, "p99": p99, "max": round(max(samples_ms), 3), "n": len(samples_ms)}


class Listener:
    """Puts together what the nodes say about each chunk."""

    def __init__(self) -> None:
        self._latency, self._stages = ChunkLatency(), StageLatency()
        self._ages, self._out, self._total = Samples(), Samples(), Samples()
        self._reports: dict[int, PolicyReport] = {}
        self._received: dict[int, int] = {}
        """Verdicts that came before the report of their chunk: sequence -> when the chunk was received (stamp)."""
        self._costs: dict[str, Mapping[str, float]] = {}
        self._decided_ms: dict[int, float] = {}
        """Sequence -> what our code spent on that chunk in policy_node."""
        self._played_ms: dict[int, float] = {}
        """The same in robot_node."""

    def on_servo(self, report: ServoReport) -> None:
        """The first set-point of a chunk ends its way."""
        received_ns, sent_ns = convert.to_ns(report.chunk_received), convert.to_ns(report.header.stamp)
        if not report.moving:
            return
        wait_s = self._latency.see(
            source=report.source, sequence=report.sequence, received_ns=received_ns, sent_ns=sent_ns
        )
        decision = self._reports.pop(report.sequence, None) if report.source == "policy" else None
        if wait_s is not None and decision is not None:
            self._total.add((sent_ns - convert.to_ns(decision.header.stamp)) / 1e9)

    def on_verdict(self, verdict: ChunkVerdict) -> None:
        """A chunk has arrived."""
        self._ages.add(verdict.age)
        if verdict.source != "policy":
            return
        received_ns, decision = convert.to_ns(verdict.header.stamp), self._reports.get(verdict.sequence)
        if decision is None:
            self._received[verdict.sequence] = received_ns
        else:
            self._out.add((received_ns - convert.to_ns(decision.published)) / 1e9)

    def on_policy(self, report: PolicyReport) -> None:
        """A decision."""
        if report.problem:
            return
        self._reports = {n: r for n, r in self._reports.items() if n > report.sequence - 20} | {report.sequence: report}
        self._decided_ms[report.sequence] = 1e3 * self._stages.see(report)
        received_ns = self._received.pop(report.sequence, 0)
        if received_ns:
            self._out.add((received_ns - convert.to_ns(report.published)) / 1e9)

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """What robot_node says of its own times."""
        for status in message.status:
            for entry in status.values:
                if entry.key in ROBOT_COSTS:
                    self._costs[entry.key] = json.loads(entry.value)
                elif entry.key == CHUNK_COSTS:
                    self._played_ms.update({int(n): spent for n, spent in json.loads(entry.value).items()})

    def figures(self) -> dict[str, object]:
        """All of it; empty when nothing moved."""
        if not self._latency.figures():
            return {}
        found: dict[str, object] = {
            CHUNK_LATENCY: self._latency.figures(),
            "input_to_chunk_received_ms": self._ages.figures(),
            **self._costs,
        }
        if stages := self._stages.figures():
            found |= {
                POLICY_STAGES: stages,
                "chunk_published_to_received_ms": self._out.figures(),
                "picture_to_command_ms": self._total.figures(),
                OURS_MS: summary_ms(self._ours_ms()),
            }
        return found

    def _ours_ms(self) -> list[float]:
        """Of the chunks that both nodes told of, the sum of both."""
        return [self._decided_ms[n] + ms for n, ms in self._played_ms.items() if n in self._decided_ms]


def as_text(figures: Mapping[str, object]) -> str:
    """One line per figure."""
    flat: dict[str, Mapping[str, float]] = {}
    for name, value in figures.items():
        if name == POLICY_STAGES:
            flat |= {f"policy_node: {stage}": of for stage, of in value.items()}  # type: ignore[attr-defined]
        elif isinstance(value, Mapping):
            flat[name] = value
    lines = [f"{'[ms]':<40}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'n':>7}"]
    for name, of in flat.items():
        numbers = "".join(f"{of.get(key, float('nan')):>9.2f}" for key in ("p50", "p95", "p99", "max"))
        lines.append(f"{name:<40}{numbers}{of.get('n', 0):>7.0f}")
    return "\n".join(lines)


def main() -> int:
    """Listen for a while and print the figures; exit 1 when nothing moved."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_nodes.latency", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to listen (default 60)")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of a table")
    options = parser.parse_args()
    prepare_environment()
    rclpy.init()
    node, listener = rclpy.create_node("latency"), Listener()
    node.create_subscription(ServoReport, topics.SERVO_REPORT, listener.on_servo, qos.EVENT)
    node.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, listener.on_verdict, qos.EVENT)
    node.create_subscription(PolicyReport, topics.POLICY_REPORT, listener.on_policy, qos.EVENT)
    node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, listener.on_diagnostics, qos.EVENT)
    deadline = time.monotonic() + options.seconds
    while rclpy.ok() and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.try_shutdown()
    figures = listener.figures()
    if not figures:
        print(f"latency: nothing moved within {options.seconds:g} s", file=sys.stderr)
        return 1
    print(json.dumps(figures) if options.json else as_text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
