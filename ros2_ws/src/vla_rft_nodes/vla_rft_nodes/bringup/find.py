"""Where things are: packages in the ament index, their executables, and the launch files. Knows no ROS library."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .model import LaunchError, alternatives

BRINGUP_PACKAGE = "vla_rft_bringup"
SUFFIX = ".launch.yaml"


def prefixes() -> list[Path]:
    """The ament prefixes in search order; an environment made of wheels is one itself and need not be sourced."""
    found = [Path(text) for text in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if text]
    own = Path(sys.prefix)
    if own not in found and (own / "share/ament_index").is_dir():
        found.append(own)
    return found


def package_prefix(package: str) -> Path | None:
    """The first prefix that has `package`, or None."""
    marker = Path("share/ament_index/resource_index/packages") / package
    return next((prefix for prefix in prefixes() if (prefix / marker).is_file()), None)


def package_share(package: str) -> Path:
    """`<prefix>/share/<package>`; without an installed bringup package, the source tree that holds `launch/`."""
    prefix = package_prefix(package)
    if prefix:
        return prefix / "share" / package
    if package == BRINGUP_PACKAGE and (tree := source_tree()):
        return tree
    raise LaunchError(f"package '{package}' is in none of {_searched()}")


def package_executable(package: str, executable: str) -> Path:
    """`<prefix>/lib/<package>/<executable>`, which must exist and be executable."""
    prefix = package_prefix(package)
    if not prefix:
        raise LaunchError(f"package '{package}' is in none of {_searched()}")
    folder = prefix / "lib" / package
    path = folder / executable
    if path.is_file() and os.access(path, os.X_OK):
        return path
    if path.is_file():
        raise LaunchError(f"{path} is not executable: build the workspace again, or chmod +x it")
    known = [entry.name for entry in folder.glob("*") if os.access(entry, os.X_OK)]
    raise LaunchError(f"package '{package}' has no executable '{executable}'{alternatives(executable, known)}")


def source_tree() -> Path | None:
    """The checkout this file belongs to, recognised by `launch/*.launch.yaml`; None for an installed wheel."""
    return next((tree for tree in Path(__file__).resolve().parents if any((tree / "launch").glob("*" + SUFFIX))), None)


def launch_files() -> dict[str, Path]:
    """Launch files by name (`demo` → `…/demo.launch.yaml`), from the installed package or else the source tree."""
    folder = package_share(BRINGUP_PACKAGE) / "launch"
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob("*" + SUFFIX))}


def launch_file(name: str) -> Path:
    """A launch file by name or by path."""
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return Path(name).resolve()
    known = launch_files()
    short = name.removesuffix(SUFFIX)
    if short in known:
        return known[short]
    if (tree := source_tree()) and (tree / "launch" / (short + SUFFIX)).is_file():
        raise LaunchError(f"launch file '{short}' is in {tree / 'launch'} but not installed: build the workspace")
    folder = package_share(BRINGUP_PACKAGE) / "launch"
    raise LaunchError(f"no launch file '{name}' in {folder}{alternatives(short, known)}")


def _searched() -> str:
    paths = ", ".join(map(str, prefixes()))
    return paths or "the ament prefixes, for there are none: source the workspace or use the environment that has ROS"
