"""A blinded study through ROS: what is said while it runs, a person's word, a killed evaluator, a wrong scene."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.action import ActionClient
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import Image

from vla_rft_interfaces.action import RunTrials
from vla_rft_interfaces.msg import SafetyStatus
from vla_rft_interfaces.srv import JudgeTrial, Rearm, ResetScene
from vla_rft_nodes import qos, topics
from vla_rft_nodes.bringup import Supervisor, load
from vla_rft_nodes.operate import spinning
from vla_rft_nodes.services import answer
from vla_rft_trials.records import Outcome, Termination
from vla_rft_trials.study import Study, lock
from vla_rft_trials.trial_log import read_log

# The graph keeps real time: on a computer that is busy elsewhere a trial may be held, and is repeated by the protocol.
pytestmark = [pytest.mark.ros, pytest.mark.realtime]

PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "grasp_noise.yaml"
PROCESSES = (
    "sim_world",
    "sim_node",
    "robot_node",
    "camera_node",
    "watchdog_node",
    "policy_switch_node",
    "evaluator_node",
)
PATIENCE_S = 90.0


def lock_small(folder: Path, **scene: float) -> Study:
    """Two placements, two policies."""
    content = yaml.safe_load(PROTOCOL.read_text())
    content["placements"]["count"] = content["trials_per_policy"] = 2
    content["scene"] |= scene
    folder.mkdir()
    (folder / "protocol.yaml").write_text(yaml.safe_dump(content))
    return lock(folder / "protocol.yaml", folder / "study")


class Operator:
    """A blind one: starts studies, speaks words, and listens to everything that there is to hear."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.feedback: list[Any] = []
        self.holds: list[str] = []
        self.handle: Any = None
        self.heard: dict[str, list[bytes]] = {}
        self._rearm = node.create_client(Rearm, topics.REARM)
        node.create_subscription(SafetyStatus, topics.SAFETY_STATUS, self._put_right, qos.LATCHED)
        self._action = ActionClient(node, RunTrials, topics.RUN_TRIALS)
        self._judge = node.create_client(JudgeTrial, topics.JUDGE_TRIAL)

    def _put_right(self, status: SafetyStatus) -> None:
        """A loaded computer misses a deadline, or the evaluator dies: the operator re-arms."""
        if status.latched:
            self.holds.append(status.reason)
            self._rearm.call_async(Rearm.Request(origin=Rearm.Request.TERMINAL))

    def listen(self) -> None:
        """Subscribe to every topic but the camera's and the simulator's own."""
        for name, types in self.node.get_topic_names_and_types():
            hidden = "_action" in name  # the goal's feedback comes anyway
            if name not in self.heard and not hidden and "/camera/" not in name and not name.startswith("/sim/"):
                self.heard[name] = []
                package, _, message = types[0].split("/")
                kind = getattr(importlib.import_module(f"{package}.msg"), message)
                self.node.create_subscription(kind, name, self.heard[name].append, qos.EVENT, raw=True)

    def start(self, study: Study, limit: int = 0) -> Any:
        """A goal: the future of its result. Sent again where a killed evaluator, still listed, has swallowed it."""
        goal = RunTrials.Goal(study=str(study.folder), operator_name="ada", limit=limit)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self._action.wait_for_server(PATIENCE_S)
            answered = threading.Event()
            sent = self._action.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append(m.feedback))
            sent.add_done_callback(lambda _, answered=answered: answered.set())
            if answered.wait(5.0):
                self.handle = sent.result()
                assert self.handle.accepted
                return self.handle.get_result_async()
        raise AssertionError("evaluator_node does not answer")

    def say(self, verdict: str, **more: str) -> Any:
        """A word, and the evaluator's answer."""
        assert self._judge.wait_for_service(PATIENCE_S)
        return answer(self._judge, JudgeTrial.Request(verdict=verdict, by="ada", **more), timeout_s=10.0)

    def parameters(self, name: str) -> str:
        """All that a node tells of its parameters, in words."""
        client = AsyncParameterClient(self.node, name)
        assert client.wait_for_services(10.0)
        listed = settled(client.list_parameters()).result.names
        return str(settled(client.get_parameters(listed)).values)


def settled(future: Any) -> Any:
    until(future.done, 10.0, "no answer")
    return future.result()


def until(condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.fixture
def supervisor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """The processes of the launch file, with the arguments that the test names."""
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    arguments = getattr(request, "param", {})
    with Supervisor(load("evaluate", arguments), log_dir=tmp_path / "log") as running:
        running.start(*PROCESSES)
        yield running


def test_a_blinded_study(supervisor: Supervisor, tmp_path: Path) -> None:
    study = lock_small(tmp_path / "blind")
    mapping = study.mapping()
    telling = {word for sealed in mapping.codes.values() for word in (sealed.name, sealed.digest)}
    telling |= {mapping.secret, "expert", "grasp_noise", "cm grasp"}
    with spinning("operator") as node:
        operator = Operator(node)
        result = operator.start(study)
        operator.listen()

        # A person's word ends the first trial.
        until(lambda: running(operator) > 0.5 or result.done(), PATIENCE_S, "no trial ran")
        assert not result.done(), result.result().result.error_msg
        operator.listen()
        refused = operator.say("success", failure_mode="dorp")
        assert refused.error_code == JudgeTrial.Response.BAD_REQUEST and "did you mean 'drop'" in refused.error_msg
        assert operator.say("scene").error_code == JudgeTrial.Response.NOT_NOW
        assert operator.say("failure", failure_mode="drop").trial == 1

        # The evaluator is killed in the second one: the arm is held.
        second = lambda: trial(operator) == 2 and running(operator) > 0.5  # noqa: E731
        until(lambda: second() or result.done(), PATIENCE_S, "no second trial ran")
        assert not result.done(), result.result().result.error_msg
        parameters = "".join(operator.parameters(name) for name in ("evaluator_node", "policy_switch_node"))
        commands = "".join(command_lines())
        held = len(operator.holds)
        supervisor.send_signal("evaluator_node", signal.SIGKILL)
        until(lambda: len(operator.holds) > held, 10.0, "the arm goes on unsupervised")
        assert "evaluator_node" not in supervisor.running() and not result.done()
        supervisor.start("evaluator_node")
        until(lambda: node.count_publishers(topics.TRIAL_RESULT) == 2, 20.0, "it is not seen")  # the dead one is, too
        time.sleep(1.0)
        operator.feedback.clear()
        result = operator.start(study, limit=1)
        until(result.done, PATIENCE_S, f"the next start does not go on: {told(operator)}")
        assert result.result().result.error_code == RunTrials.Result.NONE, result.result().result.error_msg
        assert operator.say("void", note="the lamp fell").error_code == JudgeTrial.Response.NOT_NOW

        # A scene that is not as required starts no trial.
        strict = lock_small(tmp_path / "strict", min_similarity=0.999)
        result = operator.start(strict)
        until(result.done, PATIENCE_S, f"it waits for ever: {told(operator)}")
        answered = result.result().result
        assert answered.error_code == RunTrials.Result.NOT_STARTED
        assert "the scene is not as required: overlap 0.9" in answered.error_msg
        assert read_log(strict.records).records == ()

    first, interrupted, *rest = read_log(study.records).records
    assert (first.outcome, first.failure_mode, first.labelled_by) == (Outcome.FAILURE, "drop", "ada")
    assert first.termination_reason is Termination.OPERATOR_STOP and first.similarity is not None
    assert first.similarity > 0.85 and set(first.preflight) == {"mode", "camera", "nodes", "calibration"}
    assert (interrupted.outcome, interrupted.termination_reason) == (Outcome.VOID, Termination.INTERRUPTED)
    assert {(r.slot, r.repeats) for r in rest} == {(interrupted.slot, 1)}
    assert first.slot == 0 and interrupted.slot == 1

    heard = b"".join(chunk for chunks in operator.heard.values() for chunk in chunks)
    said = "".join(str(f) for f in operator.feedback) + parameters + commands
    logs = "".join(path.read_text(errors="replace") for path in (tmp_path / "log").rglob("*") if path.is_file())
    assert len(heard) > 100_000 and "/diagnostics" in operator.heard and "/action_chunk" in operator.heard
    for word in sorted(telling):
        assert word.encode() not in heard, f"a topic says {word!r}"
        assert word not in said, f"feedback, parameters or command lines say {word!r}"
        assert word not in logs, f"a log says {word!r}"


@pytest.mark.parametrize("supervisor", [{"simulated": "false"}], indirect=True)
def test_a_person_lays_out_and_judges(supervisor: Supervisor, tmp_path: Path) -> None:
    """As at a robot; the towel is moved by the simulator's hand."""
    study = lock_small(tmp_path / "attended")
    first, other = (study.plan.placement(study.plan.schedule[i].placement) for i in (0, 2))
    with spinning("operator") as node:
        operator = Operator(node)
        hand = node.create_client(ResetScene, topics.SIM_RESET)
        overlays: list[Any] = []
        node.create_subscription(Image, topics.SCENE_OVERLAY, overlays.append, qos.IMAGE)
        result = operator.start(study)
        until(lambda: bool(operator.feedback), PATIENCE_S, "nothing happens")
        answer(hand, ResetScene.Request(seed=other.seed), timeout_s=10.0)
        until(lambda: "move" in text(operator), PATIENCE_S, f"no advice: {told(operator)}")
        assert operator.say("scene").error_code == JudgeTrial.Response.NONE
        time.sleep(2.0)
        assert operator.feedback[-1].phase == RunTrials.Feedback.SCENE  # not as required: it waits

        answer(hand, ResetScene.Request(seed=first.seed), timeout_s=10.0)
        until(lambda: "overlap 0.9" in text(operator), PATIENCE_S, f"it is not seen: {told(operator)}")
        until(lambda: running(operator) > 0.5 or confirmed(operator), PATIENCE_S, f"no trial ran: {told(operator)}")
        assert operator.say("void").error_code == JudgeTrial.Response.BAD_REQUEST  # no reason given
        assert operator.say("void", note="the lamp fell").trial == 1
        until(lambda: operator.feedback[-1].phase == RunTrials.Feedback.SCENE, PATIENCE_S, "no next trial")
        assert operator.say("undo").error_code == JudgeTrial.Response.DISK  # there is no later word yet
        operator.handle.cancel_goal_async()  # while it waits for the scene
        until(result.done, PATIENCE_S, f"it does not stop: {told(operator)}")
        ended = result.result().result
        assert (ended.error_code, ended.trials, ended.complete) == (RunTrials.Result.NONE, 1, False)
    (record,) = read_log(study.records).records
    assert (record.outcome, record.termination_reason) == (Outcome.VOID, Termination.OPERATOR_VOID)
    assert (record.note, record.labelled_by) == ("the lamp fell", "ada")
    assert record.similarity is not None and record.similarity > 0.85
    assert len(overlays) > 2 and overlays[-1].width == 640


def running(operator: Operator) -> float:
    """Seconds that the present trial has run; 0 between trials."""
    last = operator.feedback[-1] if operator.feedback else None
    return last.seconds if last is not None and last.phase == RunTrials.Feedback.RUNNING else 0.0


def confirmed(operator: Operator) -> bool:
    """Says that the scene is laid out, as often as it is asked for: a hold may come between."""
    if "then say scene" in text(operator):
        operator.say("scene")
        time.sleep(1.0)
    return False


def text(operator: Operator) -> str:
    return str(operator.feedback[-1].text) if operator.feedback else ""


def trial(operator: Operator) -> int:
    return operator.feedback[-1].trial if operator.feedback else 0


def told(operator: Operator) -> str:
    return str(operator.feedback[-1:])


def command_lines() -> list[str]:
    """Of every process that this test session started, as `ps` shows them."""
    mark = f"VLA_RFT_TEST_SESSION={os.environ['VLA_RFT_TEST_SESSION']}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    assert any("policy_switch_node" in line for line in found)
    return found
