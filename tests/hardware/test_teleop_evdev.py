"""Gamepad and pedals from recorded event sequences, and end to end through uinput where the computer has it."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from evdev import AbsInfo, UInput, ecodes

from vla_rft_core.clock import ManualClock
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_hardware.teleop import connect, pedals
from vla_rft_hardware.teleop.device import MappedDevice
from vla_rft_hardware.teleop.evdev_source import EvdevSource, names_of_axes, names_of_keys
from vla_rft_hardware.teleop.gamepad import open_gamepad
from vla_rft_hardware.teleop.mapping import TeleopMapping, load_map
from vla_rft_hardware.teleop.pedals import PedalMap, open_pedals

E = ecodes
SYN = (E.EV_SYN, E.SYN_REPORT, 0)
DROPPED = (E.EV_SYN, E.SYN_DROPPED, 0)
STICK, TRIGGER, HAT = (-32768, 32767), (0, 1023), (-1, 1)
PAD_AXES = {
    E.ABS_X: STICK,
    E.ABS_Y: STICK,
    E.ABS_Z: TRIGGER,
    E.ABS_RX: STICK,
    E.ABS_RY: STICK,
    E.ABS_RZ: TRIGGER,
    E.ABS_HAT0X: HAT,
    E.ABS_HAT0Y: HAT,
}
PAD_KEYS = [E.BTN_SOUTH, E.BTN_EAST, E.BTN_NORTH, E.BTN_WEST, E.BTN_TL, E.BTN_TR, E.BTN_SELECT, E.BTN_START]


class Events:
    """An `evdev.InputDevice` that plays recorded events (type, code, value)."""

    def __init__(self, name: str, keys: list[int], axes: dict[int, tuple[int, int]]) -> None:
        self.name, self.keys, self.axes = name, keys, axes
        self.values = {code: round(0.5 * sum(span)) if span != TRIGGER else 0 for code, span in axes.items()}
        self.down: list[int] = []
        self.waiting: deque[tuple[int, int, int]] = deque()
        self.gone = self.grabbed = self.closed = False

    def send(self, *events: tuple[int, int, int]) -> None:
        self.waiting += [*events, SYN]

    def read_one(self) -> SimpleNamespace | None:
        if self.gone:
            raise OSError(errno.ENODEV, "No such device")
        if not self.waiting:
            return None
        kind, code, value = self.waiting.popleft()
        return SimpleNamespace(type=kind, code=code, value=value)

    def active_keys(self) -> list[int]:
        return self.down

    def absinfo(self, code: int) -> AbsInfo:
        low, high = self.axes[code]
        return AbsInfo(self.values[code], low, high, 0, 0, 0)

    def capabilities(self) -> dict[int, list]:
        axes = [(code, self.absinfo(code)) for code in self.axes]
        return {E.EV_KEY: self.keys, E.EV_ABS: axes}

    def grab(self) -> None:
        if self.grabbed:
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.grabbed = True

    def close(self) -> None:
        self.closed = True


def robot_state() -> RobotState:
    pose = Pose((0.5, 0.0, 0.3), (0.0, 1.0, 0.0, 0.0))
    arm = ArmState(1, np.zeros(7), np.zeros(7), np.zeros(7), pose, np.zeros(6), np.zeros(6))
    return RobotState(arm, GripperState(1, 0.08, 0.0, False), SetPoint(pose, 0.08))


STATE = robot_state()


def gamepad_events() -> Events:
    return Events("Xbox Wireless Controller", PAD_KEYS, PAD_AXES)


def pedal_events() -> Events:
    return Events("PCsensor FootSwitch Keyboard", [E.KEY_A, E.KEY_B, E.KEY_C, E.KEY_D], {})


def source_of(events: Events) -> EvdevSource:
    return EvdevSource(events, keys=names_of_keys(events), axes=names_of_axes(events))


class Pad:
    """A gamepad, with or without pedals, under the shipped map."""

    def __init__(self, *, with_pedals: bool = False) -> None:
        self.pad, self.feet, self.clock = gamepad_events(), pedal_events(), ManualClock()
        keys = {code: (name,) for code, name in pedals.codes_of(load_map(PedalMap, "pedals")).items()}
        feet = EvdevSource(self.feet, keys=keys, axes={}) if with_pedals else None
        mapping = load_map(TeleopMapping, "gamepad")
        self.device = MappedDevice(source_of(self.pad), mapping, clock=self.clock, pedals=feet)

    def read(self):
        self.clock.advance(100_000_000)
        return self.device.read(STATE)


def test_stick_and_shoulder_move_the_arm() -> None:
    pad = Pad()
    pad.pad.send((E.EV_KEY, E.BTN_TR, 1))
    pad.pad.send((E.EV_ABS, E.ABS_Y, -32768), (E.EV_ABS, E.ABS_X, 120))
    command = pad.read()
    assert command.enabled
    assert command.translation == pytest.approx([0.015, 0.0, 0.0])
    assert not command.rotvec.any()
    pad.pad.send((E.EV_ABS, E.ABS_Y, 0), (E.EV_ABS, E.ABS_RX, 32767))
    assert pad.read().rotvec == pytest.approx([0.0, 0.0, -0.06])
    pad.pad.send((E.EV_KEY, E.BTN_TR, 0))
    assert not pad.read().enabled


def test_any_alias_of_a_button_counts_and_toggles_once() -> None:
    assert {"BTN_A", "BTN_SOUTH"} <= source_of(gamepad_events()).offers
    pad = Pad()
    pad.pad.send((E.EV_KEY, E.BTN_TR, 1))
    pad.pad.send((E.EV_KEY, E.BTN_SOUTH, 1))
    assert pad.read().width == 0.0
    assert pad.read().width == 0.0  # held: no second edge
    pad.pad.send((E.EV_KEY, E.BTN_SOUTH, 0))
    pad.pad.send((E.EV_KEY, E.BTN_SOUTH, 1))
    assert pad.read().width == 0.08


def test_the_hat_and_select_are_recorder_keys_and_never_move_the_arm() -> None:
    pad = Pad()
    for code, value in ((E.ABS_HAT0X, 1), (E.ABS_HAT0X, 0), (E.ABS_HAT0X, -1), (E.ABS_HAT0X, 0), (E.ABS_HAT0Y, 1)):
        pad.pad.send((E.EV_ABS, code, value))
    pad.pad.send((E.EV_KEY, E.BTN_SELECT, 1))
    command = pad.read()
    assert pad.device.recorder_keys() == ["keep", "discard", "undo", "stop"]
    assert pad.device.recorder_keys() == []
    assert not command.enabled
    assert not command.translation.any()


def test_what_the_kernel_dropped_is_asked_for_anew() -> None:
    """A release that was lost in an overflow must not leave the dead-man down."""
    pad = Pad()
    pad.pad.send((E.EV_KEY, E.BTN_TR, 1))
    assert pad.read().enabled
    pad.pad.send((E.EV_ABS, E.ABS_HAT0X, 1), (E.EV_ABS, E.ABS_HAT0X, 0))
    pad.pad.down, pad.pad.values[E.ABS_Y] = [], -32768
    pad.pad.waiting += [DROPPED, (E.EV_KEY, E.BTN_SOUTH, 1)]
    pad.pad.send((E.EV_KEY, E.BTN_WEST, 1))
    command = pad.read()
    assert not command.enabled
    assert command.translation[0] == pytest.approx(0.015)  # where the stick is
    assert command.width == 0.08
    assert pad.device.recorder_keys() == ["keep"]  # what came before the loss counts


def test_a_stick_that_is_silent_for_long_under_the_dead_man_is_lost() -> None:
    pad = Pad()
    pad.pad.send((E.EV_KEY, E.BTN_TR, 1), (E.EV_ABS, E.ABS_X, -32768))
    assert all(pad.read().enabled for _ in range(31))
    assert not pad.read().enabled


def test_pedals_join_the_gamepad() -> None:
    pad = Pad(with_pedals=True)
    pad.pad.send((E.EV_ABS, E.ABS_X, -32768))
    assert not pad.read().enabled
    pad.feet.send((E.EV_KEY, E.KEY_B, 1))
    command = pad.read()
    assert command.enabled
    assert command.translation == pytest.approx([0.0, 0.015, 0.0])
    pad.feet.send((E.EV_KEY, E.KEY_B, 2), (E.EV_KEY, E.KEY_A, 1))
    pad.feet.send((E.EV_KEY, E.KEY_A, 0), (E.EV_KEY, E.KEY_C, 1), (E.EV_KEY, E.KEY_D, 1))
    assert pad.read().enabled
    assert pad.device.recorder_keys() == ["discard", "keep"]
    pad.feet.send((E.EV_KEY, E.KEY_B, 0))
    assert not pad.read().enabled


def test_pedals_alone_take_the_arm_and_hold_it() -> None:
    feet = pedal_events()
    keys = {code: (name,) for code, name in pedals.codes_of(load_map(PedalMap, "pedals")).items()}
    device = connect.pedals_alone(pedals=EvdevSource(feet, keys=keys, axes={}))
    feet.send((E.EV_KEY, E.KEY_B, 1))
    command = device.read(STATE)
    assert command.enabled
    assert not command.translation.any()
    assert command.width == STATE.reference.width
    device.close()
    assert feet.closed


@pytest.mark.parametrize("which", ["pad", "feet"])
def test_unplugging_either_is_seen(which: str) -> None:
    pad = Pad(with_pedals=True)
    pad.feet.send((E.EV_KEY, E.KEY_B, 1))
    assert pad.read().enabled
    getattr(pad, which).gone = True
    with pytest.raises(DeviceError, match=r"(Xbox|PCsensor).* is gone .*No such device.*plug it in"):
        pad.read()


# --- finding ---------------------------------------------------------------------------------------------------


@pytest.fixture
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, Events]:
    """What `evdev` finds: change the dictionary."""
    found: dict[str, Events] = {}
    monkeypatch.setattr("evdev.list_devices", lambda: list(found))
    monkeypatch.setattr("evdev.InputDevice", lambda path: found[path])
    return found


def test_devices_are_told_apart(plugged_in: dict[str, Events]) -> None:
    mouse = Events("Mouse", [E.BTN_LEFT], {})
    desk = Events("Keyboard", [E.KEY_A, E.KEY_B, E.KEY_C], {})
    plugged_in.update(a=mouse, b=desk, c=pedal_events(), d=gamepad_events())
    assert open_gamepad().name == "Xbox Wireless Controller"
    assert open_pedals(load_map(PedalMap, "pedals")).name == "PCsensor FootSwitch Keyboard"
    assert plugged_in["c"].grabbed
    assert mouse.closed
    assert desk.closed
    with pytest.raises(DeviceError, match="FootSwitch Keyboard is in use by another program"):
        open_pedals(load_map(PedalMap, "pedals"))


def test_nothing_plugged_in_says_what_to_do(plugged_in: dict[str, Events]) -> None:
    with pytest.raises(DeviceError, match=r"found no gamepad.*usermod -aG input"):
        connect.gamepad()
    with pytest.raises(DeviceError, match=r"found no pedals \(a name with footswitch or .*\): plug"):
        connect.pedals()


# --- end to end ------------------------------------------------------------------------------------------------

needs_uinput = pytest.mark.skipif(
    not os.access("/dev/uinput", os.W_OK), reason="/dev/uinput is missing or may not be written"
)


@pytest.fixture
def virtual_pedals() -> Iterator[UInput]:
    """A foot switch made by the kernel."""
    keys = {E.EV_KEY: [E.KEY_A, E.KEY_B, E.KEY_C]}
    with UInput(keys, name="vla-rft test FootSwitch") as device:
        yield device


@needs_uinput
@pytest.mark.realtime
def test_pedals_through_the_kernel(virtual_pedals: UInput) -> None:
    device = connect.pedals_alone(
        pedals=open_pedals(PedalMap(names=("vla-rft test",), left="KEY_A", middle="KEY_B", right="KEY_C"))
    )
    for code in (E.KEY_B, E.KEY_C):
        virtual_pedals.write(E.EV_KEY, code, 1)
        virtual_pedals.syn()
    deadline = time.monotonic() + 5.0
    while not device.read(STATE).enabled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert device.read(STATE).enabled
    assert device.recorder_keys() == ["keep"]
    virtual_pedals.close()
    with pytest.raises(DeviceError, match="vla-rft test FootSwitch is gone"):
        for _ in range(100):
            device.read(STATE)
            time.sleep(0.01)


@needs_uinput
@pytest.mark.realtime
def test_a_gamepad_through_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = [(code, AbsInfo(0, low, high, 0, 0, 0)) for code, (low, high) in PAD_AXES.items()]
    with UInput({E.EV_KEY: PAD_KEYS, E.EV_ABS: axes}, name="vla-rft test pad") as made:
        monkeypatch.setattr("evdev.list_devices", lambda: [made.device.path])  # and not one that is plugged in
        device = connect.gamepad()
        made.write(E.EV_KEY, E.BTN_TR, 1)
        made.write(E.EV_ABS, E.ABS_Y, -32768)
        made.syn()
        deadline = time.monotonic() + 5.0
        while not (command := device.read(STATE)).enabled and time.monotonic() < deadline:
            time.sleep(0.01)
        assert command.enabled
        assert command.translation == pytest.approx([0.015, 0.0, 0.0])
        device.close()
