"""A 3Dconnexion SpaceMouse (Compact, Pro, Wireless and their kin) over HID, as an `InputSource`.

Raw axes, right-handed: x to the right, y towards the hand's owner, z down; rotations about them. `hid` is imported here
only, when a device is opened.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vla_rft_core.errors import DeviceError
from vla_rft_hardware.teleop.inputs import Inputs

AXES = ("x", "y", "z", "rx", "ry", "rz")
BUTTONS = 32
FULL_SCALE = 350.0
"""Counts at full deflection."""
TRANSLATION, ROTATION, KEYS = 1, 2, 3
"""Report ids; a translation report of 13 bytes carries the rotation, too."""
VENDOR = 0x256F
LOGITECH = 0x046D
LOGITECH_PRODUCTS = {
    0xC626: "SpaceNavigator",
    0xC627: "SpaceExplorer",
    0xC628: "SpaceNavigator for Notebooks",
    0xC629: "SpacePilot Pro",
    0xC62B: "SpaceMouse Pro",
}
"""Made before the vendor had an id of its own."""
MULTI_AXIS_USAGES = ((0x01, 0x08), (0x00, 0x00))
"""(page, usage) of the interface that moves; zeros where the library does not tell."""
MAX_REPORTS = 200
"""Read per poll at most: a device that floods must not block."""
HINT = (
    "plug in the SpaceMouse or its receiver and permit its use with a udev rule (docs/teleop.md): "
    'SUBSYSTEM=="usb", ATTRS{idVendor}=="256f", MODE="0660", GROUP="plugdev"'
)


class HidDevice(Protocol):
    """What is used of a `hid.device`."""

    def read(self, max_length: int) -> Sequence[int]:
        """The next report, empty when there is none; OSError when the device is gone."""

    def close(self) -> None:
        """Close it."""


class SpaceMouse:
    """An opened SpaceMouse. Axes "x" to "rz"; buttons "button_0", ... by their bit in the report."""

    def __init__(self, device: HidDevice, name: str) -> None:
        self._device, self._name = device, name
        self._axes = dict.fromkeys(AXES, 0.0)
        self._buttons = 0

    @property
    def name(self) -> str:
        """The product's name."""
        return self._name

    @property
    def offers(self) -> frozenset[str]:
        """Axes and buttons."""
        return frozenset(AXES) | {_button(bit) for bit in range(BUTTONS)}

    def poll(self) -> Inputs:
        """Take in every report that has come."""
        pressed: list[str] = []
        heard = False
        for _ in range(MAX_REPORTS):
            try:
                report = bytes(self._device.read(64))
            except OSError as error:
                raise DeviceError(f"{self._name} is gone ({error}): {HINT}") from None
            if not report:
                break
            heard = True
            pressed += self._take(report)
        return Inputs(dict(self._axes), _buttons(self._buttons), tuple(pressed), heard)

    def close(self) -> None:
        """Close the device."""
        self._device.close()

    def _take(self, report: bytes) -> list[str]:
        """Update from one report; the buttons that went down with it."""
        self._axes |= axes_of(report)
        if report[0] != KEYS or len(report) < 2:
            return []
        before, self._buttons = self._buttons, int.from_bytes(report[1:5], "little")
        return sorted(_buttons(self._buttons & ~before))


def axes_of(report: bytes) -> dict[str, float]:
    """The axes, -1 to 1, in one report; none for a report of another kind (buttons, battery) or length."""
    names = {(TRANSLATION, 7): AXES[:3], (ROTATION, 7): AXES[3:], (TRANSLATION, 13): AXES}.get((report[0], len(report)))
    if names is None:
        return {}
    counts = struct.unpack(f"<{len(names)}h", report[1:])
    return {name: max(-1.0, min(1.0, count / FULL_SCALE)) for name, count in zip(names, counts, strict=True)}


def open_spacemouse() -> SpaceMouse:
    """The SpaceMouse that is plugged in; DeviceError says what to do when there is none or it may not be opened."""
    try:
        import hid
    except ImportError as error:
        raise DeviceError(f"the SpaceMouse needs the package hidapi ({error}): install the extra 'robot'") from None
    found = [entry for entry in hid.enumerate() if _is_spacemouse(entry)]
    if not found:
        raise DeviceError(f"found no SpaceMouse: {HINT}")
    name = str(found[0].get("product_string") or _product(found[0]))
    device = hid.device()
    try:
        device.open_path(found[0]["path"])
        device.set_nonblocking(True)
    except OSError as error:
        raise DeviceError(f"{name} cannot be opened ({error}): {HINT}") from None
    return SpaceMouse(device, name)


def _is_spacemouse(entry: Mapping[str, Any]) -> bool:
    moves = (entry.get("usage_page", 0), entry.get("usage", 0)) in MULTI_AXIS_USAGES
    ours = entry["vendor_id"] == VENDOR or (entry["vendor_id"] == LOGITECH and entry["product_id"] in LOGITECH_PRODUCTS)
    return ours and moves


def _product(entry: Mapping[str, Any]) -> str:
    return LOGITECH_PRODUCTS.get(entry["product_id"], f"SpaceMouse {entry['product_id']:04x}")


def _button(bit: int) -> str:
    return f"button_{bit}"


def _buttons(bits: int) -> frozenset[str]:
    return frozenset(_button(bit) for bit in range(BUTTONS) if bits >> bit & 1)
