"""The SpaceMouse from recorded reports: parsing, dead-man, clutch, gripper, silence, unplugging."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from vla_rft_core.clock import ManualClock, nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_hardware.protocols import OperatorKeys, TeleopDevice
from vla_rft_hardware.teleop import spacemouse
from vla_rft_hardware.teleop.device import MappedDevice
from vla_rft_hardware.teleop.mapping import TeleopMapping, load_map
from vla_rft_hardware.teleop.spacemouse import SpaceMouse, axes_of

PERIOD_NS = nanoseconds(0.1)
LEFT_DOWN, RIGHT_DOWN, BOTH_DOWN, ALL_UP = "03 01 00", "03 02 00", "03 03 00", "03 00 00"
PUSH = "01 00 00 a2 fe 00 00"  # y = -350: all the way from the hand's owner
REST = "01 00 00 00 00 00 00"
TWIST = "02 00 00 00 00 af 00"  # rz = 175: half way clockwise, seen from above


class Reports:
    """A `hid.device` that plays recorded reports, given in hex."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.gone = self.closed = False

    def send(self, *reports: str) -> None:
        self.waiting += [bytes.fromhex(report) for report in reports]

    def read(self, max_length: int) -> list[int]:
        if self.gone:
            raise OSError("read error")
        return list(self.waiting.popleft()) if self.waiting else []

    def close(self) -> None:
        self.closed = True


class Hand:
    """A SpaceMouse under the shipped map, and an arm that stands at (0.5, 0, 0.3) with open fingers."""

    def __init__(self, mapping: TeleopMapping | None = None) -> None:
        self.reports, self.clock = Reports(), ManualClock()
        mapping = mapping or load_map(TeleopMapping, "spacemouse")
        self.device = MappedDevice(SpaceMouse(self.reports, "SpaceMouse Compact"), mapping, clock=self.clock)
        self.device.start()

    def read(self, *reports: str, after_ns: int = PERIOD_NS):
        self.reports.send(*reports)
        self.clock.advance(after_ns)
        return self.device.read(STATE)


def robot_state(width: float = 0.08) -> RobotState:
    pose = Pose((0.5, 0.0, 0.3), (0.0, 1.0, 0.0, 0.0))
    arm = ArmState(1, np.zeros(7), np.zeros(7), np.zeros(7), pose, np.zeros(6), np.zeros(6))
    return RobotState(arm, GripperState(1, width, 0.0, False), SetPoint(pose, width))


STATE = robot_state()


@pytest.mark.parametrize(
    ("report", "axes"),
    [
        ("01 af 00 51 ff 5e 01", {"x": 0.5, "y": -0.5, "z": 1.0}),
        ("02 00 00 a2 fe 23 00", {"rx": 0.0, "ry": -1.0, "rz": 0.1}),
        ("01 23 00 00 00 dd ff 46 00 00 00 ba ff", {"x": 0.1, "y": 0, "z": -0.1, "rx": 0.2, "ry": 0, "rz": -0.2}),
        ("01 ff 7f 00 80 00 00", {"x": 1.0, "y": -1.0, "z": 0.0}),  # beyond full scale
        ("03 01 00", {}),
        ("17 64 00", {}),  # battery
        ("01 00", {}),  # cut off
        ("01 00 00 00 00 00 00 00", {}),
    ],
)
def test_axes_of_a_report(report: str, axes: dict[str, float]) -> None:
    assert axes_of(bytes.fromhex(report)) == pytest.approx(axes)


def test_buttons_are_bits_and_a_press_between_two_polls_is_seen() -> None:
    reports = Reports()
    mouse = SpaceMouse(reports, "SpaceMouse Pro")
    reports.send("03 01 10 00 02", "03 00 10 00 02")  # menu (bit 0) tapped; 1 (bit 12) and Ctrl (bit 25) held
    inputs = mouse.poll()
    assert inputs.pressed == ("button_0", "button_12", "button_25")
    assert inputs.held == {"button_12", "button_25"}
    assert inputs.heard
    assert not mouse.poll().heard


def test_it_is_a_teleop_device() -> None:
    device = Hand().device
    assert isinstance(device, TeleopDevice)
    assert isinstance(device, OperatorKeys)


def test_pushing_with_the_dead_man_moves_along_x_at_full_speed() -> None:
    hand = Hand()
    command = hand.read(LEFT_DOWN, PUSH)
    assert command.enabled
    assert command.translation == pytest.approx([0.015, 0.0, 0.0])  # 0.15 m/s for 0.1 s
    assert command.rotvec == pytest.approx([0.0, 0.0, 0.0])
    assert command.width == 0.08
    assert command.stamp_ns == hand.clock.realtime_ns()


def test_a_twist_turns_about_the_vertical_with_the_dead_band_taken_off() -> None:
    command = Hand().read(LEFT_DOWN, TWIST)
    assert command.rotvec == pytest.approx([0.0, 0.0, -0.6 * 0.1 * (0.5 - 0.08) / (1 - 0.08)])
    assert not command.translation.any()


def test_a_diagonal_push_is_no_faster() -> None:
    command = Hand().read(LEFT_DOWN, "01 5e 01 a2 fe a2 fe")
    assert np.linalg.norm(command.translation) == pytest.approx(0.015)
    assert (np.sign(command.translation) == [1, -1, 1]).all()


def test_the_dead_band_swallows_a_resting_hand() -> None:
    assert not Hand().read(LEFT_DOWN, "01 14 00 ec ff 14 00").translation.any()


def test_without_the_dead_man_nothing_moves_and_the_gripper_button_does_nothing() -> None:
    hand = Hand()
    assert not hand.read(PUSH).enabled
    assert not hand.read(RIGHT_DOWN, ALL_UP).enabled
    assert hand.read(LEFT_DOWN).width == 0.08


def test_releasing_the_dead_man_ends_it_at_once() -> None:
    hand = Hand()
    assert hand.read(LEFT_DOWN, PUSH).enabled
    assert not hand.read(ALL_UP, PUSH).enabled


def test_the_gripper_toggles_on_the_edge_and_stays() -> None:
    hand = Hand()
    widths = [hand.read(*reports).width for reports in ([LEFT_DOWN], [BOTH_DOWN], [], [], [LEFT_DOWN], [BOTH_DOWN])]
    assert widths == [0.08, 0.0, 0.0, 0.0, 0.0, 0.08]


def test_a_new_lease_takes_the_width_in_force() -> None:
    hand = Hand()
    assert hand.read(BOTH_DOWN).width == 0.0
    hand.device.start()
    assert hand.read().width == 0.08


def test_the_clutch_keeps_the_dead_man_and_stops_the_motion() -> None:
    mapping = replace(load_map(TeleopMapping, "spacemouse"), gripper=(), clutch=("button_1",))
    hand = Hand(mapping)
    assert hand.read(LEFT_DOWN, PUSH).translation.any()
    held = hand.read(BOTH_DOWN, PUSH, TWIST)
    assert held.enabled
    assert not held.translation.any()
    assert not held.rotvec.any()
    assert hand.read(LEFT_DOWN).translation.any()


def test_slow_is_a_quarter() -> None:
    mapping = replace(load_map(TeleopMapping, "spacemouse"), gripper=(), slow=("button_1",))
    assert Hand(mapping).read(BOTH_DOWN, PUSH).translation[0] == pytest.approx(0.25 * 0.015)


def test_a_deflected_cap_that_falls_silent_is_a_released_dead_man_until_it_is_pressed_anew() -> None:
    hand = Hand()
    assert hand.read(LEFT_DOWN, PUSH).enabled
    assert hand.read().enabled  # 0.1 s of silence
    assert not hand.read(after_ns=3 * PERIOD_NS).enabled
    assert not hand.read(PUSH).enabled  # it came back with the button held
    hand.read(ALL_UP)
    assert hand.read(LEFT_DOWN, PUSH).enabled


def test_a_cap_at_rest_may_be_silent_for_seconds_but_not_for_ever() -> None:
    hand = Hand()
    assert hand.read(LEFT_DOWN, PUSH, REST).enabled
    assert hand.read(after_ns=nanoseconds(5.0)).enabled
    assert not hand.read(after_ns=nanoseconds(5.1)).enabled


def test_a_dead_man_that_is_down_from_the_start_must_be_released_first() -> None:
    reports, clock = Reports(), ManualClock()
    reports.send(LEFT_DOWN)
    device = MappedDevice(SpaceMouse(reports, "it"), load_map(TeleopMapping, "spacemouse"), clock=clock)
    assert not device.read(STATE).enabled
    reports.send(ALL_UP)
    assert not device.read(STATE).enabled
    reports.send(LEFT_DOWN)
    assert device.read(STATE).enabled


def test_unplugging_names_the_device_and_the_way_out() -> None:
    hand = Hand()
    hand.reports.gone = True
    with pytest.raises(DeviceError, match=r"SpaceMouse Compact is gone \(read error\): plug in .* udev rule"):
        hand.read()
    hand.device.close()
    assert hand.reports.closed


def test_a_flood_of_reports_does_not_block() -> None:
    hand = Hand()
    hand.reports.send(*[PUSH] * 10_000)
    assert hand.device.read(STATE).stamp_ns
    assert hand.reports.waiting


class Library:
    """Stands in for the module `hid`."""

    def __init__(self, entries: list[dict[str, object]], *, may_open: bool = True) -> None:
        self.entries, self.may_open, self.opened = entries, may_open, b""

    def enumerate(self) -> list[dict[str, object]]:
        return self.entries

    def device(self) -> Library:
        return self

    def open_path(self, path: bytes) -> None:
        if not self.may_open:
            raise OSError("open failed")
        self.opened = path

    def set_nonblocking(self, nonblocking: bool) -> None:
        assert nonblocking


def entry(vendor: int, product: int, *, usage: int = 8, name: str = "SpaceMouse Compact") -> dict[str, object]:
    page = 1 if usage else 0
    path = f"{vendor:04x}:{product:04x}:{usage}".encode()
    return {
        "vendor_id": vendor,
        "product_id": product,
        "usage_page": page,
        "usage": usage,
        "product_string": name,
        "path": path,
    }


def test_the_moving_interface_of_a_spacemouse_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, receiver_keys = entry(0x046D, 0xC31C, name="Keyboard"), entry(0x256F, 0xC652, usage=6)
    library = Library([keyboard, receiver_keys, entry(0x256F, 0xC652, name="")])
    monkeypatch.setitem(sys.modules, "hid", library)
    assert spacemouse.open_spacemouse().name == "SpaceMouse c652"
    assert library.opened == b"256f:c652:8"


@pytest.mark.parametrize(
    ("library", "message"),
    [
        (Library([entry(0x046D, 0xC31C, name="Keyboard")]), "found no SpaceMouse: plug in"),
        (Library([entry(0x256F, 0xC635)], may_open=False), "SpaceMouse Compact cannot be opened .*udev rule"),
        (None, "needs the package hidapi"),
    ],
)
def test_no_device_is_one_sentence(library: Library | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hid", library)
    with pytest.raises(DeviceError, match=message):
        spacemouse.open_spacemouse()
