"""EvaluatorClient: evaluator_node as a program sees it: start a study's trials, pause, say a word, watch.

It watches whatever study runs, whoever started it: an operator's page that is started again sees the running trial.
Its methods block: call them from another thread than the one that spins the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from action_msgs.msg import GoalStatus, GoalStatusArray
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default

from vla_rft_core.errors import DeviceError
from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.srv import JudgeTrial
from vla_rft_nodes import qos, topics
from vla_rft_nodes.services import answer, on_executor

ANSWER_S = 10.0
SILENT = "evaluator_node does not answer: is it running?"
RUNNING = (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING, GoalStatus.STATUS_CANCELING)

Listener = Callable[[RunTrials.Feedback], None]


class EvaluatorClient:
    """One study at a time. `on_feedback` is called from the thread that spins the node."""

    def __init__(self, node: Node, *, on_feedback: Listener = lambda feedback: None) -> None:
        self.feedback: RunTrials.Feedback | None = None
        """The newest of whatever study runs; None before the first."""
        self.running = False
        """A study runs, as far as is known."""
        self._on_feedback = on_feedback
        self._result: RunTrials.Result | None = None
        self._node = node
        self._action = ActionClient(node, RunTrials, topics.RUN_TRIALS)
        self._judge = node.create_client(JudgeTrial, topics.JUDGE_TRIAL)
        self._cancel = node.create_client(CancelGoal, f"{topics.RUN_TRIALS}/_action/cancel_goal")
        self._results = node.create_client(RunTrials.Impl.GetResultService, f"{topics.RUN_TRIALS}/_action/get_result")
        self._going: set[bytes] = set()
        message = RunTrials.Impl.FeedbackMessage
        node.create_subscription(message, f"{topics.RUN_TRIALS}/_action/feedback", self._heard, qos.EVENT)
        node.create_subscription(
            GoalStatusArray, f"{topics.RUN_TRIALS}/_action/status", self._told, qos_profile_action_status_default
        )

    @property
    def result(self) -> RunTrials.Result | None:
        """Of the goal that ended last, whoever started it; None while one runs, and before."""
        return self._result

    def start(self, study: Path, *, operator: str, limit: int = 0) -> None:
        """Run what is left of a study, at most `limit` trials (0: all). DeviceError when nobody answers."""
        self._result = None
        if not self._action.wait_for_server(ANSWER_S):
            raise DeviceError(SILENT)
        goal = RunTrials.Goal(study=str(study.resolve()), operator_name=operator, limit=limit)
        answered = threading.Event()

        def on_handle(future: Any) -> None:
            handle = future.result()
            if not handle.accepted:
                self._result = RunTrials.Result(error_code=RunTrials.Result.BUSY, error_msg="the evaluator refuses")
            answered.set()

        on_executor(self._node, lambda: self._action.send_goal_async(goal).add_done_callback(on_handle))
        if not answered.wait(ANSWER_S):  # a killed one is listed for a while, and answers nothing
            raise DeviceError(SILENT)

    def pause(self) -> None:
        """The running trial is brought to its end, and no other begins; whoever started them."""
        if not self._cancel.wait_for_service(ANSWER_S):
            raise DeviceError(SILENT)
        self._cancel.call_async(CancelGoal.Request())

    def judge(self, word: str, *, by: str, failure_mode: str = "", note: str = "") -> JudgeTrial.Response:
        """A person's word, and the evaluator's answer; DeviceError when none comes."""
        if not self._judge.wait_for_service(ANSWER_S):
            raise DeviceError(SILENT)
        request = JudgeTrial.Request(verdict=word, failure_mode=failure_mode, by=by, note=note)
        try:
            response: JudgeTrial.Response = answer(self._judge, request, timeout_s=ANSWER_S)
        except TimeoutError:
            raise DeviceError(f"evaluator_node gave no answer within {ANSWER_S:g} s") from None
        return response

    def _heard(self, message: Any) -> None:
        self.feedback = message.feedback
        self.running = True
        self._on_feedback(message.feedback)

    def _told(self, message: GoalStatusArray) -> None:
        going = {bytes(s.goal_info.goal_id.uuid) for s in message.status_list if s.status in RUNNING}
        self.running = bool(going)
        if going:
            self._result = None
        for goal in self._going - going:  # it has ended
            request = RunTrials.Impl.GetResultService.Request()
            request.goal_id.uuid = list(goal)
            self._results.call_async(request).add_done_callback(self._on_result)
        self._going = going

    def _on_result(self, future: Any) -> None:
        self._result = future.result().result
