"""Checks before motion: how one is registered by name, what it returns, and how all of them are run.

Knows nothing of what is checked. `checks_host`, `checks_robot` and `checks_camera` register theirs on import; other
rooms add their own with the same decorator.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from vla_rft_core.config import did_you_mean
from vla_rft_core.errors import DeviceError
from vla_rft_hardware.bench import Bench


class Status(StrEnum):
    """How a check ended."""

    GREEN = "green"
    """As it has to be."""
    YELLOW = "yellow"
    """Not wrong, but worth knowing: not checkable now, or done later."""
    RED = "red"
    """Do not move the arm before this is put right."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One line of the doctor: `CheckResult(name="e-stop", status=Status.RED, words="pressed", remedy="release it")`."""

    name: str
    status: Status
    words: str
    """What was found, with the numbers."""
    remedy: str = ""
    """What to do about it; never empty when red."""

    def __post_init__(self) -> None:
        if self.status is Status.RED and not self.remedy:
            raise ValueError(f"check {self.name!r} is red and says no remedy")


@dataclass(frozen=True)
class Found:
    """What a check function returns: a result that does not know its name."""

    status: Status
    words: str
    remedy: str = ""


def green(words: str) -> Found:
    """As it has to be."""
    return Found(Status.GREEN, words)


def yellow(words: str, remedy: str = "") -> Found:
    """Worth knowing, and what can be done about it if anything."""
    return Found(Status.YELLOW, words, remedy)


def red(words: str, remedy: str) -> Found:
    """Wrong, and what to do."""
    return Found(Status.RED, words, remedy)


CheckFunction = Callable[[Bench], Found]
Function = TypeVar("Function", bound=CheckFunction)

CHECKS: dict[str, CheckFunction] = {}
"""Every registered check by name, in the order in which they are shown."""


def check(name: str) -> Callable[[Function], Function]:
    """Register the decorated function under `name`; ValueError when the name is taken."""

    def register(function: Function) -> Function:
        if name in CHECKS:
            raise ValueError(f"there is a check {name!r} already")
        CHECKS[name] = function
        return function

    return register


def run_checks(bench: Bench, *, skip: Collection[str] = (), without: Collection[str] = ()) -> Iterator[CheckResult]:
    """Every check's result, one by one; those in `skip` are yellow, those in `without` not mentioned.

    ValueError for a name to skip that is not registered.
    """
    for name in skip:
        if name not in CHECKS:
            raise ValueError(f"there is no check {name!r}{did_you_mean(name, list(CHECKS))}")
    for name, function in CHECKS.items():
        if name in without:
            continue
        found = yellow("skipped, as asked") if name in skip else _run(function, bench)
        yield CheckResult(name=name, status=found.status, words=found.words, remedy=found.remedy)


def _run(function: CheckFunction, bench: Bench) -> Found:
    try:
        return function(bench)
    except DeviceError as error:
        return red(str(error), "look at the device's own line above, then run the doctor again")
