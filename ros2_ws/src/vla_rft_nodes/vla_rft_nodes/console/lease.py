"""OperatorLease: many pages look, one operates. Survives a reload and a short gap, and never a longer absence.

Not thread-safe: it lives in the server's event loop. This is the page's lease; the arm's own is robot_node's.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable

GRACE_S = 8.0
"""How long a page that lost its connection keeps the lease [s]."""


class LeaseError(Exception):
    """Refused, in one sentence."""


class OperatorLease:
    """A page is known by the secret that it was given; nobody else is told it."""

    def __init__(self, clock: Callable[[], float], *, grace_s: float = GRACE_S) -> None:
        """`clock`: monotonic seconds."""
        self._clock, self._grace_s = clock, grace_s
        self._open: Counter[str] = Counter()
        self._page, self._name, self._at_cell = "", "", False
        self._left_at = 0.0

    def admit(self, page: str) -> str:
        """A connection opens: the page's secret, new unless it brings one that may be its own."""
        known = page if 20 <= len(page) <= 100 else secrets.token_urlsafe(18)
        self._open[known] += 1
        return known

    def leave(self, page: str) -> None:
        """A connection has closed."""
        self._open[page] -= 1
        if self._open[page] <= 0:
            del self._open[page]
            if page == self._page:
                self._left_at = self._clock()

    @property
    def viewers(self) -> int:
        """Pages that are connected."""
        return len(self._open)

    @property
    def holder(self) -> str:
        """Who operates, by name; empty when nobody does."""
        gone = self._page not in self._open and self._clock() - self._left_at > self._grace_s
        if self._page and gone:
            self._page = self._name = ""
        return self._name

    @property
    def absent_s(self) -> float:
        """How long the holder has been without a connection [s]; 0 while there is one, or no holder."""
        return self._clock() - self._left_at if self.holder and self._page not in self._open else 0.0

    @property
    def at_cell(self) -> bool:
        """The holder's page is the workstation's own."""
        return bool(self.holder) and self._at_cell

    def held_by(self, page: str) -> bool:
        """This page operates."""
        return bool(self.holder) and page == self._page

    def take(self, page: str, name: str, *, at_cell: bool) -> None:
        """LeaseError when somebody else operates, or without a name."""
        holder = self.holder
        if holder and page != self._page:
            raise LeaseError(f"{holder} has control; ask for it to be handed over")
        self._give(page, name, at_cell=at_cell)

    def take_over(self, page: str, name: str) -> None:
        """From whoever has it: for somebody who stands at the cell. LeaseError without a name."""
        self._give(page, name, at_cell=True)

    def give(self, page: str) -> None:
        """The holder lets go."""
        if self.held_by(page):
            self._page = self._name = ""

    def _give(self, page: str, name: str, *, at_cell: bool) -> None:
        name = " ".join(name.split())[:40]
        if not name:
            raise LeaseError("say who you are: your name goes into the records")
        self._page, self._name, self._at_cell = page, name, at_cell
