"""Real processes under the supervisor: how they end, what is said about it, and that none is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_rft_nodes.bringup import LaunchError, Supervisor, load
from vla_rft_nodes.bringup.__main__ import default_log_dir
from vla_rft_nodes.bringup.supervise import Grace

pytestmark = pytest.mark.realtime

# Writes its process id into a file, so that the test can look for it whatever becomes of its parents.
REGISTER = "import os, signal, subprocess, sys, time; open(f'{os.environ[\"PIDS\"]}/{os.getpid()}', 'w').close()\n"
SLEEP = REGISTER + "time.sleep(600)\n"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
DEAF = STUBBORN + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
GRANDCHILD = REGISTER + (
    "deaf = 'import signal; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)];' + os.environ['SLEEP']\n"
    "for session in (False, True):\n"
    "    subprocess.Popen([sys.executable, '-S', '-c', deaf], start_new_session=session)\n"
)


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder in which the processes of a test register; at the end none of them may be left."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("PIDS", str(folder))
    monkeypatch.setenv("SLEEP", SLEEP)
    yield folder
    left = [pid for pid in registered(folder) if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def registered(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is not alive."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen; gives up only long after it should have."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.02)


def launch_file(tmp_path: Path, **programs: dict[str, object]) -> Path:
    """A launch file with one `executable` per keyword: its Python source and further keys."""
    actions = []
    for name, program in programs.items():
        source = tmp_path / f"{name}.py"
        source.write_text(str(program.pop("source")))
        actions.append({"executable": {"name": name, "cmd": f"{sys.executable} -S {source}", **program}})
    path = tmp_path / "sample.launch.yaml"
    path.write_text(yaml.safe_dump({"launch": actions}))
    return path


def bringup(path: Path, *options: str, **settings: Any) -> subprocess.Popen[Any]:
    command = [
        sys.executable,
        "-m",
        "vla_rft_nodes.bringup",
        str(path),
        "--log-dir",
        str(path.parent / "log"),
        *options,
    ]
    return subprocess.Popen(command, **{"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings)


# --- a process that ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("sys.exit(0)", 0, "first ended with exit code 0"),
        ("sys.exit(3)", 3, "first ended with exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "first ended with signal SIGKILL"),
    ],
)
def test_a_required_process_takes_the_others_along(tmp_path: Path, pids: Path, end: str, code: int, words: str) -> None:
    source = (
        REGISTER + f"print('the reason', file=sys.stderr)\nwhile len(os.listdir(os.environ['PIDS'])) < 2: pass\n{end}"
    )
    path = launch_file(tmp_path, first={"source": source, "on_exit": "shutdown"}, second={"source": SLEEP})
    process = bringup(path)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr.count(words) == 1
    assert stderr.count("the reason") == (code != 0)
    assert "the reason" in (tmp_path / "log/first.log").read_text()
    assert len(registered(pids)) == 2


def test_any_other_process_may_end(tmp_path: Path, pids: Path) -> None:
    waiting = REGISTER + "while not os.path.exists(os.environ['PIDS'] + '/../go'): time.sleep(0.01)"
    path = launch_file(
        tmp_path,
        helper={"source": REGISTER + "sys.exit(4)"},
        main={"source": waiting + "\nsys.exit(0)", "on_exit": "shutdown"},
    )
    process = bringup(path)
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("helper ended with exit code 4 (the others go on)" in line for line in lines)
    (tmp_path / "go").touch()
    _, stderr = process.communicate(timeout=60)
    assert "main ended with exit code 0" in stderr
    assert process.returncode == 0


def test_it_ends_when_nothing_is_left_with_the_first_failure(tmp_path: Path, pids: Path) -> None:
    path = launch_file(tmp_path, good={"source": REGISTER}, bad={"source": REGISTER + "sys.exit(5)"})
    process = bringup(path)
    assert "all processes have ended" in process.communicate(timeout=60)[1]
    assert process.returncode == 5


def test_a_program_that_does_not_exist_is_one_sentence(tmp_path: Path, pids: Path) -> None:
    path = launch_file(tmp_path, sleeper={"source": SLEEP})
    document = yaml.safe_load(path.read_text())
    document["launch"].append({"executable": {"cmd": "no_such_program", "name": "ghost"}})
    path.write_text(yaml.safe_dump(document))
    process = bringup(path)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr == "bringup: cannot start 'ghost': no_such_program: No such file or directory\n"


# --- being told to stop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_stop_stops_everything_cleanly(tmp_path: Path, pids: Path, number: signal.Signals) -> None:
    polite = REGISTER + "try: time.sleep(600)\nexcept KeyboardInterrupt: print('good bye')\n"
    path = launch_file(tmp_path, one={"source": polite, "on_exit": "shutdown"}, two={"source": SLEEP})
    process = bringup(path)
    wait_until(lambda: len(registered(pids)) == 2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopping everything" in stderr
    assert "ended with" not in stderr
    assert (tmp_path / "log/one.log").read_text() == "good bye\n"


def test_a_second_and_third_request_hasten_the_end_of_the_deaf(tmp_path: Path, pids: Path) -> None:
    path = launch_file(tmp_path, deaf={"source": DEAF + SLEEP}, other={"source": STUBBORN + SLEEP})
    process = bringup(path)
    wait_until(lambda: len(registered(pids)) == 2)
    assert process.stderr
    for request in range(3):
        process.send_signal(signal.SIGINT)
        if request == 0:
            assert any("stopping everything" in line for line in iter(process.stderr.readline, ""))
        time.sleep(0.1)  # equal signals that are pending at once would be delivered as one
    _, stderr = process.communicate(timeout=60)
    assert "deaf did not stop when asked (SIGINT) and was forced to" in stderr
    assert process.returncode == 0


def test_sigkill_of_bringup_leaves_nothing(tmp_path: Path, pids: Path) -> None:
    """Neither its children nor grandchildren that ignore signals, one of them in a session of its own."""
    path = launch_file(tmp_path, parent={"source": GRANDCHILD + "time.sleep(600)"}, deaf={"source": DEAF + SLEEP})
    process = bringup(path)
    wait_until(lambda: len(registered(pids)) == 4)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(map(alive, registered(pids))))


# --- the supervisor as tests use it ----------------------------------------------------------------------------------


def test_grandchildren_are_stopped_with_the_grace_given(tmp_path: Path, pids: Path) -> None:
    path = launch_file(tmp_path, parent={"source": GRANDCHILD})
    supervisor = Supervisor(load(str(path)), log_dir=tmp_path / "log", grace=Grace(sigterm_s=0.1, sigkill_s=0.2))
    with supervisor:
        supervisor.start()
        wait_until(lambda: len(registered(pids)) == 3 and supervisor.returncode("parent") == 0)
        assert sum(map(alive, registered(pids))) == 2
    assert not any(map(alive, registered(pids)))


def test_processes_can_be_started_killed_and_restarted_one_by_one(tmp_path: Path, pids: Path) -> None:
    path = launch_file(tmp_path, a={"source": SLEEP, "on_exit": "shutdown"}, b={"source": SLEEP})
    with Supervisor(load(str(path)), log_dir=tmp_path / "log") as supervisor:
        supervisor.start("a")
        assert supervisor.running() == ["a"]
        supervisor.start("b")
        wait_until(lambda: set(registered(pids)) == {supervisor.pid("a"), supervisor.pid("b")})
        supervisor.send_signal("a", signal.SIGKILL)
        wait_until(lambda: supervisor.returncode("a") is not None)
        (ended,) = supervisor.poll()
        assert (ended.spec.name, ended.code, ended.cause) == ("a", 137, "signal SIGKILL")
        assert (supervisor.poll(), supervisor.running()) == ([], ["b"])
        supervisor.start("a")
        assert supervisor.running() == ["a", "b"]
        with pytest.raises(LaunchError, match="running already"):
            supervisor.start("b")
        with pytest.raises(LaunchError, match="no process 'c' in sample; known: a, b"):
            supervisor.start("c")
        wait_until(lambda: len(registered(pids)) == 3)
    assert supervisor.running() == []


def test_environment_of_a_process(tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs beside this Python are found without activating anything; the launch file's `env` comes last."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("COLOUR", "red")
    shown = "print(*(os.environ[n] for n in ('COLOUR', 'SIZE', 'PATH', 'ROS_LOG_DIR')), sep='|')"
    env = [{"name": "COLOUR", "value": "blue"}, {"name": "SIZE", "value": "$(env COLOUR) 2"}]
    path = launch_file(tmp_path, show={"source": REGISTER + shown, "env": env})
    with Supervisor(load(str(path)), log_dir=tmp_path / "log") as supervisor:
        supervisor.start()
        wait_until(lambda: supervisor.returncode("show") == 0)
    programs = Path(sys.executable).parent
    expected = f"blue|red 2|{programs}:/usr/bin:/bin|{tmp_path}/log/ros\n"
    assert (tmp_path / "log/show.log").read_text() == expected


# --- output ----------------------------------------------------------------------------------------------------------


def test_output_goes_where_each_process_wants_it(tmp_path: Path, pids: Path) -> None:
    path = launch_file(
        tmp_path,
        raw={"source": "import sys; sys.stdout.write('\\r10 %\\r20 %'); sys.stderr.write('odd')", "output": "screen"},
        lines={"source": "print('a line'); print('no end', end='')", "output": "both"},
        quiet={"source": "print('only in the file')"},
    )
    stdout, stderr = bringup(path, text=False).communicate(timeout=60)
    assert stdout == b"\r10 %\r20 %"
    assert b"odd" in stderr
    assert b"[lines] a line\n" in stderr and b"[lines] no end\n" in stderr
    assert b"only in the file" not in stderr
    assert b"\r10 %\r20 %" in (tmp_path / "log/raw.log").read_bytes()
    assert (tmp_path / "log/quiet.log").read_text() == "only in the file\n"
    assert "[quiet] only in the file\n" in bringup(path, "--verbose").communicate(timeout=60)[1]


def test_a_progress_bar_survives_lines_of_other_processes(tmp_path: Path, pids: Path) -> None:
    """On a terminal the unfinished line is wiped, the other's line printed, and the unfinished line drawn again."""
    wait_for = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"
    talk, end = str(tmp_path / "talk"), str(tmp_path / "end")
    bar = "import os; print('width', os.get_terminal_size().columns, '10 %', end='\\r', flush=True)\n"
    path = launch_file(
        tmp_path,
        bar={"source": bar + wait_for.format(end), "output": "screen", "emulate_tty": True, "on_exit": "shutdown"},
        talk={"source": wait_for.format(talk) + "print('hello')", "output": "both"},
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 77))
    process = bringup(path, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = read_until(ours, b"", b"width 77 10 %\r")
    Path(talk).touch()
    shown = read_until(ours, shown, b"hello\r\nwidth 77 10 %\r")
    Path(end).touch()
    shown = read_until(ours, shown, None)
    assert process.wait(timeout=60) == 0
    assert b"\r\x1b[K\x1b[" in shown.partition(b"hello")[0]
    assert b"bar ended with exit code 0" in shown


def read_until(terminal: int, shown: bytes, words: bytes | None) -> bytes:
    """All that was shown, once `words` are in it; with None, once the terminal's last user has gone."""
    while words is None or words not in shown:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how a pseudo-terminal ends
            data = b""
        if not data:
            assert words is None, f"{words!r} is not in {shown!r}"
            os.close(terminal)
            break
        shown += data
    return shown


def test_logs_go_to_the_run_folder_or_to_ros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = launch_file(tmp_path, quiet={"source": ""})
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "ros"))
    assert default_log_dir(load(str(path))).parent == tmp_path / "ros"
    document = yaml.safe_load(path.read_text())
    document["launch"].insert(0, {"arg": {"name": "run_dir", "default": ""}})
    path.write_text(yaml.safe_dump(document))
    assert default_log_dir(load(str(path))).parent == tmp_path / "ros"
    assert default_log_dir(load(str(path), {"run_dir": "runs/demo-1"})) == Path("runs/demo-1/log")
