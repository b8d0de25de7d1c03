"""The connections of the vendor's library that a `sim_world` serves: sessions, calls that block, and what breaks them.

A blocking call lives here as a generator between two requests of its client; where the client is gone it stays as it is
and the robot too. Knows no sockets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Any

from vla_rft_core.types import ArmState, GripperState
from vla_rft_sim.box import ControllerBox
from vla_rft_sim.rdk_calls import GIL_STALL_S, RdkSession

_UNHURRIED = ("Robot.report", "Robot.actions", "Robot.event_log")
_SENT = "Robot.Send"
_LITE = ("Robot.Stop",)
_MAX_KEPT = 64


class RdkService:
    """Answers the requests `rdk` and `lite`: {call, arguments}, or {ticket} to go on with a call that blocks."""

    def __init__(
        self,
        box: ControllerBox,
        *,
        read: Callable[[], tuple[ArmState, GripperState]],
        run: Callable[[Callable[[], Any]], Any],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._box, self._read, self._run, self._post = box, read, run, post
        self._numbers = itertools.count(1)
        self._sessions: dict[int, RdkSession] = {}
        self._pending: dict[int, Generator[float, None, Any]] = {}

    def answer(self, fields: dict[str, Any], *, lite: bool = False) -> Any:
        """The session's number for the call `open`, else {value}, {raises}, {ticket, hold_s} or {lost}."""
        if "connection_lost" in self._box.injected:
            return {"lost": True}
        call = fields.get("call")
        if call == "open":
            return self._keep(self._sessions, RdkSession(self._box, self._read, self._post))
        if "ticket" in fields:
            generator = self._pending.pop(fields["ticket"], None)
            if generator is None:
                raise ValueError(f"no call is under way with the ticket {fields['ticket']!r}")
            answer = self._outcome(lambda: self._go_on(generator))
        else:
            session, arguments = self._sessions.get(fields.get("session", 0)), fields.get("arguments")
            if session is None or not isinstance(call, str) or not isinstance(arguments, list):
                raise ValueError(f"a call has a session, a name and arguments, got {fields!r}")
            if lite and call not in _LITE:
                raise ValueError(f"a lite connection may call {', '.join(_LITE)}, got {call!r}")
            answer = self._begin(session, call, arguments)
        if "gil_stall" in self._box.injected:
            self._box.inject("gil_stall", False)
            answer["stall_s"] = GIL_STALL_S
        return answer

    def _begin(self, session: RdkSession, call: str, arguments: list[Any]) -> dict[str, Any]:
        def start() -> Any:
            result = session.begin(call, arguments)
            return self._go_on(result) if isinstance(result, Generator) else {"value": result}

        if call in _UNHURRIED or call.startswith(_SENT):
            return _caught(start)
        return self._outcome(start)

    def _outcome(self, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `function` returns or raises between two steps of the world."""
        answer: dict[str, Any] = self._run(lambda: _caught(function))
        return answer

    def _go_on(self, generator: Generator[float, None, Any]) -> dict[str, Any]:
        try:
            hold_s = next(generator)
        except StopIteration as end:
            return {"value": end.value}
        return {"ticket": self._keep(self._pending, generator), "hold_s": hold_s}

    def _keep(self, kept: dict[int, Any], value: Any) -> int:
        number = next(self._numbers)
        kept[number] = value
        while len(kept) > _MAX_KEPT:
            del kept[next(iter(kept))]
        return number


def _caught(function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return function()
    except (ValueError, RuntimeError) as error:
        return {"raises": ["ValueError" if isinstance(error, ValueError) else "RuntimeError", str(error)]}
