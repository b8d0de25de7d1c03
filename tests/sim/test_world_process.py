"""The `sim_world` process: start, end, left-overs, bad arguments, real time."""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_rft_core.errors import DeviceError
from vla_rft_sim.client import connect_camera, connect_truth
from vla_rft_sim.kinematic_world import KinematicWorld
from vla_rft_sim.protocol import default_address
from vla_rft_sim.realtime import LoopEndedError, RealTimeLoop
from vla_rft_sim.world_process import main


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_and_nothing_is_left(start_world: Callable[..., Any], number: int) -> None:
    world = start_world()
    assert world.frames.exists() and Path(world.address).exists()
    truth = connect_truth(world.address)
    assert world.end(number) == 0
    assert not world.frames.exists() and not Path(world.address).exists()
    with pytest.raises(DeviceError, match="gone"):
        truth.status()


def test_left_overs_of_a_killed_world_are_replaced(start_world: Callable[..., Any]) -> None:
    first = start_world()
    camera = connect_camera(first.address, "front")
    first.kill()
    assert first.frames.exists() and Path(first.address).exists()
    second = start_world()
    assert connect_truth(second.address).status().steps >= 0
    assert connect_camera(second.address, "front").read(5.0) is not None
    with pytest.raises(DeviceError, match="gone"):
        camera.read(5.0) and camera.read(5.0)
    assert second.end() == 0
    assert not second.frames.exists()


def test_a_living_worlds_address_is_refused(
    start_world: Callable[..., Any], wait_until: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = start_world()
    arguments = ["--world", "kinematic", "--socket", world.address, "--frames", str(tmp_path / "other.frames")]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert "a sim_world already serves" in output.err
    assert not (tmp_path / "other.frames").exists()
    wait_until(lambda: connect_truth(world.address).status().steps > 0, "the first world goes on")


def test_files_of_others_are_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    free = str(tmp_path / "free")
    for arguments in (["--socket", str(precious), "--frames", free], ["--socket", free, "--frames", str(precious)]):
        assert main(["--world", "kinematic", *arguments]) == 1
        assert "choose another path" in capsys.readouterr().err
    assert precious.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [precious]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--world", "moon"], "invalid choice: 'moon'"),
        (["--fps", "0"], "must be positive, got 0"),
        (["--fps", "nan"], "must be positive, got nan"),
        (["--time-factor", "-1"], "must be positive, got -1"),
        (["--seed", "-3"], "must not be negative, got -3"),
        (["--width", "1"], "must be 16 to 4096 pixels, got 1"),
        (["--sock", "x"], "unrecognized arguments: --sock x"),
    ],
)
def test_bad_arguments(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--world", "kinematic", *arguments])
    assert exit_info.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--width", "640", "--height", "100"], "640x100"),
        (["--socket", "/nowhere/x.sock"], "cannot listen at /nowhere/x.sock"),
        (["--socket", "/tmp/" + "x" * 200], "longer than"),
        (["--frames", "/nowhere/x.frames"], "cannot make the frame file /nowhere/x.frames"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--socket", str(tmp_path / "a.sock"), "--frames", str(tmp_path / "a.frames")]
    assert main(["--world", "kinematic", *places, *arguments]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_its_killed_parent(tmp_path: Path, wait_until: Any) -> None:
    address = str(tmp_path / "a.sock")
    options = [
        "--world",
        "kinematic",
        "--socket",
        address,
        "--frames",
        str(tmp_path / "a.frames"),
        "--exit-with-parent",
    ]
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-m', 'vla_rft_sim.world_process', *{options!r}])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == f"sim_world ready {address}\n"
        assert connect_truth(address).status().steps >= 0
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait(10)
    wait_until(lambda: not any(tmp_path.iterdir()), "socket and frames removed")
    wait_until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), "process ended")


def is_zombie(pid: int) -> bool:
    """Ended, but nobody has asked for its exit code (an orphan in a container without init)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_without_asking_for_it_it_outlives_its_parent(tmp_path: Path) -> None:
    address = str(tmp_path / "a.sock")
    options = ["--world", "kinematic", "--socket", address, "--frames", str(tmp_path / "a.frames")]
    script = (
        "import subprocess, sys\n"
        f"command = [sys.executable, '-m', 'vla_rft_sim.world_process', *{options!r}]\n"
        "child = subprocess.Popen(command, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
    )
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    child = int(parent.stdout)
    try:
        assert connect_truth(address).status().steps >= 0
    finally:
        os.kill(child, signal.SIGTERM)


def test_default_address_is_per_user_and_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    address = Path(default_address())
    assert address == tmp_path / "vla_rft" / "sim_world-17.sock"
    assert address.parent.stat().st_mode & 0o777 == 0o700
    address.parent.chmod(0o755)
    with pytest.raises(DeviceError, match="closed to others"):
        default_address()


def test_without_a_runtime_directory_the_default_address_is_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "of this shell"))
    directory = Path(default_address()).parent
    assert directory == tmp_path / ".cache" / "vla_rft"
    assert directory.stat().st_mode & 0o777 == 0o700


class CountingWorld(KinematicWorld):
    """Counts steps; ends the loop after `limit`, and may be slow once."""

    def __init__(self, limit: int) -> None:
        super().__init__(width=64, height=48)
        self.limit, self.steps = limit, 0
        self.loop: RealTimeLoop | None = None

    def advance(self, duration_ns: int) -> None:
        super().advance(duration_ns)
        self.steps += 1
        if self.steps == self.limit and self.loop is not None:
            self.loop.end()


def times_of_steps(delay_ns: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], RealTimeLoop]:
    """When 60 steps begin, the tenth of which takes `delay_ns`, and the loop that made them."""
    now = [0]

    def get(self: Any, timeout: float) -> Any:
        now[0] += round(timeout * 1e9)
        raise queue.Empty

    monkeypatch.setattr("vla_rft_sim.realtime.time.monotonic_ns", lambda: now[0])
    monkeypatch.setattr(
        "vla_rft_sim.realtime.queue.SimpleQueue", type("Q", (), {"get": get, "get_nowait": lambda s: s.get(0)})
    )
    world = CountingWorld(limit=60)
    times: list[int] = []

    def advance(duration_ns: int) -> None:
        times.append(now[0])
        if len(times) == 10:
            now[0] += delay_ns
        CountingWorld.advance(world, duration_ns)

    monkeypatch.setattr(world, "advance", advance)
    world.loop = RealTimeLoop(world)
    world.loop.run()
    return times, world.loop


def test_a_short_delay_is_caught_up_with(monkeypatch: pytest.MonkeyPatch) -> None:
    times, loop = times_of_steps(100_000_000, monkeypatch)
    assert times[-1] == 59 * 5_000_000
    assert (loop.punctuality.late_steps, loop.punctuality.lost_ns) == (0, 0)


def test_a_long_delay_is_reported_and_its_time_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    times, loop = times_of_steps(1_000_000_000, monkeypatch)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps == [5_000_000] * 9 + [1_000_000_000] + [5_000_000] * 49
    assert (loop.punctuality.late_steps, loop.punctuality.lost_ns) == (1, 995_000_000)


def test_an_ended_loop_says_so() -> None:
    world = CountingWorld(limit=1)
    world.loop = RealTimeLoop(world)
    world.loop.run()
    with pytest.raises(LoopEndedError, match="ending"):
        world.loop.call(world.describe)


def test_a_failing_world_ends_the_process_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(self: KinematicWorld, duration_ns: int) -> None:
        raise DeviceError("the physics failed")

    monkeypatch.setattr(KinematicWorld, "advance", explode)
    places = ["--socket", str(tmp_path / "a.sock"), "--frames", str(tmp_path / "a.frames")]
    assert main(["--world", "kinematic", *places]) == 1
    assert capsys.readouterr().err == "sim_world: the physics failed\n"
    assert list(tmp_path.iterdir()) == []


def run_without(patch: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The towel world in a process where something is missing."""
    places = ["--socket", str(tmp_path / "a.sock"), "--frames", str(tmp_path / "a.frames")]
    script = f"import sys\n{patch}\nfrom vla_rft_sim.world_process import main\nsys.exit(main({places!r}))"
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_missing_mujoco_or_opengl_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    without_mujoco = run_without("sys.modules['mujoco'] = None", tmp_path, MUJOCO_GL="disable")
    without_opengl = run_without("", tmp_path, MUJOCO_GL="disable")
    for result, sentence in ((without_mujoco, "needs MuJoCo"), (without_opengl, "needs off-screen OpenGL")):
        assert result.returncode == 1 and result.stdout == ""
        assert sentence in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_towel_world_serves_frames_and_truth(start_world: Callable[..., Any]) -> None:
    pytest.importorskip("mujoco")
    world = start_world("--world", "towel", "--seed", "4")
    truth, camera = connect_truth(world.address), connect_camera(world.address, "front")
    towel = truth.truth()
    assert towel.corners.shape == (4, 3) and towel.grasped_vertices == 0 and not towel.success
    placement = truth.reset(9)
    assert truth.truth().corners[:, 0].mean() == pytest.approx(placement.x, abs=0.01)
    assert truth.status().placement == str(placement)
    first, second = camera.read(10.0), camera.read(10.0)
    assert first is not None and second is not None and first.depth is not None
    assert second.number > first.number and second.stamp_ns > first.stamp_ns
    assert (first.color != second.color).any(), "a real sensor is never silent"
    assert 300 < float(first.depth[240, 320]) < 2000
    assert world.end() == 0
