"""The Flexiv GN01 gripper over the arm's connection: enable, initialise, then move within the limits it reports."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from vla_rft_core.errors import ConnectionLostError, DeviceError
from vla_rft_core.motion_profile import MotionProfile
from vla_rft_core.types import GripperState
from vla_rft_hardware.flexiv_link import FlexivLink

_SETTLE_S = 10.0
"""How much longer than announced the fingers may move while they initialise [s]."""


class FlexivGripper:
    """Satisfies `Gripper`. While it is not enabled its width and force are unknown: not a number."""

    def __init__(self, link: FlexivLink, profile: MotionProfile) -> None:
        self._link: FlexivLink | None = link
        self._profile = profile
        self._session = 0  # the connection in which it was initialised; 0 = it must be done (again)
        self._limits: Any = None
        self._last: GripperState | None = None

    @property
    def ready(self) -> bool:
        """Enabled and initialised in the present connection."""
        return self._link is not None and self._session == self._link.sessions

    def state(self) -> GripperState:
        """The newest measurement."""
        link = self._opened()
        with link.lock:
            link.require_connected()
            stamp_ns = link.clock.realtime_ns()
            if not self.ready:
                return GripperState(stamp_ns, math.nan, math.nan, False)
            if not self._is_enabled(link):
                self._session = 0  # disabled behind our back: unknown until it is prepared again, and `move` says so
                return GripperState(stamp_ns, math.nan, math.nan, False)
            states = link.call("Gripper.states")
        self._last = GripperState(stamp_ns, float(states.width), float(states.force), bool(states.is_moving))
        return self._last

    def _is_enabled(self, link: FlexivLink) -> bool:
        """Our gripper is the enabled one; without any, the library refuses the question."""
        try:
            return bool(link.call("Gripper.params").name == self._profile.gripper)
        except ConnectionLostError:
            raise
        except DeviceError:
            return False

    def prepare(self) -> list[str]:
        """Enable and initialise (the fingers move): the steps done, in words; none when they were done before."""
        link = self._opened()
        link.require_connected()
        if self.ready:
            return []
        steps = [self._enable(link)]
        link.call("Gripper.Init")
        link.sleep(self._profile.gripper_init_s)
        if not link.wait(lambda: not link.call("Gripper.states").is_moving, _SETTLE_S):
            limit_s = self._profile.gripper_init_s + _SETTLE_S
            raise DeviceError(f"the gripper still moves {limit_s:g} s after Init; look whether its fingers are blocked")
        self._limits = _checked(link.call("Gripper.params"))
        self._session = link.sessions
        low, high = self._limits.min_width, self._limits.max_width
        return [*steps, f"gripper: initialised, opens {low:g} to {high:g} m"]

    def _enable(self, link: FlexivLink) -> str:
        name = self._profile.gripper
        try:
            link.call("Gripper.Enable", name)
        except ConnectionLostError:
            raise
        except DeviceError as refusal:
            if self._is_enabled(link) or _says_enabled(str(refusal), name):  # by an earlier connection
                link.call("Gripper.Disable")  # so that enabling tells this one its limits
                link.call("Gripper.Enable", name)
                return f"gripper: enabled {name} anew"
            raise DeviceError(f"{refusal}; the motion profile {self._profile.name!r} wants {name!r}") from None
        return f"gripper: enabled {name}"

    def move(self, width: float) -> None:
        """Go to an opening [m], brought into the gripper's own limits; returns on delivery."""
        if not math.isfinite(width):
            raise ValueError(f"gripper width must be finite, got {width}")
        link, profile = self._opened(), self._profile
        link.require_connected()
        if not self.ready:
            raise DeviceError("the gripper is not enabled; set the mode READY first")
        limits = self._limits
        target = (
            _within(float(width), limits.min_width, limits.max_width),
            _within(profile.gripper_speed, limits.min_vel, limits.max_vel),
            _within(profile.gripper_force, limits.min_force, limits.max_force),
        )
        try:
            link.call("Gripper.Move", *target)
        except DeviceError:
            self._session = 0  # whatever it was, enable and initialise anew before the next attempt
            raise

    def diagnostics(self) -> Mapping[str, str]:
        """Cached words for an operator; asks the gripper nothing."""
        values = {"gripper": f"{self._profile.gripper}, {'initialised' if self.ready else 'not initialised'}"}
        if self._limits is not None:
            values["gripper limits"] = f"{self._limits.min_width:g} to {self._limits.max_width:g} m"
        if self._last is not None:
            values["gripper width"] = f"{self._last.width:.4f} m"
            values["gripper force"] = f"{self._last.force:.1f} N"
        return values

    def close(self) -> None:
        """Let go of the connection; the fingers stay as they are."""
        if self._link is not None:
            self._link.leave()
            self._link = None

    def _opened(self) -> FlexivLink:
        if self._link is None:
            raise DeviceError("this gripper was closed")
        return self._link


def _says_enabled(text: str, name: str) -> bool:
    """A refusal to enable because a gripper is enabled already, and it names no other one than ours."""
    return " enabled" in text and set(re.findall(r"\[([^\]:]+)\]", text)) <= {name}


def _checked(params: Any) -> Any:
    """The gripper's limits; DeviceError when they cannot be ones, as when it was never enabled."""
    for what in ("width", "vel", "force"):
        low, high = getattr(params, f"min_{what}"), getattr(params, f"max_{what}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise DeviceError(f"the gripper reports {what} limits {low} to {high}; enable it in Elements and try again")
    return params


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, float(low)), float(high))
