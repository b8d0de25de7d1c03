"""`python -m vla_rft_nodes.console_benchmark`: what a page costs the arm while simulated trials run, and what it gets.

Starts the demo's trials and a console; a client that reads state and pictures connects and leaves in turn, so that
whatever else the computer does weighs on both halves alike. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rclpy.node import Node
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.msg import ChunkVerdict, ServoReport
from vla_rft_nodes import convert, qos, topics
from vla_rft_nodes.bringup import Plan, Supervisor, load
from vla_rft_nodes.console.pictures import CAMERA, HEADER
from vla_rft_nodes.latency import CHUNK_LATENCY, summary_ms
from vla_rft_nodes.operate import spinning

MOVERS = ("policy", "teleop")
"""What trials move the arm as; the way home does not count."""
START_S = 60.0
AGE = "picture_to_chunk_received_ms"
SUM = "picture_to_set_point_sent_ms"


class Listener:
    """Latencies of the chunks of trials, by whether a client is connected."""

    def __init__(self, node: Node) -> None:
        self.connected = False
        self.samples: dict[bool, dict[str, list[float]]] = {half: defaultdict(list) for half in (False, True)}
        self._ages: dict[int, float] = {}
        self._last = (-1, "")
        node.create_subscription(ChunkVerdict, topics.CHUNK_VERDICT, self._on_verdict, qos.EVENT)
        node.create_subscription(ServoReport, topics.SERVO_REPORT, self._on_report, qos.EVENT)

    def _on_verdict(self, verdict: ChunkVerdict) -> None:
        if verdict.source in MOVERS and verdict.accepted:
            self._ages = {verdict.sequence: verdict.age * 1e3}
            self.samples[self.connected][AGE].append(verdict.age * 1e3)

    def _on_report(self, report: ServoReport) -> None:
        key, received_ns = (report.sequence, report.source), convert.to_ns(report.chunk_received)
        if key == self._last or not report.moving or report.source not in MOVERS or not received_ns:
            return
        self._last = key
        waited_ms = (convert.to_ns(report.header.stamp) - received_ns) / 1e6
        self.samples[self.connected][CHUNK_LATENCY].append(waited_ms)
        if report.sequence in self._ages:
            self.samples[self.connected][SUM].append(waited_ms + self._ages[report.sequence])


class Client:
    """A page without a screen: reads both sockets and acknowledges every picture."""

    def __init__(self, port: int) -> None:
        self.pictures = self.bytes = self.states = 0
        self.ages_ms: list[float] = []
        self.connected_s = 0.0
        self._port = port

    @contextmanager
    def connected(self) -> Iterator[None]:
        """For the time inside."""
        began = time.monotonic()
        address = f"ws://127.0.0.1:{self._port}/ws"
        with connect(f"{address}/state") as state, connect(f"{address}/video") as video:
            readers = [
                threading.Thread(target=read, args=(one,)) for read, one in ((self._state, state), (self._video, video))
            ]
            for reader in readers:
                reader.start()
            yield
        for reader in readers:
            reader.join(5.0)
        self.connected_s += time.monotonic() - began

    def _state(self, page: ClientConnection) -> None:
        page.send("{}")
        try:
            for _ in page:
                self.states += 1
        except ConnectionClosed:
            return

    def _video(self, page: ClientConnection) -> None:
        page.send("{}")
        try:
            for packet in page:
                assert isinstance(packet, bytes)
                view, _, age_s = HEADER.unpack(packet[: HEADER.size])
                page.send("1")
                self.bytes += len(packet)
                if view == CAMERA:
                    self.pictures += 1
                    self.ages_ms.append(age_s * 1e3)
        except ConnectionClosed:
            return


def measure(*, rounds: int, seconds: float, camera_fps: float = 15.0) -> dict[str, object]:
    """Alternate between a connected client and none; DeviceError when the trials end or never begin."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["VLA_RFT_KEEPER"] = str(folder / "keeper")
        port = _free_port()
        trials = _at_rate(load("demo", {"trials": "40", "run_dir": str(folder / "study")}), camera_fps)
        console = load(
            "console", {"console_port": str(port), "studies": str(folder), "episodes": str(folder / "episodes")}
        )
        running = [stack.enter_context(Supervisor(plan, log_dir=folder / "log")) for plan in (trials, console)]
        for supervisor in running:
            supervisor.start(*(process.name for process in supervisor.plan.processes))
        node = stack.enter_context(spinning("console_benchmark"))
        listener, client = Listener(node), Client(port)
        _wait_for(lambda: len(listener.samples[False][AGE]) > 20, "no trial moves the arm")
        listener.samples[False].clear()
        for _ in range(rounds):
            time.sleep(seconds)
            with client.connected():
                listener.connected = True
                time.sleep(seconds)
                listener.connected = False
            if "evaluator_node" not in running[0].running():
                raise DeviceError("the trials ended before the measurement")
        return _figures(listener, client)


def _figures(listener: Listener, client: Client) -> dict[str, object]:
    latencies = {
        name: {"without": summary_ms(listener.samples[False][name]), "with": summary_ms(listener.samples[True][name])}
        for name in (AGE, CHUNK_LATENCY, SUM)
    }
    rise = {
        name: round(half["with"]["p99"] - half["without"]["p99"], 1)
        for name, half in latencies.items()
        if all(half.values())
    }
    return {
        "video_fps": round(client.pictures / client.connected_s, 1),
        "video_kB_per_s": round(client.bytes / client.connected_s / 1e3),
        "states_per_s": round(client.states / client.connected_s, 1),
        "picture_age_when_sent_ms": summary_ms(client.ages_ms),
        "p99_rise_ms": rise,
        "latencies": latencies,
        "load_average": os.getloadavg()[0],
        "cpus": len(os.sched_getaffinity(0)),
    }


def _at_rate(plan: Plan, fps: float) -> Plan:
    """The plan with a simulated camera of so many pictures per second."""
    processes = (
        replace(process, argv=(*process.argv, "--fps", f"{fps:g}")) if process.name == "sim_world" else process
        for process in plan.processes
    )
    return replace(plan, processes=tuple(processes))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _wait_for(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > deadline:
            raise DeviceError(f"{otherwise} within {START_S:g} s")
        time.sleep(0.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 with one sentence when it could not be done."""
    parser = argparse.ArgumentParser(
        prog="python -m vla_rft_nodes.console_benchmark", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often the client connects (default 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half (default 10)")
    parser.add_argument("--camera-fps", type=float, default=15.0, help="of the simulated camera (default 15)")
    options = parser.parse_args(argv)
    try:
        print(json.dumps(measure(rounds=options.rounds, seconds=options.seconds, camera_fps=options.camera_fps)))
    except DeviceError as error:
        print(f"console_benchmark: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
