"""What the doctor reads about this computer: Python, packages, network interfaces, disk, shared memory, GPU.

Only reads, with the standard library alone, so that a test can put another computer in its place.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Protocol

_SIOCGIFADDR = 0x8915
_GPU_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class NetworkInterface:
    """One network interface: `NetworkInterface(name="eno1", up=True, mtu=1500, address="192.168.2.10")`."""

    name: str
    up: bool
    mtu: int
    """[bytes]"""
    address: str
    """IPv4, or empty."""


class Host(Protocol):
    """The computer the robot hangs on."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables."""

    def python(self) -> tuple[int, int, int]:
        """Version of this Python."""

    def package_version(self, name: str) -> str | None:
        """Version of an installed distribution from its metadata, or None."""

    def interfaces(self) -> list[NetworkInterface]:
        """The network interfaces but loopback."""

    def space(self, path: Path) -> tuple[int, int]:
        """(total, free) bytes of the file system of `path`; OSError when it is not there."""

    def gpus(self) -> list[str] | None:
        """One line per NVIDIA GPU, "name, driver version"; None when there is no driver to ask."""


class ThisHost:
    """The computer this process runs on."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The process's own."""
        return os.environ

    def python(self) -> tuple[int, int, int]:
        """Version of this Python."""
        return sys.version_info[:3]

    def package_version(self, name: str) -> str | None:
        """From the metadata: `__version__` of flexivrdk is not reliable."""
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    def interfaces(self) -> list[NetworkInterface]:
        """As in /sys/class/net."""
        found = []
        for folder in sorted(Path("/sys/class/net").glob("*")):
            if folder.name == "lo" or not (folder / "mtu").is_file():
                continue
            found.append(
                NetworkInterface(
                    name=folder.name,
                    up=(folder / "operstate").read_text().strip() in ("up", "unknown"),
                    mtu=int((folder / "mtu").read_text()),
                    address=_ipv4(folder.name),
                )
            )
        return found

    def space(self, path: Path) -> tuple[int, int]:
        """As the file system says."""
        usage = shutil.disk_usage(path)
        return usage.total, usage.free

    def gpus(self) -> list[str] | None:
        """As nvidia-smi says."""
        try:
            asked = subprocess.run(
                ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=_GPU_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return [line.strip() for line in asked.stdout.splitlines() if line.strip()]


def _ipv4(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])
