"""What can go wrong while calibrating: one sentence each, fit for an operator. Nothing was written then."""

from __future__ import annotations

from vla_rft_core.errors import VlaRftError


class CalibrationError(VlaRftError):
    """The measurement cannot be made, or must not be used."""


class BoardNotSeenError(CalibrationError):
    """No board, or too little of it, in one picture; others may show it."""


class WrongBoardError(CalibrationError):
    """A board, but not the one that was named; or its picture is mirrored."""


class DegenerateError(CalibrationError):
    """The data do not determine what is asked of them."""


class CameraMovedError(CalibrationError):
    """The camera did not stand still while it was looked through."""
