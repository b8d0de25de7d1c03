"""Every command that README and docs print is understood by the program that it names. Parsed, not run.

A `make` target exists; a launch file makes a plan with these arguments; a module's own parser takes these words.
"""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
BEGINS = re.compile(r"^(?:\$ )?((?:[A-Z_]+=\S+ )*(?:make(?= )|ros2 launch|(?:\.venv/bin/)?python3? -m) .*)$")
NOT_OURS = ("pip", "pytest", "colcon", "http.server")
INCOMPLETE = re.compile(r"[<…]|\.\.\.|\[|\w\|\w")
"""Says of itself that it is a pattern and no command."""


class Understood(BaseException):
    """The command line was taken; nothing was done."""


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every line of a fenced block, and of every complete command within a sentence."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ").split("<!-- file map -->")[0]
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        sentences = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", sentences)
        for line in dict.fromkeys(lines):
            found = BEGINS.match(line)
            if found and not INCOMPLETE.search(line):
                yield page.name, re.split(r" (?:&&|\||>|&)(?: |$)", found[1])[0]


def understood(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the module up to where its arguments are parsed; SystemExit with another code than 0: they were refused."""

    def stopping(parse):
        def parse_and_stop(*given, **options):
            parse(*given, **options)
            raise Understood

        return parse_and_stop

    parser = argparse.ArgumentParser
    monkeypatch.setattr(parser, "parse_args", stopping(parser.parse_args))
    if find_spec("tyro") is not None:
        import tyro

        monkeypatch.setattr(tyro, "cli", stopping(tyro.cli))
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    if module == "vla_rft_nodes.doctor":  # registers its checks once per process
        monkeypatch.setattr("vla_rft_hardware.checks.CHECKS", {})
    with pytest.raises((Understood, SystemExit)) as ended, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that is imported already
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.type is Understood or ended.value.code == 0


@pytest.mark.parametrize(("page", "command"), [pytest.param(*found, id=": ".join(found)) for found in commands()])
def test_a_documented_command_is_understood(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    while "=" in words[0]:
        words.pop(0)
    if words[0] == "make":
        named = [word for word in words[1:] if "=" not in word]
        assert set(named) <= TARGETS, f"{page}: no such target"
        return
    if words[:2] == ["ros2", "launch"]:
        package, file, *given = words[2:]
        assert package == "vla_rft_bringup"
        launches(file.removesuffix(".launch.yaml"), given)
        return
    module, arguments = words[2], ["sim" if word == "PRESET" else word for word in words[3:]]
    if module.split(".")[0] in NOT_OURS:
        return
    if find_spec(module.split(".")[0]) is None:
        pytest.skip(f"{module} is not installed here")
    assert find_spec(module) is not None, f"{page}: no module {module}"
    if not arguments:
        return  # named, not called
    if module == "vla_rft_nodes.bringup" and arguments and not arguments[0].startswith("-"):
        launches(arguments[0], arguments[1:])
        return
    understood(module, arguments, monkeypatch)


def launches(name: str, given: list[str]) -> None:
    """The launch file takes these arguments."""
    bringup = pytest.importorskip("vla_rft_nodes.bringup")
    from vla_rft_nodes.bringup.__main__ import parse_arguments

    assert bringup.load(name, parse_arguments(given)).processes
