"""Maps from YAML: the shipped ones load, mistakes get one sentence."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from vla_rft_hardware.teleop.inputs import Inputs
from vla_rft_hardware.teleop.keyboard import KeyboardMap
from vla_rft_hardware.teleop.mapping import TeleopMapping, check_names, load_map
from vla_rft_hardware.teleop.pedals import PedalMap, codes_of

SPACEMOUSE = load_map(TeleopMapping, "spacemouse")
KEYBOARD = load_map(KeyboardMap, "keyboard")


def test_every_shipped_map_loads() -> None:
    assert load_map(TeleopMapping, "gamepad").keep == ("DPAD_RIGHT", "pedal_right")
    assert load_map(TeleopMapping, "pedals_alone").dead_man == ("pedal_middle",)
    assert codes_of(load_map(PedalMap, "pedals")) == {30: "pedal_left", 48: "pedal_middle", 46: "pedal_right"}
    assert "w forward" in KEYBOARD.legend()
    assert "escape stop" in KEYBOARD.legend()


def test_a_map_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    shipped = Path(str(resources.files("vla_rft_hardware.teleop").joinpath("maps/spacemouse.yaml")))
    path.write_text(shipped.read_text() + "open_width: 0.07\n")
    assert load_map(TeleopMapping, str(path)).open_width == 0.07


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 0.0}, "speed: must be above 0 and at most 0.5, got 0.0"),
        ({"turn_rate": 9.0}, "turn_rate: must be above 0"),
        ({"slow_factor": 1.5}, "slow_factor"),
        ({"dead_band": 0.95}, "dead_band: must be 0 to 0.9"),
        ({"dead_man": ()}, "dead_man: at least one button"),
        ({"silence_s": 0.0}, "silence_s: must be positive"),
        ({"closed_width": 0.09}, "closed_width 0.09 and open_width 0.08 are not in order"),
        ({"stop": ("button_1",)}, "stop: 'button_1' moves the arm already"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPACEMOUSE, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.05}, "step: must be above 0 and at most 0.03"),
        ({"forward": "u"}, "undo: key 'u' means forward already"),
        ({"forward": "W"}, "forward: 'W' must be given in lower case"),
        ({"gripper": "enter"}, "gripper: 'enter' is neither a character nor"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(KEYBOARD, **change)


def test_names_that_a_device_lacks_are_refused() -> None:
    mapping = replace(SPACEMOUSE, translation=("-y", "-u", "z"))
    offered = frozenset(SPACEMOUSE.names)
    with pytest.raises(ValueError, match="translation: SpaceMouse has no 'u'; known: button_0"):
        check_names(mapping, offered, "SpaceMouse")
    with pytest.raises(ValueError, match="clutch: SpaceMouse has no 'buton_1'; did you mean 'button_1'"):
        check_names(replace(SPACEMOUSE, clutch=("buton_1",)), offered, "SpaceMouse")


def test_unknown_maps_and_keys_suggest_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"map 'spacemose' is neither .*; did you mean 'spacemouse'"):
        load_map(TeleopMapping, "spacemose")
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file"):
        load_map(TeleopMapping, "nowhere.yaml")
    with pytest.raises(ValueError, match="pedal_left: unknown key 'KEY_AA'; did you mean"):
        codes_of(replace(load_map(PedalMap, "pedals"), left="KEY_AA"))
    with pytest.raises(ValueError, match="must differ"):
        replace(load_map(PedalMap, "pedals"), left="KEY_B")


def test_recorder_keys_are_in_the_order_of_the_presses() -> None:
    inputs = Inputs({}, frozenset(), ("pedal_left", "button_0", "pedal_right"), heard=True)
    assert SPACEMOUSE.recorder_keys(inputs.pressed) == ["discard", "keep"]
