"""An event device of the Linux kernel as an `InputSource`: gamepads and pedals. `evdev` is imported here only, lazily.

Axes and buttons bear the kernel's names (ABS_X, BTN_SOUTH, KEY_A; every alias of a button counts). A hat is four
buttons: DPAD_LEFT, DPAD_RIGHT, DPAD_UP, DPAD_DOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from vla_rft_core.errors import DeviceError
from vla_rft_hardware.teleop.inputs import Inputs

EV_SYN, EV_KEY, EV_ABS = 0, 1, 3
SYN_REPORT, SYN_DROPPED = 0, 3
ABS_HAT0X, ABS_HAT0Y = 0x10, 0x11
DPAD = {ABS_HAT0X: ("DPAD_LEFT", "DPAD_RIGHT"), ABS_HAT0Y: ("DPAD_UP", "DPAD_DOWN")}
DOWN = 1
"""Value of a key event that is a press; 0 is the release, 2 a repetition."""
MAX_EVENTS = 2000
HINT = (
    "plug it in, and permit its use: `sudo usermod -aG input $USER` and a new login, or a udev rule (docs/teleop.md): "
    'SUBSYSTEM=="input", MODE="0660", GROUP="input"'
)


class EventDevice(Protocol):
    """What is used of an opened `evdev.InputDevice`."""

    name: str

    def capabilities(self) -> Any:
        """Event type -> codes; of axes, pairs of code and range."""

    def grab(self) -> None:
        """Let no other program see its events."""

    def read_one(self) -> Any:
        """The next event (type, code, value), or None; OSError when the device is gone."""

    def active_keys(self) -> list[int]:
        """Codes of the keys that are down."""

    def absinfo(self, axis_num: int) -> Any:
        """value, min and max of an axis."""

    def close(self) -> None:
        """Close it."""


class EvdevSource:
    """An opened event device."""

    def __init__(self, device: EventDevice, *, keys: Mapping[int, tuple[str, ...]], axes: Mapping[int, str]) -> None:
        """`keys` and `axes`: what to call the codes; others are ignored. Hats are axes by their code here."""
        self._device, self._key_names, self._axis_names = device, keys, axes
        self._ranges: dict[int, tuple[int, int]] = {}
        self._axes: dict[str, float] = {}
        self._down: set[str] = set()
        self._pressed: list[str] = []
        self._dropped = False
        self._guarded(self._look)

    @property
    def name(self) -> str:
        """As the kernel calls the device."""
        return self._device.name

    @property
    def offers(self) -> frozenset[str]:
        """Axes and buttons, aliases included."""
        hats = {name for code in self._axis_names if code in DPAD for name in DPAD[code]}
        return frozenset(self._axes) | hats | {name for names in self._key_names.values() for name in names}

    def poll(self) -> Inputs:
        """Take in every event that has come."""
        heard = False
        for _ in range(MAX_EVENTS):
            event = self._guarded(self._device.read_one)
            if event is None:
                break
            heard = True
            self._take(event.type, event.code, event.value)
        pressed, self._pressed = tuple(self._pressed), []
        return Inputs(dict(self._axes), frozenset(self._down), pressed, heard)

    def close(self) -> None:
        """Close the device."""
        self._device.close()

    def _take(self, kind: int, code: int, value: int) -> None:
        if kind == EV_SYN and code == SYN_DROPPED:
            self._dropped = True
        elif kind == EV_SYN and code == SYN_REPORT and self._dropped:
            self._dropped = False
            self._guarded(self._look)
        elif self._dropped:
            return  # the kernel lost events: what follows until the next report is not to be trusted
        elif kind == EV_KEY and code in self._key_names:
            self._set_key(code, value)
        elif kind == EV_ABS and code in self._axis_names:
            self._set_axis(code, value)

    def _set_key(self, code: int, value: int) -> None:
        names = self._key_names[code]
        if value == DOWN:
            self._pressed += names
        if value:
            self._down.update(names)
        else:
            self._down.difference_update(names)

    def _set_axis(self, code: int, value: int) -> None:
        if code in DPAD:
            wanted = {DPAD[code][value > 0]} if value else set()
            self._pressed += sorted(wanted - self._down)
            self._down = (self._down - set(DPAD[code])) | wanted
        else:
            low, high = self._ranges[code]
            self._axes[self._axis_names[code]] = max(-1.0, min(1.0, 2.0 * (value - low) / (high - low) - 1.0))

    def _look(self) -> None:
        """The device's present state, asked for; nothing counts as pressed by it."""
        pressed = list(self._pressed)
        self._down = {name for code in self._device.active_keys() for name in self._key_names.get(code, ())}
        for code in self._axis_names:
            info = self._device.absinfo(code)
            self._ranges[code] = (info.min, info.max)
            self._set_axis(code, info.value)
        self._pressed = pressed

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise DeviceError(f"{self.name} is gone ({error}): {HINT}") from None


def find_device(wanted: Callable[[EventDevice], bool], what: str) -> EventDevice:
    """The first event device that is wanted; DeviceError says what to do when there is none."""
    try:
        import evdev
    except ImportError as error:
        raise DeviceError(f"the {what} needs the package evdev ({error}): install the extra 'robot'") from None
    for path in sorted(evdev.list_devices()):
        try:
            device: EventDevice = evdev.InputDevice(path)
        except OSError:
            continue  # unplugged at this moment
        if wanted(device):
            return device
        device.close()
    hidden = sum(1 for path in Path("/dev/input").glob("event*") if str(path) not in evdev.list_devices())
    closed = f" ({hidden} event devices may not be opened)" if hidden else ""
    raise DeviceError(f"found no {what}{closed}: {HINT}")


def names_of_keys(device: EventDevice) -> dict[int, tuple[str, ...]]:
    """Code -> all its names, for every key and button of a device."""
    from evdev import ecodes

    names = {}
    for code in device.capabilities().get(EV_KEY, ()):
        known = ecodes.bytype[EV_KEY].get(code, f"KEY_{code}")
        names[code] = (known,) if isinstance(known, str) else tuple(known)
    return names


def names_of_axes(device: EventDevice) -> dict[int, str]:
    """Code -> name, for every axis of a device."""
    from evdev import ecodes

    names = {}
    for code, info in device.capabilities().get(EV_ABS, ()):
        known = ecodes.bytype[EV_ABS].get(code, f"ABS_{code}")
        if info.max > info.min:
            names[code] = known if isinstance(known, str) else str(known[0])
    return names
