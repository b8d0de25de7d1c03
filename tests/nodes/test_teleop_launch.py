"""teleop.launch.yaml: which processes each device brings, and what they are told. Starts no process."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from vla_rft_core.cell import find_cell
from vla_rft_nodes.bringup import LaunchError, load

ROBOT = ("sim_world", "sim_node", "robot_node", "camera_node", "watchdog_node")
CONNECT = "vla_rft_hardware.teleop.connect:"


def parameters(name: str, arguments: Mapping[str, str]) -> dict[str, str] | None:
    """The `-p` parameters of one process; None when it is not started."""
    found = [process for process in load("teleop", arguments).processes if process.name == name]
    if not found:
        return None
    words = found[0].argv
    pairs = [words[i + 1].partition(":=") for i, word in enumerate(words) if word == "-p"]
    return {key: value.strip('"') for key, _, value in pairs}


@pytest.mark.parametrize(
    ("device", "pedals", "factory", "pedals_factory"),
    [
        ("spacemouse", "false", f"{CONNECT}spacemouse", ""),
        ("spacemouse", "true", f"{CONNECT}spacemouse", f"{CONNECT}pedals"),
        ("gamepad", "true", f"{CONNECT}gamepad", f"{CONNECT}pedals"),
        ("expert", "true", "vla_rft_sim.expert:connect_expert", ""),
        ("none", "true", f"{CONNECT}pedals_alone", ""),
    ],
)
def test_a_device_is_a_factory(device: str, pedals: str, factory: str, pedals_factory: str) -> None:
    told = parameters("teleop_node", {"device": device, "pedals": pedals})
    assert told == {"device": factory, "pedals": pedals_factory, "cell": "vla_rft_sim:towel_cell", "map": ""}
    module, _, name = factory.partition(":")
    assert callable(getattr(__import__(module, fromlist=[name]), name))


@pytest.mark.parametrize(("device", "pedals"), [("keyboard", "false"), ("keyboard", "true"), ("none", "false")])
def test_a_keyboard_and_nothing_need_no_teleop_node(device: str, pedals: str) -> None:
    names = [process.name for process in load("teleop", {"device": device, "pedals": pedals}).processes]
    assert names == [*ROBOT, "recorder_node"]


def test_every_process_ends_the_launch_and_the_cell_reaches_all() -> None:
    plan = load("teleop", {"cell": "/cells/mine", "episodes": "/data/towels", "map": "/cells/mine/mouse.yaml"})
    assert [process.name for process in plan.processes] == [*ROBOT, "teleop_node", "recorder_node"]
    assert all(process.required for process in plan.processes)
    told = parameters("recorder_node", {"cell": "/cells/mine", "episodes": "/data/towels"})
    assert told == {"cell": "/cells/mine", "episodes": "/data/towels", "simulated": "true"}
    assert parameters("teleop_node", {"map": "/cells/mine/mouse.yaml"})["map"] == "/cells/mine/mouse.yaml"


def test_a_real_cell_records_no_truth() -> None:
    told = parameters("recorder_node", {"backend": "flexiv", "cell": "/cells/mine"})
    assert told["simulated"] == "false"


def test_other_devices_are_refused() -> None:
    with pytest.raises(LaunchError, match="cannot be 'joystick'; choose from spacemouse, gamepad"):
        load("teleop", {"device": "joystick"})


def test_the_cell_of_the_default_exists() -> None:
    assert find_cell("vla_rft_sim:towel_cell").spec.control_period_s == 0.1  # period_s of the shipped maps
