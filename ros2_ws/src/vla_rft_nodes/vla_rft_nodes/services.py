"""Asking others from another thread than the one that spins the node: a service's answer, an action's goal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.node import Node


def answer(client: Any, request: Any, *, timeout_s: float) -> Any:
    """The response; TimeoutError when none comes. The service must have been discovered, or the request is lost."""
    future = client.call_async(request)
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(timeout_s):
        raise TimeoutError
    return future.result()


def on_executor(node: Node, work: Callable[[], Any]) -> None:
    """Have the thread that spins the node do `work`, soon.

    Goals are sent so: rclpy's action client notes a request after it was sent, and drops an answer that another thread
    takes in between ("Ignoring unexpected goal response").
    """
    assert node.executor is not None, "the node is not being spun"
    node.executor.create_task(work)
