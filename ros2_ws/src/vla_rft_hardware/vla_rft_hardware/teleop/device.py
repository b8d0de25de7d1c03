"""MappedDevice: axes and buttons of a device that is held, with or without pedals, as a `TeleopDevice`.

The dead-man decides: released, silent or gone, the arm holds. It must have been seen released before it counts.
"""

from __future__ import annotations

from vla_rft_core.clock import Clock, nanoseconds
from vla_rft_core.types import RobotState
from vla_rft_hardware.protocols import TeleopCommand
from vla_rft_hardware.teleop.inputs import Inputs, InputSource
from vla_rft_hardware.teleop.mapping import TeleopMapping, check_names
from vla_rft_hardware.teleop.pedals import PEDALS


class MappedDevice:
    """Satisfies `TeleopDevice` and `OperatorKeys`. Buttons of the pedals join those of the device."""

    def __init__(
        self, source: InputSource, mapping: TeleopMapping, *, clock: Clock, pedals: InputSource | None = None
    ) -> None:
        check_names(mapping, source.offers | PEDALS, source.name)
        self._source, self._pedals = source, pedals
        self._mapping, self._clock = mapping, clock
        self._motion = source.poll()
        self._held = self._motion.held | (pedals.poll().held if pedals is not None else frozenset())
        self._keys: list[str] = []
        self._toggle = False
        self._width: float | None = None
        # A dead-man that is down already, or was during a silence, does not count before it has been released.
        self._spent = bool(self._held.intersection(mapping.dead_man))
        self._moved_ns = self._heard_ns = clock.monotonic_ns()

    def start(self) -> None:
        """The lease is ours from now on: the fingers stay as they are."""
        self._toggle, self._width = False, None

    def read(self, state: RobotState) -> TeleopCommand:
        """The step of the next control period. DeviceError names the device that is gone."""
        self._poll()
        enabled = self._dead_man()
        reference_width = state.reference.width
        if not enabled:
            self._width = None
        elif self._toggle:
            self._width = self._mapping.toggled(reference_width if self._width is None else self._width)
        self._toggle = False
        translation, rotvec = self._mapping.step(self._motion.axes, self._held)
        return TeleopCommand(
            stamp_ns=self._clock.realtime_ns(),
            enabled=enabled,
            translation=translation,
            rotvec=rotvec,
            width=reference_width if self._width is None else self._width,
        )

    def recorder_keys(self) -> list[str]:
        """Recorder keys pressed since the last call."""
        self._poll()
        keys, self._keys = self._keys, []
        return keys

    def close(self) -> None:
        """Release the device and the pedals."""
        self._source.close()
        if self._pedals is not None:
            self._pedals.close()

    def _poll(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._motion = self._source.poll()
        if self._motion.heard:
            self._moved_ns = self._heard_ns = now_ns
        self._held = self._motion.held
        self._take(self._motion)
        if self._pedals is not None:
            feet = self._pedals.poll()
            self._held |= feet.held
            self._heard_ns = now_ns if feet.heard else self._heard_ns
            self._take(feet)

    def _take(self, inputs: Inputs) -> None:
        self._keys += self._mapping.recorder_keys(inputs.pressed)
        self._toggle |= any(button in self._mapping.gripper for button in inputs.pressed)

    def _dead_man(self) -> bool:
        """The dead-man is held and the device is alive."""
        mapping = self._mapping
        held = bool(self._held.intersection(mapping.dead_man))
        deflected = any(part.any() for part in mapping.step(self._motion.axes, frozenset()))
        quiet_ns = self._clock.monotonic_ns() - (self._moved_ns if deflected else self._heard_ns)
        if not held:
            self._spent = False
        elif quiet_ns > nanoseconds(mapping.deflected_silence_s if deflected else mapping.silence_s):
            self._spent = True
        return held and not self._spent
