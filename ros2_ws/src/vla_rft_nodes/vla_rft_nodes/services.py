"""Waiting for the answer of a service, from another thread than the one that spins the node."""

from __future__ import annotations

import threading
from typing import Any


def answer(client: Any, request: Any, *, timeout_s: float) -> Any:
    """The response; TimeoutError when none comes. The service must have been discovered, or the request is lost."""
    future = client.call_async(request)
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(timeout_s):
        raise TimeoutError
    return future.result()
