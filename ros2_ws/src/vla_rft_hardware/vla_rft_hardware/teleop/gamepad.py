"""A gamepad as an `InputSource`: the first event device with a south button and a stick."""

from __future__ import annotations

from vla_rft_hardware.teleop.evdev_source import (
    EV_ABS,
    EV_KEY,
    EvdevSource,
    EventDevice,
    find_device,
    names_of_axes,
    names_of_keys,
)

BTN_SOUTH, ABS_X = 0x130, 0x00


def open_gamepad() -> EvdevSource:
    """The gamepad that is plugged in; DeviceError says what to do when there is none."""
    device = find_device(_is_gamepad, "gamepad")
    return EvdevSource(device, keys=names_of_keys(device), axes=names_of_axes(device))


def _is_gamepad(device: EventDevice) -> bool:
    capabilities = device.capabilities()
    sticks = [code for code, _ in capabilities.get(EV_ABS, ())]
    return BTN_SOUTH in capabilities.get(EV_KEY, ()) and ABS_X in sticks
