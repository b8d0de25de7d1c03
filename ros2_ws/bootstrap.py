#!/usr/bin/env python3
"""Set up this clone: system libraries, `.venv`, ROS 2 Jazzy, this project, our interfaces.

    python3 ros2_ws/bootstrap.py [--extra sim] [--extra dev] ...

Idempotent: what is already in place is left alone, so a second run takes well under a second; an interrupted
run is simply started again. Extras only add up. Two ways to have ROS:

* nothing sourced: the wheels of `requirements-jazzy.txt` go into `.venv`, which is then the ROS prefix, too,
  and colcon installs our packages into that prefix. Nothing has to be sourced, ever;
* `/opt/ros/<distro>` sourced: `.venv` sees the system's packages and colcon installs into `ros2_ws/install`.

Needs the standard library alone. It knows nothing of what the project does, and it starts nothing.
"""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path

WS = Path(__file__).resolve().parent
ROOT = WS.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "setup"
LOG = ROOT / ".setup.log"
SUPPORTED = ((3, 11), (3, 12))

# Runs in a process of its own: a broken GL stack may abort. Exit status 0: a headless context can be made.
EGL_PROBE = """
import ctypes
egl = ctypes.CDLL("libEGL.so.1")
egl.eglGetProcAddress.restype = ctypes.c_void_p
query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
    egl.eglGetProcAddress(b"eglQueryDevicesEXT"))
display_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)(
    egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT"))
devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int()
query(16, devices, ctypes.byref(count))
egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
displays = [display_of(0x313F, devices[i], None) for i in range(count.value)]
raise SystemExit(not any(d and egl.eglInitialize(d, None, None) for d in displays))
"""
OSMESA_PROBE = """
import ctypes, ctypes.util
osmesa = ctypes.CDLL(ctypes.util.find_library("OSMesa") or "libOSMesa.so.8")
osmesa.OSMesaCreateContextExt.restype = ctypes.c_void_p
raise SystemExit(not osmesa.OSMesaCreateContextExt(0x1908, 24, 0, 0, None))
"""
OPENCV_PROBE = 'import ctypes; ctypes.CDLL("libGL.so.1"); ctypes.CDLL("libgthread-2.0.so.0")'


class SetupError(Exception):
    """Something the user has to mend: one sentence, and the last lines of a failed command's output."""

    def __init__(self, sentence: str, *output: str) -> None:
        super().__init__(sentence)
        self.output = output


@contextmanager
def step(what: str):
    """Print one line for a step, with the seconds it took."""
    print(f"  {what} ...", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - start:.0f} s", flush=True)


def run(command: list, sorry: str, env: "dict | None" = None) -> None:
    """Run a command with its output in the log; show the end of it and raise `sorry` when it fails."""
    with LOG.open("a") as log:
        print("\n$", *command, file=log, flush=True)
        start = log.tell()
        result = subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=env or child_env(),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    if result.returncode:
        with LOG.open(errors="replace") as log:
            log.seek(start)
            tail = log.read().splitlines()[-15:]
        raise SetupError(f"{sorry} (the whole output is in {LOG.name}).", *tail)


def child_env(**changes: str) -> dict:
    """Return our environment for a child, without the marks of another Python (its ROS wheels leave one)."""
    dropped = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONHOME", "__PYVENV_LAUNCHER__"}
    return {**{k: v for k, v in os.environ.items() if k not in dropped}, **changes}


def digest(paths, *more: str) -> str:
    """Hash the names and contents of files, and a few words more."""
    h = hashlib.sha256(repr(more).encode())
    for path in sorted(paths):
        h.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return h.hexdigest()


def check_extras(extras: set) -> None:
    """Refuse an extra that pyproject.toml does not have; pip would only warn."""
    import tomllib  # not in the Pythons that ensure_python leaves behind

    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = sorted(extras - set(known))
    if unknown:
        raise SetupError(f"There is no extra {', '.join(unknown)}; pyproject.toml has {', '.join(sorted(known))}.")


def read_stamp(name: str) -> dict:
    """Return what a finished step noted, or {} where it has not finished."""
    try:
        return json.loads((STAMPS / name).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}


def write_stamp(name: str, stamp: dict) -> None:
    """Note that a step has finished; whole or not at all."""
    STAMPS.mkdir(exist_ok=True)
    scratch = STAMPS / f"{name}.new"
    scratch.write_text(json.dumps(stamp))
    scratch.replace(STAMPS / name)


# --- the machine --------------------------------------------------------------------------------------------


def ensure_python() -> None:
    """Continue under Python 3.11 or 3.12, by starting again with one from the PATH if need be."""
    if sys.version_info[:2] in SUPPORTED:
        return
    for name in () if ros_distro() else ("python3.12", "python3.11"):  # a sourced ROS decides the Python
        other = shutil.which(name)
        if other and subprocess.call([other, "-c", ""], stderr=subprocess.DEVNULL) == 0:  # pyenv's may only complain
            os.execv(other, [other, *sys.argv])
    here = "{}.{}".format(*sys.version_info)
    raise SetupError(f"Python 3.11 or 3.12 is needed: this is {here}, and no python3.12 or python3.11 is on the PATH.")


def probe(code: str) -> bool:
    """Tell whether a piece of Python succeeds in a process of its own."""
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True).returncode == 0


def headless_gl() -> str:
    """Return MuJoCo's name of a GL that works here without a display, or "" where there is none."""
    return "egl" if probe(EGL_PROBE) else "osmesa" if probe(OSMESA_PROBE) else ""


def missing_packages(extras: set) -> dict:
    """Return what this machine lacks: a name for people -> Debian packages that bring it."""
    py = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    have = {
        "a C++ compiler": (any(map(shutil.which, ("c++", "g++", "clang++"))), ["g++"]),
        "cmake": (shutil.which("cmake"), ["cmake"]),
        "make": (shutil.which("make"), ["make"]),
        "venv": (importlib.util.find_spec("ensurepip"), [f"{py}-venv"]),
        "Python's headers": (Path(sysconfig.get_paths()["include"], "Python.h").exists(), [f"{py}-dev"]),
        "OpenCV's libGL": (probe(OPENCV_PROBE), ["libgl1", "libglib2.0-0"]),
    }
    if "sim" in extras:
        have["EGL or OSMesa"] = (headless_gl(), ["libegl1", "libgl1-mesa-dri"])
    return {name: packages for name, (found, packages) in have.items() if not found}


def ensure_machine(extras: set) -> None:
    """Install what is missing when we may (root, with apt), otherwise say in one sentence what to install."""
    missing = missing_packages(extras)
    if not missing:
        return
    packages = [package for group in missing.values() for package in group]
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with step(f"installing {', '.join(missing)} ({' '.join(packages)})"):
            env = child_env(DEBIAN_FRONTEND="noninteractive")
            run(["apt-get", "update"], "apt-get update failed", env)
            run(install, f"apt-get could not install {' '.join(packages)}", env)
        importlib.invalidate_caches()
        missing = missing_packages(extras)
    if missing:
        raise SetupError(
            f"This machine lacks {', '.join(missing)}: run "
            f"`sudo apt-get update && sudo {' '.join(install)}` (or your system's equivalent) first."
        )


# --- the virtual environment --------------------------------------------------------------------------------


def ros_distro() -> str:
    """Return the name of the sourced ROS 2, or "" where there is none and the wheels are used."""
    return os.environ.get("ROS_DISTRO", "") if os.environ.get("AMENT_PREFIX_PATH") else ""


def site_packages() -> Path:
    """Return the site-packages folder of the virtual environment."""
    return VENV / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def ensure_venv(distro: str) -> None:
    """Make `.venv`, again when the one there is unfinished, of another Python, or for another kind of ROS."""
    python = f"{sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"
    wanted = {"python": python, "ros": distro or "wheels", "at": str(VENV)}
    if read_stamp("venv") == wanted:
        return
    again = VENV.exists()
    with step(f"{'remaking' if again else 'making'} .venv with Python {sys.version.split()[0]}"):
        if again:
            shutil.rmtree(VENV)
        system = ["--system-site-packages"] if distro else []
        command = [sys.executable, "-m", "venv", "--prompt", "vla-rft", *system, VENV]
        run(command, "The virtual environment could not be made")
    write_stamp("venv", wanted)


def output_of(python, code: str) -> str:
    """Return what a piece of Python prints, "" when it fails."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, env=child_env()).stdout.strip()


def pip_install(what: str, *arguments) -> None:
    """Install something into `.venv`, as one step."""
    pip = [VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    with step(f"installing {what}"):
        run([*pip, *arguments], f"pip could not install {what}: is there a network?")


def ensure_packages(distro: str, extras: set) -> None:
    """Install ROS and this project with its extras (those of earlier runs are kept)."""
    constraints, requirements = ROOT / "constraints.txt", WS / "requirements-jazzy.txt"
    wanted = {"key": digest([ROOT / "pyproject.toml", requirements, constraints]), "extras": sorted(extras)}
    if read_stamp("packages") == wanted:
        return
    (STAMPS / "packages").unlink(missing_ok=True)
    if distro:
        # ROS was compiled against the system's numpy; another major version would break its messages.
        constraints = STAMPS / "constraints.txt"
        constraints.write_text(f"numpy=={output_of(sys.executable, 'import numpy; print(numpy.__version__)')}\n")
    else:
        pip_install("ROS 2 Jazzy (wheels)", "-c", constraints, "-r", requirements)
    names = f"[{','.join(sorted(extras))}]" if extras else ""
    pip_install(f"vla-rft{names}", "-c", constraints, "-e", f".{names}")
    write_stamp("packages", wanted)


# --- our ROS packages ---------------------------------------------------------------------------------------


def correct_wheels() -> None:
    """Make the wheels a usable prefix: CMake files name their builder's Python; ament wants a variable."""
    numpy = output_of(VENV_PYTHON, "import numpy; print(numpy.get_include())")
    python = sysconfig.get_paths()["include"]
    builder = r"/opt/python/[^/;\"]+/(include/python3\.\d+|lib/python3\.\d+/site-packages/numpy/_core/include)"
    for path in VENV.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        ours = re.sub(builder, lambda m: python if m[1].startswith("include") else numpy, text)
        if ours != text:
            path.write_text(ours)
    # Read at every start of .venv/bin/python: ament_index finds the prefix without anything being sourced.
    hook = 'import os, sys; os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)\n'
    (site_packages() / "vla_rft_ros_prefix.pth").write_text(hook)


def colcon_for_wheels() -> tuple:
    """Return colcon with its arguments, and the environment, for `.venv` as the ROS prefix."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}"
    prefix = {"AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV), "LD_LIBRARY_PATH": str(VENV / "lib")}
    return [VENV / "bin" / "colcon"], ["--merge-install", "--install-base", VENV], child_env(PATH=path, **prefix)


def colcon_for_sourced_ros() -> tuple:
    """Return colcon with its arguments, and the environment, for a sourced ROS 2."""
    colcon = shutil.which("colcon")
    if not colcon:
        raise SetupError("colcon is missing: run `sudo apt-get install python3-colcon-common-extensions` first.")
    arguments = ["--install-base", WS / "install"]
    if any(Path(p, "share/tf2_msgs").is_dir() for p in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)):
        arguments += ["--packages-ignore", "tf2_msgs"]
    return [colcon], arguments, child_env()


def ensure_interfaces(distro: str) -> None:
    """Build our interfaces, the node executables and the launch files with colcon."""
    kinds = ("*.msg", "*.srv", "*.action", "CMakeLists.txt", "package.xml")
    sources = [path for kind in kinds for path in (WS / "src").rglob(kind)]
    launch = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "launch").rglob("*"))  # linked: names suffice
    wanted = {"key": digest([*sources, WS / "requirements-jazzy.txt"], *launch)}
    if read_stamp("interfaces") == wanted:
        return
    (STAMPS / "interfaces").unlink(missing_ok=True)
    with step("building interfaces and nodes with colcon"):
        if not distro:
            correct_wheels()
        colcon, arguments, env = colcon_for_sourced_ros() if distro else colcon_for_wheels()
        env.setdefault("MAKEFLAGS", f"-j{len(os.sched_getaffinity(0))}")  # colcon's own default waits on a busy machine
        scratch = VENV / "colcon"
        command = [*colcon, "--log-base", scratch / "log", "build", "--symlink-install", *arguments]
        command += ["--base-paths", WS / "src", "--build-base", scratch / "build", "--cmake-args"]
        command += [f"-DPython3_EXECUTABLE={VENV_PYTHON}", "-DBUILD_TESTING=OFF"]
        run(command, "colcon could not build our ROS packages", env)
    write_stamp("interfaces", wanted)


def main() -> int:
    """Run the steps in order; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extra", action="append", default=[], metavar="NAME", help="an extra of pyproject.toml")
    args = parser.parse_args()
    start = time.monotonic()
    try:
        ensure_python()
        check_extras(set(args.extra))
        with LOG.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two set-ups of one clone at once would undo each other
            distro = ros_distro()
            extras = set(args.extra)
            ensure_machine(extras)
            ensure_venv(distro)
            extras |= set(read_stamp("packages").get("extras", []))
            ensure_packages(distro, extras)
            ensure_interfaces(distro)
    except SetupError as error:
        print(*(f"    {line}" for line in error.output), f"set-up: {error}", sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: interrupted; run it again to continue.", file=sys.stderr)
        return 130
    print(f"set-up: ready ({time.monotonic() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
