"""How long a chunk waits in robot_node: received -> first set-point sent, from the stamps that robot_node recorded.

`python -m vla_rft_nodes.latency --seconds 60` listens to a running graph and prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import rclpy

from vla_rft_interfaces.msg import ChunkVerdict, ServoReport
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.ros import prepare_environment

CHUNK_LATENCY = "chunk_received_to_set_point_sent_ms"
"""Key of these figures (JSON) in robot_node's diagnostics."""


class ChunkLatency:
    """Collects one figure per chunk that played; the newest ten thousand."""

    def __init__(self) -> None:
        self._samples_ms: deque[float] = deque(maxlen=10_000)
        self._last: tuple[str, int] | None = None

    def see(self, *, source: str, sequence: int, received_ns: int, sent_ns: int) -> None:
        """A set-point was sent; the first one of every chunk counts. `received_ns` is 0 when it is not known."""
        if (source, sequence) == self._last or received_ns == 0:
            return
        self._last = (source, sequence)
        self._samples_ms.append((sent_ns - received_ns) / 1e6)

    def figures(self) -> dict[str, float]:
        """p50, p99 and max [ms] and the count; empty when no chunk played."""
        return summary_ms(tuple(self._samples_ms))


def summary_ms(samples_ms: Sequence[float]) -> dict[str, float]:
    """p50, p99, max [ms] and the count n; empty for no samples."""
    if not samples_ms:
        return {}
    p50, p99 = (round(float(value), 3) for value in np.percentile(samples_ms, [50, 99]))
    return {"p50": p50, "p99": p99, "max": round(max(samples_ms), 3), "n": len(samples_ms)}


def main() -> int:
    """Listen for a while and print the figures; exit 1 when nothing moved."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_nodes.latency", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to listen (default 60)")
    options = parser.parse_args()
    prepare_environment()
    rclpy.init()
    node = rclpy.create_node("latency")
    latency, ages_ms = ChunkLatency(), []

    def on_report(report: ServoReport) -> None:
        if report.moving:
            latency.see(
                source=report.source,
                sequence=report.sequence,
                received_ns=convert.to_ns(report.chunk_received),
                sent_ns=convert.to_ns(report.header.stamp),
            )

    node.create_subscription(ServoReport, topics.SERVO_REPORT, on_report, qos.EVENT)
    node.create_subscription(
        ChunkVerdict, topics.CHUNK_VERDICT, lambda verdict: ages_ms.append(verdict.age * 1e3), qos.EVENT
    )
    deadline = time.monotonic() + options.seconds
    while rclpy.ok() and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.try_shutdown()
    if not latency.figures():
        print(f"latency: nothing moved within {options.seconds:g} s", file=sys.stderr)
        return 1
    figures = {
        CHUNK_LATENCY: latency.figures(),
        "input_to_chunk_received_ms": summary_ms(ages_ms),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
