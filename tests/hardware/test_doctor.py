"""The doctor over devices and a computer made up for each case: the right line is red, and says what to do."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Pose
from vla_rft_core.types import ArmState, CameraFrame, GripperState
from vla_rft_hardware import checks as registry
from vla_rft_hardware import doctor
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import CHECKS, CheckResult, Status, check, green, run_checks
from vla_rft_hardware.host import NetworkInterface, ThisHost
from vla_rft_hardware.protocols import CameraInfo

SIM_CELL = find_cell("vla_rft_sim:towel_cell")
CELL = replace(
    SIM_CELL,
    safety=replace(SIM_CELL.safety, name="lab"),
    calibration=replace(SIM_CELL.calibration, id="lab-1"),
    motion=replace(SIM_CELL.motion, name="lab-slow", max_linear_velocity=0.02),
)
GIB = 2**30


@dataclass
class FakeHost:
    """A workstation on which everything is right."""

    environment: Mapping[str, str] = field(default_factory=dict)
    version: tuple[int, int, int] = (3, 12, 1)
    packages: Mapping[str, str] = field(default_factory=lambda: {"flexivrdk": "1.9.4.1", "pyrealsense2": "2.59.1"})
    network: tuple[NetworkInterface, ...] = (NetworkInterface(name="eno1", up=True, mtu=1500, address="192.168.2.10"),)
    free: int = 900 * GIB
    shm: int = 8 * GIB
    graphics: tuple[str, ...] | None = ("NVIDIA GeForce RTX 4090, 560.35.03",)

    def python(self):
        return self.version

    def package_version(self, name):
        return self.packages.get(name)

    def interfaces(self):
        return list(self.network)

    def space(self, path):
        return (2 * GIB, self.shm) if str(path) == "/dev/shm" else (1000 * GIB, self.free)

    def gpus(self):
        return None if self.graphics is None else list(self.graphics)


READY_FACTS = {
    "serial": "Rizon4s-123456",
    "model": "Rizon4s",
    "software": "v3.11.3",
    "status": "NOT_ENABLED",
    "fault": "",
    "clock offset": "+0.0120 s",
    "emergency stop": "released",
    "tool": "closed_fingers_tcp",
    "tool tcp": "0.0 0.0 0.2 m",
    "tool mass": "1.186 kg",
}


class FakeArm:
    """Stands at home and says what it is told to say."""

    def __init__(self, facts: Mapping[str, str] = READY_FACTS, *, q=None, position=None, frozen=False, fault=""):
        self.facts, self.fault = dict(facts), fault
        self.q = np.array(CELL.spec.home.q if q is None else q)
        self.position = np.array(CELL.spec.home.position if position is None else position)
        self.frozen_ns = time.time_ns() if frozen else 0
        self.closed = False

    def state(self):
        return ArmState(
            stamp_ns=self.frozen_ns or time.time_ns(),
            q=self.q,
            dq=np.zeros(7),
            tau_ext=np.zeros(7),
            T_base_tcp=Pose(self.position, CELL.spec.home.quaternion),
            tcp_twist=np.zeros(6),
            wrench=np.zeros(6),
            operational=False,
            fault=self.fault,
        )

    def diagnostics(self):
        return self.facts

    def close(self):
        self.closed = True


class FakeGripper:
    def __init__(self, facts=None):
        self.facts = {"gripper": "Flexiv-GN01, not initialised"} if facts is None else facts

    def state(self):
        return GripperState(time.time_ns(), 0.08, 0.0, False)

    def diagnostics(self):
        return self.facts

    def close(self):
        pass


class FakeCamera:
    """A noisy grey picture at the spec's rate, without waiting for it."""

    def __init__(self, facts=None, *, frozen=False, silent=False, fps=15.0, value=120, lose=0, age_s=0.03):
        self.facts = {"usb": "3.2", "locked": "exposure 156", "clock": "global_time"} if facts is None else facts
        self.frozen, self.silent, self.value, self.lose, self.age_s = frozen, silent, value, lose, age_s
        self.period_ns = round(1e9 / fps)
        self.numbers = itertools.count(1)
        self.start_ns = time.time_ns()
        self.size = (640, 480)

    def info(self):
        return CameraInfo("front", "0123", *self.size, fx=600.0, fy=600.0, cx=320.0, cy=240.0)

    def read(self, timeout_s):
        time.sleep(min(timeout_s, 0.01))
        if self.silent:
            return None
        count = next(self.numbers)
        stamp_ns = self.start_ns + count * self.period_ns
        color = np.full((480, 640, 3), self.value, np.uint8)
        color[0, 0, 0] = 0 if self.frozen else count % 251
        received_ns = stamp_ns + round(1e9 * self.age_s)
        return CameraFrame("front", stamp_ns, received_ns, count * (1 + self.lose), color)

    def diagnostics(self):
        return self.facts

    def close(self):
        pass


def bench_of(backend="flexiv", **changes) -> Bench:
    """Return a bench on which nothing is wrong, but for what is changed."""
    given = {
        "backend": backend,
        "cell": CELL,
        "host": FakeHost(),
        "disk": Path(),
        "interface": "eno1",
        "arm": FakeArm(),
        "gripper": FakeGripper(),
        "camera": FakeCamera(),
        "sample_s": 0.1,
    }
    return Bench(**{**given, **changes})


def results_of(**changes) -> dict[str, CheckResult]:
    return {result.name: result for result in run_checks(bench_of(**changes))}


def reds(results: Mapping[str, CheckResult]) -> list[str]:
    return [name for name, result in results.items() if result.status is Status.RED]


def facts(**changes) -> dict[str, str]:
    return {**READY_FACTS, **{name.replace("_", " "): value for name, value in changes.items()}}


@pytest.mark.parametrize("backend", ["sim", "flexiv"])
def test_nothing_is_red_on_a_good_cell_and_what_ready_does_is_said(backend):
    results = results_of(backend=backend)
    assert reds(results) == []
    yellow = {name: r.words for name, r in results.items() if r.status is Status.YELLOW}
    assert set(yellow) == {"f/t zero", "gripper", "gripper limits"}
    assert all("READY" in words for words in yellow.values())


HOST_FAULTS = {
    "python": ({"version": (3, 11, 7)}, "3.11.7", "Python 3.12"),
    "rdk": ({"packages": {"flexivrdk": "2.1.0", "pyrealsense2": "2.59.1"}}, "2.1.0", "flexivrdk==1.9.4.1"),
    "realsense library": ({"packages": {"flexivrdk": "1.9.4.1"}}, "not installed", "pip install"),
    "network": ({"network": (NetworkInterface(name="eno1", up=False, mtu=1500, address="10.0.0.1"),)}, "down", "cable"),
    "ros domain": ({"environment": {"ROS_DOMAIN_ID": "250"}}, "250", "0 to 101"),
    "fast dds profile": ({"environment": {"FASTRTPS_DEFAULT_PROFILES_FILE": "/nowhere.xml"}}, "/nowhere.xml", "unset"),
    "shared memory": ({"shm": 60 * 2**20}, "60 of 2048 MiB", "--shm-size"),
    "disk": ({"free": 3 * GIB}, "MB/min assumed", "free some space"),
    "gpu": ({"graphics": None}, "nvidia-smi", "--skip gpu"),
}


@pytest.mark.parametrize("name", HOST_FAULTS)
def test_each_fault_of_the_computer_is_one_red_line(name):
    changes, words, remedy = HOST_FAULTS[name]
    results = results_of(host=replace(FakeHost(), **changes))
    assert reds(results) == [name]
    assert words in results[name].words and remedy in results[name].remedy


ROBOT_FAULTS = {
    "remote mode": (FakeArm(facts(status="IN_MANUAL_MODE")), "manual mode", "Auto (Remote)"),
    "e-stop": (FakeArm(facts(status="ESTOP_NOT_RELEASED")), "emergency stop is pressed", "nobody is in reach"),
    "fault": (FakeArm(facts(status="MINOR_FAULT", fault="event 301004")), "301004", "READY, which clears it"),
    "controller": (FakeArm(facts(status="IN_REDUCED_STATE")), "IN_REDUCED_STATE", "safety"),
    "tool": (FakeArm(facts(tool_tcp="0.0 0.0 0.15 m")), "50.0 mm off", "select closed_fingers_tcp"),
    "robot state": (FakeArm(frozen=True), "the same state twice", "cable"),
    "where it stands": (FakeArm(position=(0.1, 0.0, 0.3)), "260 mm outside", "manual mode"),
}


@pytest.mark.parametrize("name", ROBOT_FAULTS)
def test_each_fault_of_the_robot_is_one_red_line(name):
    arm, words, remedy = ROBOT_FAULTS[name]
    results = results_of(arm=arm)
    assert reds(results) == [name]
    assert words in results[name].words and remedy in results[name].remedy


def test_the_emergency_stop_is_seen_behind_another_status():
    assert reds(results_of(arm=FakeArm(facts(emergency_stop="pressed")))) == ["e-stop"]


def test_an_arm_that_tells_no_status_is_judged_by_its_fault():
    silent = {name: value for name, value in READY_FACTS.items() if name in ("serial", "tool tcp", "tool mass")}
    assert reds(results_of(arm=FakeArm(silent, fault="torque limit"))) == ["fault"]
    assert results_of(arm=FakeArm(silent))["remote mode"].status is Status.YELLOW


def test_a_wrong_mass_and_narrow_fingers_are_red():
    assert reds(results_of(arm=FakeArm(facts(tool_mass="1.3 kg")))) == ["tool"]
    narrow = FakeGripper({"gripper": "Flexiv-GN01, initialised", "gripper limits": "0.0 to 0.08 m"})
    results = results_of(gripper=narrow)
    assert reds(results) == ["gripper limits"] and "0 to 80 mm" in results["gripper limits"].words


def test_a_joint_past_its_limit_is_named():
    results = results_of(arm=FakeArm(q=(0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0)))
    assert reds(results) == ["where it stands"] and "joint 3" in results["where it stands"].words


CAMERA_FAULTS = {
    "camera usb": (FakeCamera({"usb": "2.1", "locked": "exposure 156"}), "USB 2.1", "USB 3 port"),
    "camera exposure": (FakeCamera({"usb": "3.2", "locked": "no"}), "automatic", "start the camera again"),
    "camera picture": (FakeCamera(frozen=True), "frozen", "replug"),
    "camera rate": (FakeCamera(fps=6.0), "6.0 Hz of 15", "USB controller"),
    "camera clock": (FakeCamera(age_s=-0.2), "ahead", "chrony"),
}


@pytest.mark.parametrize("name", CAMERA_FAULTS)
def test_each_fault_of_the_camera_is_one_red_line(name):
    camera, words, remedy = CAMERA_FAULTS[name]
    results = results_of(camera=camera)
    assert reds(results) == [name]
    assert words in results[name].words and remedy in results[name].remedy


def test_the_simulated_cells_profiles_on_a_real_arm_are_pointed_out():
    assert results_of(cell=CELL)["cell"].words.endswith("controller up to 0.02 m/s")
    copied = results_of(cell=SIM_CELL)["cell"]
    assert copied.status is Status.YELLOW and "sim-towel" in copied.remedy
    assert reds(results_of(cell=replace(CELL, motion=None))) == ["cell"]


def test_a_dark_picture_a_silent_camera_and_lost_frames():
    assert reds(results_of(camera=FakeCamera(value=2))) == ["camera picture"]
    assert reds(results_of(camera=FakeCamera(silent=True))) == ["camera rate", "camera picture"]
    lost = results_of(camera=FakeCamera(lose=1))["camera rate"]
    assert lost.status is Status.YELLOW and "missing" in lost.words


def test_a_device_that_does_not_connect_is_red_once_and_the_rest_unchecked():
    results = results_of(arm=None, gripper=None, camera=None, robot_problem="not found", camera_problem="unplugged")
    assert reds(results) == ["robot", "camera"]
    assert "not found" in results["robot"].words and "unplugged" in results["camera"].words
    assert results["tool"].words == "not checked: no robot" and results["camera usb"].words == "not checked: no camera"


def test_a_device_that_dies_meanwhile_is_red_and_the_doctor_goes_on():
    class Dying(FakeArm):
        def state(self):
            raise DeviceError("the connection to the arm is lost")

    results = results_of(arm=Dying())
    assert "the connection to the arm is lost" in results["robot state"].words
    assert results["camera rate"].status is Status.GREEN


def run(*argv: str, bench: Bench) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor.main(["--cell", "vla_rft_sim:towel_cell", *argv], connect=lambda options, cell: bench, out=out)
    return code, out.getvalue()


def test_lines_carry_symbol_word_and_remedy_and_the_exit_code_follows():
    arm = FakeArm(facts(status="ESTOP_NOT_RELEASED"))
    code, text = run("--backend", "sim", bench=bench_of("sim", arm=arm))
    lines = text.splitlines()
    assert code == 1 and len(lines) == len(CHECKS) + 1 and "\x1b" not in text
    (red,) = [line for line in lines if line.startswith("✗ red")]
    assert "e-stop" in red and "→" in red
    assert lines[-1].endswith("1 red: do not move the arm") and arm.closed
    code, text = run("--backend", "sim", bench=bench_of("sim"))
    assert code == 0 and text.splitlines()[-1].endswith("0 red: the arm may be made READY")


def test_colour_goes_to_a_terminal_only_and_never_alone():
    result = CheckResult(name="e-stop", status=Status.RED, words="pressed", remedy="release it")
    assert "\x1b[31m✗ red" in doctor.line(result, colour=True)
    assert doctor.line(result, colour=False).startswith("✗ red")


def test_json_is_one_document():
    bench = bench_of(camera=FakeCamera(frozen=True))
    code, text = run("--backend", "flexiv", "--serial", "Rizon4s-123456", "--json", bench=bench)
    document = json.loads(text)
    assert code == 1 and document["status"] == "red" and document["backend"] == "flexiv"
    by_name = {entry["name"]: entry for entry in document["checks"]}
    assert list(by_name) == list(CHECKS)
    assert by_name["camera picture"]["status"] == "red" and by_name["camera picture"]["remedy"]


def test_a_skipped_check_is_yellow_and_an_unknown_one_a_mistake(capsys):
    bench = bench_of(host=replace(FakeHost(), graphics=None))
    code, text = run("--backend", "flexiv", "--serial", "Rizon4s-123456", "--skip", "gpu", bench=bench)
    assert code == 0 and "skipped" in text
    assert run("--backend", "sim", "--skip", "gpus", bench=bench_of("sim"))[0] == 2
    assert "did you mean 'gpu'?" in capsys.readouterr().err


def test_the_flexiv_backend_wants_a_serial_and_a_cell(capsys):
    assert doctor.main(["--backend", "flexiv", "--cell", "vla_rft_sim:towel_cell"]) == 2
    assert doctor.main(["--backend", "flexiv", "--serial", "Rizon4s-123456"]) == 2
    assert "--serial" in (error := capsys.readouterr().err) and "--cell" in error


def test_checks_register_under_one_name_only(monkeypatch):
    monkeypatch.setattr(registry, "CHECKS", dict(CHECKS))
    check("made up")(lambda bench: green("fine"))
    assert list(run_checks(bench_of()))[-1].words == "fine"
    with pytest.raises(ValueError, match="made up"):
        check("made up")(lambda bench: green("again"))


def test_a_red_result_without_a_remedy_is_refused():
    with pytest.raises(ValueError, match="remedy"):
        CheckResult(name="x", status=Status.RED, words="broken")


def test_a_fast_dds_profile_with_small_segments_is_red(tmp_path):
    profile = tmp_path / "small.xml"
    profile.write_text("<dds><d><segment_size>524288</segment_size><maxMessageSize>65500</maxMessageSize></d></dds>")
    host = replace(FakeHost(), environment={"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)})
    assert reds(results_of(host=host)) == ["fast dds profile"]


def test_this_computer_can_be_read():
    host = ThisHost()
    total, free = host.space(Path("/"))
    assert total >= free > 0 and host.python() >= (3, 11)
    assert host.package_version("numpy") and host.package_version("no-such-distribution") is None
    assert all(interface.mtu > 0 and interface.name != "lo" for interface in host.interfaces())


def test_beside_a_running_cell_no_device_is_touched_and_none_is_spoken_of():
    out = io.StringIO()

    def never(options, cell):
        bench = doctor.connect_bench(options, cell)
        assert bench.arm is None and bench.camera is None and not bench.robot_problem
        return bench

    code = doctor.main(["--backend", "flexiv", "--cell", "vla_rft_sim:towel_cell", "--running"], connect=never, out=out)
    names = [line[8:].strip().split("  ")[0] for line in out.getvalue().splitlines()[:-1]]
    assert code in (0, 1) and "disk" in names and "cell" in names
    assert not {"robot", "camera", "e-stop", "camera usb", "fault"} & set(names)
