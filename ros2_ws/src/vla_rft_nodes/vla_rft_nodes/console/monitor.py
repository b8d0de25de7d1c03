"""Monitor: what the graph says of itself: safety status, diagnostics, verdicts. The newest of each, and when it came.

Subscribes to what is small and slow only; what comes a hundred times a second is not asked for.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node

from vla_rft_interfaces.msg import ChunkVerdict, SafetyStatus
from vla_rft_nodes import qos, topics
from vla_rft_nodes.console.snapshot import ArmView, NodeView, Vital
from vla_rft_nodes.console.words import arm_words
from vla_rft_nodes.latency import CHUNK_LATENCY, summary_ms

SILENT_S = 3.0
"""Diagnostics come once a second; a node silent for longer is gone [s]."""
FORGOTTEN_S = 120.0
"""A node that is gone is shown for so long [s]."""
AGES = 300
"""Newest chunks whose age is summed up."""
LATENCY_LIMIT_MS = 30.0
DEGREES = " degC"
HOT_C = 80.0
THERMAL = Path("/sys/class/thermal")


@dataclass(frozen=True)
class Heard:
    """A node's last word about itself."""

    ok: bool
    words: str
    values: Mapping[str, str]
    at: float
    """Monotonic [s]."""


class Monitor:
    """Written by the thread that spins the node, read by any: every field is replaced whole."""

    def __init__(self, node: Node, *, on_change: Callable[[], None]) -> None:
        """`on_change` is called when the mode, the lease or a hold has changed."""
        self._on_change = on_change
        self._own = node.get_name()
        self._status: tuple[SafetyStatus, float] | None = None
        self._nodes: dict[str, Heard] = {}
        self._ages_ms: deque[float] = deque(maxlen=AGES)
        self._ticks: deque[tuple[float, int]] = deque(maxlen=5)
        node.create_subscription(SafetyStatus, topics.SAFETY_STATUS, self._on_status, qos.LATCHED)
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, qos.EVENT)
        node.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, self._on_verdict, qos.EVENT)

    @property
    def latched(self) -> bool:
        """A hold is latched, by the newest status."""
        return self._status is not None and bool(self._status[0].latched)

    @property
    def mode(self) -> str:
        """The newest mode; "" before the first status."""
        return self._status[0].mode if self._status is not None else ""

    def alive(self, name: str) -> bool:
        """A node has reported within the last seconds."""
        heard = self._nodes.get(name)
        return heard is not None and time.monotonic() - heard.at < SILENT_S

    def arm(self, *, mover: str = "") -> ArmView:
        """Mode and lease, in words; `mover`: who moves the arm, where that is known better than from the lease."""
        status, at = self._status or (SafetyStatus(), -math.inf)
        age_s = time.monotonic() - at
        words = arm_words(mode=status.mode, source=status.source, reason=status.reason, age_s=age_s, mover=mover)
        return ArmView(mode=status.mode, source=status.source, words=words)

    def nodes(self) -> tuple[NodeView, ...]:
        """Every node heard of lately, by name."""
        now, views = time.monotonic(), []
        for name, heard in sorted(self._nodes.items()):
            silent_s = now - heard.at
            if silent_s > FORGOTTEN_S:
                continue
            gone = silent_s > SILENT_S
            words = f"silent for {silent_s:.0f} s" if gone else heard.words
            views.append(NodeView(name=name, ok=heard.ok and not gone, words=words))
        return tuple(views)

    def vitals(self) -> tuple[Vital, ...]:
        """Latencies, the servo's rate, temperatures."""
        return (self._chunk_latency(), self._chunk_age(), self._servo(), *self._temperatures())

    def _values(self, name: str) -> Mapping[str, str]:
        heard = self._nodes.get(name)
        return heard.values if heard is not None and self.alive(name) else {}

    def _chunk_latency(self) -> Vital:
        figures = json.loads(self._values("robot_node").get(CHUNK_LATENCY, "{}"))
        p99 = figures.get("p99")
        return Vital(
            name="chunk to arm",
            value="" if p99 is None else f"{p99:.0f}",
            unit="ms p99",
            words="" if p99 is None else f"median {figures['p50']:.0f}, worst {figures['max']:.0f}",
            ok=p99 is None or p99 <= LATENCY_LIMIT_MS,
        )

    def _chunk_age(self) -> Vital:
        figures = summary_ms(tuple(self._ages_ms))
        value = f"{figures['p99']:.0f}" if figures else ""
        words = f"median {figures['p50']:.0f}; picture to chunk" if figures else ""
        return Vital(name="picture to chunk", value=value, unit="ms p99", words=words.partition(";")[0], ok=True)

    def _servo(self) -> Vital:
        ticks, values = tuple(self._ticks), self._values("robot_node")
        if len(ticks) < 2 or not values or ticks[-1][0] == ticks[0][0]:
            return Vital(name="servo", value="", unit="Hz", words="", ok=True)
        rate = (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])
        return Vital(
            name="servo",
            value=f"{max(rate, 0.0):.0f}",
            unit="Hz",
            words=f"{values.get('servo_overruns', '?')} late so far",
            ok=rate > 0.0,
        )

    def _temperatures(self) -> tuple[Vital, ...]:
        robot = [float(v.removesuffix(DEGREES)) for v in self._values("robot_node").values() if v.endswith(DEGREES)]
        found = [("hottest joint", max(robot, default=None)), ("computer", host_temperature())]
        return tuple(
            Vital(
                name=name,
                value="" if degrees is None else f"{degrees:.0f}",
                unit="°C",
                words="not measured here" if degrees is None else "",
                ok=degrees is None or degrees < HOT_C,
            )
            for name, degrees in found
        )

    def _on_status(self, message: SafetyStatus) -> None:
        before, self._status = self._status, (message, time.monotonic())
        last = before[0] if before else None
        if last is None or (last.mode, last.source, last.reason) != (message.mode, message.source, message.reason):
            self._on_change()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        for status in message.status:
            if status.name == self._own:
                continue
            values = {value.key: value.value for value in status.values}
            ok = status.level < DiagnosticStatus.ERROR
            self._nodes[status.name] = Heard(ok, status.message, values, now)
            if status.name == "robot_node" and values.get("servo_ticks", "").isdigit():
                self._ticks.append((now, int(values["servo_ticks"])))

    def _on_verdict(self, message: ChunkVerdict) -> None:
        self._ages_ms.append(message.age * 1e3)


def host_temperature(folder: Path = THERMAL) -> float | None:
    """The hottest zone of this computer [°C]; None where it tells of none."""
    found = []
    for path in folder.glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1000.0)
        except (OSError, ValueError):
            continue
    return max(found, default=None)
