"""RecorderClient: recorder_node as a program sees it: start an attempt, stop it, say what is to become of it.

Its methods block: call them from another thread than the one that spins the node. It knows neither arm nor operator.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.srv import LabelEpisode
from vla_rft_nodes import topics
from vla_rft_nodes.services import answer, on_executor

ANSWER_S = 10.0
FINISH_S = 30.0
"""Writing out, hashing and judging an attempt."""
SILENCE_S = 2.0
"""Feedback comes twice a second while an attempt is open; a recorder silent for longer records nothing any more [s]."""


class AttemptOpenError(DeviceError):
    """Another attempt is being recorded."""


class RecorderClient:
    """One attempt at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._action = ActionClient(node, RecordEpisode, topics.RECORD_EPISODE)
        self._labels = node.create_client(LabelEpisode, topics.LABEL_EPISODE)
        self._cancel = node.create_client(CancelGoal, f"{topics.RECORD_EPISODE}/_action/cancel_goal")
        self._changed = threading.Condition()
        self._asked = False
        self._goal: Any = None
        self._feedback: RecordEpisode.Feedback | None = None
        self._heard = 0.0
        self._result: RecordEpisode.Result | None = None

    @property
    def feedback(self) -> RecordEpisode.Feedback | None:
        """The newest of this attempt."""
        return self._feedback

    @property
    def result(self) -> RecordEpisode.Result | None:
        """Of this attempt; None while it is recorded."""
        return self._result

    @property
    def lost(self) -> str:
        """Why nothing is recorded any more though an attempt is open, in one sentence; empty when all is well."""
        if self._result is not None or self._feedback is None:
            return ""
        silent_s = time.monotonic() - self._heard
        return f"recorder_node has been silent for {silent_s:.1f} s" if silent_s > SILENCE_S else ""

    def start(self, request: RecordEpisode.Goal) -> None:
        """Returns once recording; DeviceError with the recorder's sentence when it refuses.

        AttemptOpenError when another attempt is open. Interrupted at any point, `stop` finishes what had begun.
        """
        self._asked = False
        if not self._action.wait_for_server(ANSWER_S):
            raise DeviceError("recorder_node does not answer: is it running?")
        self._goal = self._feedback = self._result = None
        self._asked = True
        on_executor(self._node, lambda: self._send(request))
        with self._changed:
            self._changed.wait_for(lambda: self._goal and (self._feedback or self._result), ANSWER_S)
        if self._result is not None:
            busy = self._result.error_code == RecordEpisode.Result.BUSY
            raise (AttemptOpenError if busy else DeviceError)(self._result.error_msg)
        if self._feedback is None:
            raise DeviceError(f"recorder_node did not begin to record within {ANSWER_S:g} s")

    def stop(self) -> RecordEpisode.Result | None:
        """Take nothing more, and wait for the verdict; None when nothing was asked for. DeviceError when none comes."""
        if not self._asked:
            return None
        with self._changed:
            self._changed.wait_for(lambda: self._goal is not None, ANSWER_S)
        if self._result is None and self._goal is not None:
            self._goal.cancel_goal_async()
            if self.lost:  # if it goes on some day, it finds the cancellation
                raise DeviceError("recorder_node did not finish the attempt")
            with self._changed:
                self._changed.wait_for(lambda: self._result is not None, FINISH_S)
        if self._result is None:
            raise DeviceError(f"recorder_node did not finish the attempt within {FINISH_S:g} s")
        return self._result

    def end_open(self) -> None:
        """Finish the attempt that somebody else, perhaps a terminal that is gone, left open."""
        self._call(self._cancel, CancelGoal.Request())

    def label(self, episode: str, label: str, *, outcome: str, by: str) -> LabelEpisode.Response:
        """Say what is to become of an attempt; DeviceError when that was refused."""
        request = LabelEpisode.Request(episode=episode, label=str(label), outcome=str(outcome), by=by)
        response: LabelEpisode.Response = self._call(self._labels, request)
        if response.error_code:
            raise DeviceError(response.error_msg)
        return response

    def undo(self, *, by: str) -> LabelEpisode.Response:
        """Take back the last decision."""
        return self.label("", LabelEpisode.Request.UNDO, outcome="", by=by)

    def _send(self, request: RecordEpisode.Goal) -> None:
        future = self._action.send_goal_async(request, feedback_callback=self._on_feedback)
        future.add_done_callback(self._on_answer)

    def _call(self, client: Any, request: Any) -> Any:
        if not client.wait_for_service(ANSWER_S):
            raise DeviceError("recorder_node does not answer: is it running?")
        try:
            return answer(client, request, timeout_s=ANSWER_S)
        except TimeoutError:
            raise DeviceError(f"recorder_node gave no answer within {ANSWER_S:g} s") from None

    def _on_feedback(self, message: Any) -> None:
        with self._changed:
            self._feedback, self._heard = message.feedback, time.monotonic()
            self._changed.notify_all()

    def _on_answer(self, future: Any) -> None:
        goal = future.result()
        with self._changed:
            self._goal = goal
            if not goal.accepted:
                self._result = RecordEpisode.Result(error_msg="recorder_node rejected the goal")
            self._changed.notify_all()
        if goal.accepted:
            goal.get_result_async().add_done_callback(self._on_result)

    def _on_result(self, future: Any) -> None:
        with self._changed:
            self._result = future.result().result
            self._changed.notify_all()
