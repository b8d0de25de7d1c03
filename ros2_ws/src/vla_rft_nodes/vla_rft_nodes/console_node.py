"""console_node: the operator's page (docs/console.md). Nothing depends on it: it may end and start again at any time.

A shell: it makes the parts of `console`, hands them what arrives, and runs the web server in a thread.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from vla_rft_core.cell import find_cell
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.console.access import Token
from vla_rft_nodes.console.desk import Desk
from vla_rft_nodes.console.doctor_card import DoctorCard, command
from vla_rft_nodes.console.lease import OperatorLease
from vla_rft_nodes.console.monitor import Monitor
from vla_rft_nodes.console.pictures import Pictures
from vla_rft_nodes.console.recording import Recording
from vla_rft_nodes.console.server import Bell, Console
from vla_rft_nodes.console.snapshot import Snapshot
from vla_rft_nodes.console.trials import PHASES, Trials
from vla_rft_nodes.params import read_parameters
from vla_rft_nodes.ros import ShellNode, run

NICENESS = 5
"""Whatever moves the arm goes first."""
REFRESH_S = 0.5
STOP_S = 3.0
TOKEN_FILE = "~/.local/state/vla_rft/console_token"
BACKENDS = ("sim", "flexiv")


@dataclass(frozen=True, kw_only=True)
class ConsoleConfig:
    """Parameters of console_node."""

    cell: str
    """Cell folder: a path, or "package:folder"."""
    camera: str
    """The camera that the page shows."""
    backend: str = "sim"
    """sim: the simulator lays the towel out and says how an attempt went; flexiv: a person does."""
    host: str = "127.0.0.1"
    """IP address to listen on; 0.0.0.0 = every one of this computer."""
    port: int = 8080
    token_file: str = ""
    """Holds what pages from elsewhere must show; empty: ~/.local/state/vla_rft/console_token."""
    episodes: str = "runs/episodes"
    """Folder of the collection, as recorder_node was given it."""
    studies: str = "runs"
    """Folder in which locked studies lie, directly or one level below."""
    hand_over: bool = False
    """An attempt begins by giving teleoperation the lease (the scripted expert has no dead-man to press)."""
    task: str = ""
    """Suggested for a new session."""
    prompt: str = ""
    """The same."""
    count: int = 50
    """The same: kept attempts to collect."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend: one of {', '.join(BACKENDS)}, got {self.backend!r}")
        if not 0 < self.port < 65536:
            raise ValueError(f"port: between 1 and 65535, got {self.port}")
        try:
            ip_address(self.host)
        except ValueError:
            raise ValueError(f"host: an IP address like 127.0.0.1 or 0.0.0.0, got {self.host!r}") from None

    @property
    def local(self) -> bool:
        """Only this computer can connect."""
        return ip_address(self.host).is_loopback


class ConsoleNode(ShellNode):
    """Spins for the parts; the server has a thread of its own."""

    def __init__(self) -> None:
        super().__init__("console_node", heartbeat=False)
        config = self._config = read_parameters(self, ConsoleConfig)
        folder = find_cell(config.cell)
        simulated = config.backend == "sim"
        token = None if config.local else Token.from_file(_token_file(config.token_file))
        listening = _listen(config.host, config.port)
        self._changed, self._pictured = changed, pictured = Bell(), Bell()
        cell = CellClient(self, folder.spec, pictures=False)
        self._monitor = monitor = Monitor(self, on_change=changed.ring)
        fps = float(folder.spec.camera(config.camera).fps)
        self._pictures = Pictures(self, config.camera, fps=fps, on_picture=pictured.ring)
        self._recording = Recording(
            self,
            cell,
            folder,
            episodes=Path(config.episodes),
            simulated=simulated,
            start_device=config.hand_over,
            available=lambda: monitor.alive("recorder_node"),
            on_change=changed.ring,
        )
        self._trials = Trials(
            self,
            folder=Path(config.studies),
            available=lambda: monitor.alive("evaluator_node"),
            on_change=changed.ring,
        )
        words = command(backend=config.backend, cell=config.cell, disk=_existing(Path(config.episodes)))
        self._doctor = DoctorCard(words, on_change=changed.ring)
        self._lease = OperatorLease(time.monotonic)
        desk = Desk(self, cell, monitor, recording=self._recording, trials=self._trials, doctor=self._doctor)
        console = Console(
            desk,
            self._pictures,
            self._lease,
            snapshot=self._snapshot,
            token=token,
            changed=changed,
            pictured=pictured,
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                console.app,
                log_level="warning",
                access_log=False,
                proxy_headers=False,  # who is at the workstation is decided by the socket's address
                ws="websockets-sansio",
                ws_max_size=65536,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.start_worker(lambda: self._server.run(sockets=[listening]), "server")
        self.start_worker(self._read_disk, "disk")
        shown = "localhost" if config.local else config.host
        self.get_logger().info(f"the operator's page: http://{shown}:{config.port}")

    def diagnose(self) -> tuple[str, Mapping[str, object]]:
        """Who looks and who operates."""
        return "", {"viewers": self._lease.viewers, "operator": self._lease.holder}

    def shut_down(self) -> None:
        """The server first: pages learn at once that nobody is here."""
        self._server.should_exit = True
        super().shut_down()

    def _snapshot(self) -> Snapshot:
        config, lease, trials = self._config, self._lease, self._trials.view()
        return Snapshot(
            cell=config.cell,
            simulated=config.backend == "sim",
            arm=self._monitor.arm(mover=f"policy {trials.code}" if trials.phase == PHASES.RUNNING else ""),
            nodes=self._monitor.nodes(),
            vitals=(self._pictures.vital(), *self._monitor.vitals()),
            doctor=self._doctor.view(),
            recording=self._recording.view(),
            trials=trials,
            suggested={"task": config.task, "prompt": config.prompt, "count": config.count},
            holder=lease.holder,
            holder_at_cell=lease.at_cell,
            holder_absent_s=lease.absent_s,
            viewers=lease.viewers,
        )

    def _read_disk(self) -> None:
        while not self.stopping:
            if self._lease.viewers:
                self._trials.refresh()
            time.sleep(REFRESH_S)


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket; ValueError when the address cannot be had."""
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on {host} port {port}: {error.strerror}; choose another port") from None


def _token_file(named: str) -> Path:
    path = Path(named or TOKEN_FILE).expanduser()
    if not named:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists: the doctor looks at its disk."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def main() -> None:
    """Entry point of the executable."""
    os.nice(NICENESS)
    run(ConsoleNode)


if __name__ == "__main__":
    main()
