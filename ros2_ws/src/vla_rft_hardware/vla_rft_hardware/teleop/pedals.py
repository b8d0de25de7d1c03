"""Foot pedals as an `InputSource`: three keys of an event device, called pedal_left, pedal_middle and pedal_right.

Pedals are keyboards to the kernel: the device is grabbed, so that no foot types into a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_rft_core.config import did_you_mean
from vla_rft_core.errors import DeviceError
from vla_rft_hardware.teleop.evdev_source import EV_KEY, HINT, EvdevSource, EventDevice, find_device

LEFT, MIDDLE, RIGHT = "pedal_left", "pedal_middle", "pedal_right"
PEDALS = frozenset({LEFT, MIDDLE, RIGHT})


@dataclass(frozen=True, kw_only=True)
class PedalMap:
    """Which device the pedals are and what they send."""

    names: tuple[str, ...]
    """Parts of the kernel's name of the device, any case; see /proc/bus/input/devices."""
    left: str
    """Key code by the kernel's name, for example KEY_A."""
    middle: str
    right: str

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("names: at least one part of the device's name is needed, for example 'footswitch'")
        if len({self.left, self.middle, self.right}) < 3:
            raise ValueError(f"left, middle, right: must differ, got {self.left}, {self.middle}, {self.right}")


def open_pedals(pedals: PedalMap) -> EvdevSource:
    """The pedals that are plugged in, grabbed; DeviceError says what to do when there are none."""
    names = {name.lower() for name in pedals.names}

    def is_ours(device: EventDevice) -> bool:
        keys = device.capabilities().get(EV_KEY, ())
        return any(name in device.name.lower() for name in names) and set(codes_of(pedals)) <= set(keys)

    device = find_device(is_ours, f"pedals (a name with {' or '.join(pedals.names)})")
    try:
        device.grab()
    except OSError as error:
        raise DeviceError(f"{device.name} is in use by another program ({error}): {HINT}") from None
    return EvdevSource(device, keys={code: (name,) for code, name in codes_of(pedals).items()}, axes={})


def codes_of(pedals: PedalMap) -> dict[int, str]:
    """Code -> pedal; ValueError for a name that the kernel does not know."""
    from evdev import ecodes

    codes = {}
    for name, key in ((LEFT, pedals.left), (MIDDLE, pedals.middle), (RIGHT, pedals.right)):
        if key not in ecodes.ecodes:
            raise ValueError(f"{name}: unknown key {key!r}{did_you_mean(key, list(ecodes.ecodes))}")
        codes[int(ecodes.ecodes[key])] = name
    return codes
