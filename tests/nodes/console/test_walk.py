"""The long walk: demonstrations by the scripted expert, and a two-trial study as at a robot, both by page alone.

CONSOLE_SHOTS=FOLDER makes the screenshots of docs/console.md on the way (make console-walk).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import console_walk as walk
import pytest
import yaml

from vla_rft_episodes.collection import Collection
from vla_rft_episodes.labels import Label, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_interfaces.srv import ResetScene
from vla_rft_nodes import topics
from vla_rft_nodes.bringup import Supervisor, load
from vla_rft_nodes.operate import spinning
from vla_rft_nodes.services import answer
from vla_rft_trials import records
from vla_rft_trials.study import Study, lock
from vla_rft_trials.trial_log import read_log

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.slow]

PROTOCOL = Path(__file__).parents[3] / "launch" / "protocols" / "grasp_noise.yaml"


@pytest.fixture
def cell(request: pytest.FixtureRequest, tmp_path: Path, port: int, browser: Any, monkeypatch: Any) -> Iterator[Any]:
    """All processes of a launch file with the console, which listens to other machines, too."""
    name, arguments = request.param
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    console = {
        "console": "true",
        "console_port": str(port),
        "console_host": "0.0.0.0",
        "console_token": str(tmp_path / "token"),
        "episodes": str(tmp_path / "episodes"),
        "studies": str(tmp_path / "studies"),
    }
    with Supervisor(load(name, arguments | console), log_dir=tmp_path / "log") as running:
        running.start(*(process.name for process in running.plan.processes))
        walk.wait_for_port(port)
        yield running


def watched(ada: Any) -> None:
    """The expert grasps the towel; or a hold has ended the attempt before."""
    over = lambda: not ada.sees("#rec")  # noqa: E731
    ada.until(lambda: ada.text("#headline") == "MOVING" or over(), "the expert does not move the arm", 20.0)
    ada.page.wait_for_timeout(4000)
    if not over():
        ada.shot("recording")


@pytest.mark.parametrize("cell", [("teleop", {"device": "expert"})], indirect=True)
def test_demonstrations(cell: Supervisor, browser: Any, tmp_path: Path, port: int) -> None:
    ada = walk.Operator(browser, f"http://localhost:{port}/")
    ada.live()
    ada.take("ada")
    ada.page.fill("#count", "3")
    ada.until(lambda: ada.can("#session-form button"), "no session can be started")
    ada.press("#session-form button")
    kept = ""
    for _ in range(8):  # a computer that stalls holds the arm, and the attempt is discarded
        walk.go_on(ada)
        watched(ada)
        if ada.sees("#rec"):
            ada.page.keyboard.press("ArrowRight")
        ada.until(lambda: ada.sees("#last .id") and ada.text("#last .decision") in ("kept", "discarded"), "no verdict")
        if ada.text("#last .decision") == "kept":
            kept = ada.text("#last .id")
            break
    assert kept, "no attempt in eight went without a hold"
    ada.until(lambda: ada.sees("#coverage") and ada.text("#kept") == "1", "no map of starts")
    ada.until(lambda: ada.can("#keys [data-key=keep]"), "it does not go on")
    ada.shot("kept")
    discarded = walk.attempt(ada, "ArrowLeft", "discarded", lasting_s=2.0)
    ada.until(lambda: ada.can("#keys [data-key=undo]"), "nothing can be undone")
    ada.press("#keys [data-key=undo]")
    ada.until(lambda: ada.text("#last .decision") == "nothing decided", "it was not undone")
    walk.go_on(ada)
    ada.until(lambda: ada.text("#headline") in ("MOVING", "HELD"), "the expert does not move the arm")
    ada.press("#hold")
    held_s = ada.until(lambda: ada.text("#headline") == "HELD", "HOLD does not hold", 5.0)
    print(f"HOLD pressed -> HELD shown: {held_s:.2f} s")
    ada.press("[role=tab][data-tab=health]")
    ada.press("#doctor")
    ada.until(lambda: ada.text("#doctor-words").endswith("ago"), "the doctor is silent")
    ada.until(lambda: not ada.sees("#said"), "it goes on talking")
    ada.close()

    states = {ref.id: ref for ref in Collection(tmp_path / "episodes").episodes()}
    assert states[kept].label.label is Label.KEEP and states[kept].label.by == "ada"
    assert states[kept].outcome in (Outcome.SUCCESS, Outcome.FAILURE)  # the simulator's word
    assert any(entry.source == "teleop" for entry in Episode.open(states[kept].path).servo_entries())
    assert states[discarded].label is None, "its label was taken back"


def lock_two(folder: Path) -> Study:
    """One placement, two policies: two trials."""
    content = yaml.safe_load(PROTOCOL.read_text())
    content["placements"]["count"] = content["trials_per_policy"] = 1
    content["exclusions"] |= {"operator_void": "repeat"}
    folder.mkdir(parents=True)
    protocol = folder / "protocol.yaml"
    protocol.write_text(yaml.safe_dump(content))
    return lock(protocol, folder / "grasp-noise")


class Hand:
    """Lays the towel out, as a person would."""

    def __init__(self, node: Any, study: Study) -> None:
        self._client = node.create_client(ResetScene, topics.SIM_RESET)
        self.required = study.plan.placements[0].seed
        assert self._client.wait_for_service(walk.PATIENCE_S)

    def lay_out(self, seed: int) -> None:
        assert answer(self._client, ResetScene.Request(seed=seed), timeout_s=10.0).error_code == 0


def start_trial(ada: Any, hand: Hand, *, after: str) -> str:
    """Lay the towel out as required, say so, and wait until the policy moves the arm: the new trial's heading."""

    def running() -> bool:
        if ada.can("#scene-done"):
            if "✓" not in ada.text("#similarity"):
                hand.lay_out(hand.required)
                ada.page.wait_for_timeout(1500)
            elif ada.can("#scene-done"):
                ada.press("#scene-done")
                ada.page.wait_for_timeout(1000)
        return ada.can("[data-verdict=success]") and ada.text("#trial-number") != after

    ada.until(running, "no trial runs", 180.0)
    return str(ada.text("#trial-number"))


def judged(ada: Any, hand: Hand, study: Study, judge: Callable[[], None]) -> None:
    """A trial that `judge` ends by the page; again where a computer that stalls has had the arm held before."""
    for _ in range(5):
        ada.heading = start_trial(ada, hand, after=ada.heading)
        before = len(closed(study))
        try:
            judge()
        except ada.Late:  # the trial has ended by itself, and what was to be pressed is gone
            continue
        ada.until(lambda before=before: len(closed(study)) > before, "the trial does not end")
        if closed(study)[before].labelled_by == "ada":
            return
    raise AssertionError(f"no trial in five went without a hold: {closed(study)}")


def closed(study: Study) -> list[records.TrialRecord]:
    if not study.records.exists():
        return []
    contents = read_log(study.records)
    running = {start.index for start in contents.open}
    return [record for record in contents.records if record.index not in running]


@pytest.mark.parametrize("cell", [("evaluate", {"simulated": "false"})], indirect=True)
def test_a_study_of_two_trials(cell: Supervisor, browser: Any, tmp_path: Path, port: int) -> None:
    study = lock_two(tmp_path / "studies")
    here, elsewhere = f"http://localhost:{port}/", f"http://127.0.0.2:{port}/"
    with spinning("hand") as node:
        hand = Hand(node, study)
        hand.lay_out(hand.required + 7)
        ada = walk.Operator(browser, here)
        ada.live()
        ada.take("ada")
        ada.until(lambda: ada.can("#studies button"), "the study is not found")
        ada.press("#studies button")
        ada.patient = True

        # Somebody with a wrong token, then the right one: looks on, may hold, may not operate.
        phone = walk.Operator(browser, elsewhere + "#token=guessed-wrong-token", phone=True)
        phone.until(lambda: "wrong" in phone.text("#token-wrong"), "a wrong token is not refused")
        assert "guessed" not in phone.page.url and not phone.can("#hold")
        phone.page.fill("#token", (tmp_path / "token").read_text().strip())
        phone.press("#token-form button")
        phone.live()
        assert "ada has control at the workstation" in phone.text("#control-words")
        assert not phone.sees("#take-form") and not phone.sees("#give")
        ada.until(lambda: ada.sees("#similarity"), "the scene is not looked at")
        ada.until(lambda: "required start" in ada.text("#age"), "the required start is not shown")
        ada.shot("scene")
        ada.until(lambda: ada.text("#headline") == "READY", "the arm is not ready")
        ada.patient = False
        phone.press("#hold")
        phone.until(lambda: phone.text("#headline") == "HELD", "HOLD does not hold", 5.0)
        assert not phone.can("#arm-actions [data-word=rearm]"), "a remote page can re-arm"
        phone.shot("phone-held")
        ada.until(lambda: ada.text("#headline") == "HELD", "the operator does not see the hold")
        print(f"held because: {ada.text('#detail')}")
        ada.patient = True
        ada.page.wait_for_timeout(1500)

        def void() -> None:
            """With its reason."""
            ada.press("#judging [data-open=void]")
            ada.page.fill("#void-note", "the lamp fell", timeout=5_000)
            ada.press("#void-form button")

        def success() -> None:
            """The console is killed in this one; the trial goes on, and the page comes back to it."""
            phone.shot("phone-trial")
            before, ended = ada.text("#trial-number"), len(closed(study))
            cell.send_signal("console_node", signal.SIGKILL)
            lost_s = ada.until(lambda: ada.text("#headline") == "NO CONNECTION", "a lost connection is not said", 5.0)
            print(f"console killed -> NO CONNECTION shown: {lost_s:.2f} s")
            ada.shot("lost")
            cell.start("console_node")
            ada.live()
            if not ada.sees("#give"):
                ada.take("ada")
            found = lambda: ada.text("#trial-number") == before and ada.can("[data-verdict=success]")  # noqa: E731
            ada.until(lambda: found() or len(closed(study)) > ended, "the running trial is not found again", 20.0)
            ada.press("#judging [data-verdict=success]")

        def failure() -> None:
            """With its mode."""
            ada.press("#judging [data-open=failure]")
            ada.shot("modes")
            ada.press("#modes [data-mode=drop]")

        for judge in (void, success, failure):
            judged(ada, hand, study, judge)
        ada.until(lambda: "complete" in ada.text("#studies"), "the end is not shown")
        ada.page.evaluate("document.documentElement.dataset.theme = 'light'")
        ada.shot("complete")
        phone.close()
        ada.close()

    voided, *rest = [record for record in closed(study) if record.labelled_by == "ada"]
    assert (voided.outcome, voided.termination_reason) == (records.Outcome.VOID, records.Termination.OPERATOR_VOID)
    assert voided.note == "the lamp fell" and voided.similarity > 0.85
    outcomes = [(record.outcome, record.failure_mode) for record in rest]
    assert outcomes == [(records.Outcome.SUCCESS, ""), (records.Outcome.FAILURE, "drop")]
    assert rest[0].repeats is not None, "the void trial's place was not filled"
    assert time.time_ns() > rest[-1].ended_ns > voided.ended_ns
