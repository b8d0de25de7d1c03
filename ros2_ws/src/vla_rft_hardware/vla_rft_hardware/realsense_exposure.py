"""Exposure and white balance of the colour sensor: automatic while it settles, then locked and read back.

A D435i does not tell which exposure its automatic found, and falls back to the manual value when that is switched off.
So the manual exposure is moved until the picture is as bright as the automatic's was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_rft_core.errors import DeviceError
from vla_rft_core.types import Image

_BRIGHTNESS_TOLERANCE = 0.05
_CORRECTIONS = 8
_FRAMES_PER_CORRECTION = 4
"""A changed exposure shows a few frames later."""
_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class ExposureSettings:
    """What to lock; a value that is None is found by the camera (exposure) or is the device's present manual one."""

    settle_frames: int = 30
    """Frames dropped before the first one is delivered, while exposure settles."""
    restart_frames: int = 5
    """The same after a restart, with the locked values."""
    exposure: float | None = None
    """In the sensor's unit: 100 µs."""
    gain: float | None = None
    white_balance: float | None = None
    """[K]"""

    def __post_init__(self) -> None:
        if self.settle_frames < 1 or self.restart_frames < 1:
            raise ValueError("settle_frames and restart_frames: at least one frame is dropped")


@dataclass(frozen=True)
class LockedExposure:
    """What the device reports after locking; None for an option it does not have."""

    exposure: float | None
    gain: float | None
    white_balance: float | None
    brightness: float
    """Mean colour value (of 255) of the last picture looked at."""

    def __str__(self) -> str:
        values = [("exposure", self.exposure), ("gain", self.gain), ("white balance", self.white_balance)]
        return ", ".join(f"{name} {value:g}" for name, value in values if value is not None) or "nothing to lock"


def set_option(sensor: Any, option: Any, value: float) -> float:
    """Set an option and read it back: what it is now. Tried a few times; DeviceError with the library's words."""
    for attempt in range(_TRIES):
        try:
            sensor.set_option(option, value)
            return float(sensor.get_option(option))
        except RuntimeError as error:
            if attempt == _TRIES - 1:
                raise DeviceError(f"the option {option} was not set to {value:g}: {error}") from None
            time.sleep(0.05)
    raise AssertionError("unreachable")


class ExposureLock:
    """Locks one colour sensor. `next_image(n)` drops n frames and gives the picture of the last one."""

    def __init__(self, rs: Any, settings: ExposureSettings, *, fps: int) -> None:
        self._rs = rs
        self._settings = settings
        self._longest = 10_000 // fps  # in units of 100 µs; more would halve the frame rate
        self.locked: LockedExposure | None = None

    def settle(self, sensor: Any, next_image: Callable[[int], Image]) -> LockedExposure:
        """Settle and lock, or after a restart lock to the same values again."""
        option = self._rs.option
        self._set(sensor, option.auto_exposure_priority, 0.0)  # 1 would lower the frame rate in the dark
        if self.locked is None:
            self._set(sensor, option.enable_auto_exposure, 1.0 if self._settings.exposure is None else 0.0)
            self._set(sensor, option.enable_auto_white_balance, 1.0 if self._settings.white_balance is None else 0.0)
            wanted = float(np.mean(next_image(self._settings.settle_frames)))
            locked = self._lock(sensor, self._settings.exposure, self._settings.gain, self._settings.white_balance)
            if self._settings.exposure is None and locked.exposure is not None:
                locked = self._match(sensor, locked, wanted, next_image)
        else:
            locked = self._lock(sensor, self.locked.exposure, self.locked.gain, self.locked.white_balance)
            brightness = float(np.mean(next_image(self._settings.restart_frames)))
            locked = replace(locked, brightness=brightness)
        self.locked = locked
        return locked

    def _lock(
        self, sensor: Any, exposure: float | None, gain: float | None, white_balance: float | None
    ) -> LockedExposure:
        option = self._rs.option
        for automatic in (option.enable_auto_exposure, option.enable_auto_white_balance):
            if self._set(sensor, automatic, 0.0) not in (None, 0.0):
                raise DeviceError(f"the camera does not let go of {automatic}")
        return LockedExposure(
            exposure=self._set(sensor, option.exposure, exposure),
            gain=self._set(sensor, option.gain, gain),
            white_balance=self._set(sensor, option.white_balance, white_balance),
            brightness=0.0,
        )

    def _match(
        self, sensor: Any, locked: LockedExposure, wanted: float, next_image: Callable[[int], Image]
    ) -> LockedExposure:
        """Move the exposure until the picture is as bright as `wanted`, or as near as its range allows."""
        limits = sensor.get_option_range(self._rs.option.exposure)
        assert locked.exposure is not None
        exposure = locked.exposure
        for _ in range(_CORRECTIONS):
            brightness = float(np.mean(next_image(_FRAMES_PER_CORRECTION)))
            locked = replace(locked, exposure=exposure, brightness=brightness)
            if abs(brightness - wanted) <= _BRIGHTNESS_TOLERANCE * wanted:
                break
            better = round(exposure * min(4.0, max(0.25, wanted / max(brightness, 1.0))))
            better = min(max(better, limits.min), limits.max, max(limits.min, self._longest))
            if better == exposure:
                break
            exposure = set_option(sensor, self._rs.option.exposure, better)
        return replace(locked, exposure=exposure)

    @staticmethod
    def _set(sensor: Any, option: Any, value: float | None) -> float | None:
        """What the option is after setting it (None leaves it); None when the sensor lacks it."""
        if not sensor.supports(option):
            return None
        if value is None:
            return float(sensor.get_option(option))
        return set_option(sensor, option, value)
