"""How a camera that stopped delivering is brought back: ever stronger attempts, each with a limit. Knows no library.

A call into a vendor's library may hang for good. It is made on a thread of its own here, and left there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from vla_rft_core.errors import DeviceError

T = TypeVar("T")


class CameraRefusedError(DeviceError):
    """The camera is unusable as it is and no restart changes that: unplugged, at USB 2, without the profile."""


@dataclass(frozen=True, kw_only=True)
class RecoveryPolicy:
    """Limits of the stages; a camera that stays silent is given up after about their sum."""

    silence_s: float = 1.0
    """No frame for so long: recovery begins."""
    first_frame_s: float = 3.0
    """A started stream delivers within this, and so every frame after."""
    restarts: int = 2
    """How often the pipeline is restarted before the camera is reset."""
    call_s: float = 5.0
    """Starting or stopping that takes longer hangs."""
    gone_s: float = 3.0
    """A camera that left the bus is waited for so long."""
    reset_s: float = 15.0
    """The reset and the camera's return to the bus."""

    def __post_init__(self) -> None:
        limits = (self.silence_s, self.first_frame_s, self.call_s, self.gone_s, self.reset_s)
        if min(limits) <= 0.0 or self.restarts < 0:
            raise ValueError(f"recovery limits must be positive and restarts not negative, got {self}")


@dataclass(frozen=True)
class Stage:
    """One attempt: what it is called and what it does; it raises DeviceError when the camera still does not deliver."""

    name: str
    attempt: Callable[[], None]


def bounded(call: Callable[[], T], *, limit_s: float, what: str) -> T:
    """The result of a call that may hang; DeviceError when it does, and then it goes on alone."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except (RuntimeError, DeviceError) as error:
            future.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    try:
        return future.result(limit_s)
    except TimeoutError:
        raise DeviceError(f"it hung for {limit_s:g} s") from None
    except RuntimeError as error:
        raise DeviceError(_one_line(error)) from None


def recover(stages: Sequence[Stage], *, cause: str, report: Callable[[str], None]) -> None:
    """Go through the stages until one succeeds, reporting each in words.

    DeviceError with the cause and every stage's reason when none does; a CameraRefusedError ends it at once.
    """
    failures = []
    for stage in stages:
        report(f"{cause}: {stage.name}")
        try:
            stage.attempt()
        except CameraRefusedError:
            raise
        except DeviceError as error:
            failures.append(f"{stage.name}: {error}")
        else:
            report(f"{cause}: {stage.name} helped")
            return
    raise DeviceError(f"{cause}; gave up after {', '.join(failures)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
