"""Devices by factory string: what teleop_node names as `device` ("vla_rft_hardware.teleop.connect:spacemouse")."""

from __future__ import annotations

from vla_rft_core.clock import SystemClock
from vla_rft_hardware.teleop.device import MappedDevice
from vla_rft_hardware.teleop.evdev_source import EvdevSource
from vla_rft_hardware.teleop.gamepad import open_gamepad
from vla_rft_hardware.teleop.inputs import InputSource
from vla_rft_hardware.teleop.keyboard import Keyboard, KeyboardMap
from vla_rft_hardware.teleop.mapping import TeleopMapping, load_map
from vla_rft_hardware.teleop.pedals import PedalMap, open_pedals
from vla_rft_hardware.teleop.spacemouse import open_spacemouse


def spacemouse(*, map: str = "spacemouse", pedals: InputSource | None = None) -> MappedDevice:
    """A SpaceMouse, with or without pedals."""
    mapping = load_map(TeleopMapping, map)
    return MappedDevice(open_spacemouse(), mapping, clock=SystemClock(), pedals=pedals)


def gamepad(*, map: str = "gamepad", pedals: InputSource | None = None) -> MappedDevice:
    """A gamepad, with or without pedals."""
    mapping = load_map(TeleopMapping, map)
    return MappedDevice(open_gamepad(), mapping, clock=SystemClock(), pedals=pedals)


def pedals(*, map: str = "pedals") -> EvdevSource:
    """Foot pedals, to go with another device."""
    return open_pedals(load_map(PedalMap, map))


def pedals_alone(*, map: str = "pedals_alone", pedals: InputSource | None = None) -> MappedDevice:
    """Foot pedals as a device of their own: the dead-man takes the arm from a policy and holds it; keep and discard."""
    mapping = load_map(TeleopMapping, map)
    return MappedDevice(pedals or open_pedals(load_map(PedalMap, "pedals")), mapping, clock=SystemClock())


def keyboard(fd: int = 0, *, map: str = "keyboard") -> Keyboard:
    """The keyboard of the terminal behind a file descriptor."""
    return Keyboard(fd, load_map(KeyboardMap, map), clock=SystemClock())
