"""policy_node in the real graph: lease, identity, motion, no swap while it moves, and a hold when it dies."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from std_msgs.msg import Header

from deploy import stand_in
from deploy.bundle import open_bundle
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import DeviceError, ModeError
from vla_rft_core.types import SetPoint
from vla_rft_interfaces.msg import ActionChunk, PolicyReport
from vla_rft_interfaces.srv import SelectPolicy
from vla_rft_nodes import qos, topics
from vla_rft_nodes.bringup import Supervisor, load
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.operate import spinning
from vla_rft_nodes.services import answer
from vla_rft_trials.study import lock

pytestmark = [pytest.mark.ros, pytest.mark.realtime]

SPEC = find_cell("vla_rft_sim:towel_cell").spec
PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "demo.yaml"
PROCESSES = ("sim_world", "sim_node", "robot_node", "camera_node", "watchdog_node", "policy_node")


def until(condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def driven_until(cell: CellClient, condition: Callable[[], bool], otherwise: str) -> None:
    """Lend the lease to the policy, again whenever a busy computer's missed deadline latches a hold."""
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline, f"{otherwise}: {cell.status}"
        if cell.status is not None and cell.status.mode != "ACTIVE":
            with contextlib.suppress(DeviceError, ModeError):
                cell.recover("terminal")
                cell.set_mode("ACTIVE", "policy")
        time.sleep(0.02)


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that holds, and one that goes 4 cm to the side; with a keeper's folder of their own."""
    monkeypatch.setenv("VLA_RFT_KEEPER", str(tmp_path / "keeper"))
    stand_in.make_hold(tmp_path / "hold", SPEC)
    home = SPEC.home.T_base_tcp
    way = [SetPoint(home.moved((0.0, 0.04 * min(1.0, i / 20), 0.0), (0, 0, 0)), SPEC.home.width) for i in range(40)]
    stand_in.make_replay(tmp_path / "aside", SPEC, way, source="made up")
    return tmp_path


@pytest.fixture
def running(bundles: Path) -> Iterator[tuple[Supervisor, Any, CellClient]]:
    arguments = {"bundle": str(bundles / "aside"), "trials": "0"}
    with Supervisor(load("policy", arguments), log_dir=bundles / "log") as supervisor:
        supervisor.start(*PROCESSES)
        with spinning("test_policy") as node:
            cell = CellClient(node, SPEC)
            cell.connect(60.0)
            cell.recover("terminal", timeout_s=30.0)
            yield supervisor, node, cell


def test_bundles_move_the_arm(running: tuple[Supervisor, Any, CellClient], bundles: Path) -> None:
    supervisor, node, cell = running
    chunks: list[ActionChunk] = []
    reports: list[PolicyReport] = []
    beats: list[Header] = []
    node.create_subscription(Header, topics.HEARTBEAT, beats.append, qos.EVENT)
    node.create_subscription(ActionChunk, topics.ACTION_CHUNK, chunks.append, qos.COMMAND)
    node.create_subscription(PolicyReport, topics.POLICY_REPORT, reports.append, qos.EVENT)
    select = node.create_client(SelectPolicy, topics.SELECT_POLICY)
    time.sleep(1.0)
    assert not chunks  # without the lease nothing is said

    until(lambda: "policy_node" in [beat.frame_id for beat in beats], 20.0, "its heart does not beat")
    driven_until(cell, lambda: len([c for c in chunks if c.source == "policy"]) >= 3, "no chunks")
    ours = [c for c in chunks if c.source == "policy"]
    assert {c.policy_id for c in ours} == {open_bundle(bundles / "aside").digest}
    assert all(len(c.tcp_targets) == SPEC.action_horizon for c in ours)
    until(lambda: len(reports) >= 3, 5.0, "no reports")
    assert {r.problem for r in reports} == {""} and all(0.0 < r.assemble < 5.0 for r in reports)

    def aside_m() -> float:
        return float(cell.state().arm.T_base_tcp.position[1] - SPEC.home.position[1])

    driven_until(cell, lambda: aside_m() > 0.035, "it did not go where the bundle goes")

    # A study's bundle is put in charge by its code; not while the arm is the policy's.
    content = yaml.safe_load(PROTOCOL.read_text())
    content["policies"] = [{"name": "still", "bundle": str(bundles / "hold")}]
    content["trials_per_policy"] = content["placements"]["count"] = 1
    (bundles / "protocol.yaml").write_text(yaml.safe_dump(content))
    study = lock(bundles / "protocol.yaml", bundles / "study")
    request = SelectPolicy.Request(study=str(study.folder), code="still", trial=0)
    driven_until(cell, lambda: cell.status is not None and cell.status.mode == "ACTIVE", "no lease")
    refused = answer(select, request, timeout_s=10.0)
    assert refused.error_code == SelectPolicy.Response.REFUSED and "swapped in READY only" in refused.error_msg

    cell.recover("terminal", timeout_s=30.0)
    selected = answer(select, request, timeout_s=20.0)
    assert (selected.error_code, selected.source) == (SelectPolicy.Response.NONE, "policy"), selected.error_msg
    (bundles / "hold" / "spec.yaml").write_text("changed")
    changed = answer(select, request, timeout_s=10.0)
    assert changed.error_code == SelectPolicy.Response.CHANGED

    # When it dies, the arm is held.
    cell.recover("terminal", timeout_s=30.0)
    supervisor.send_signal("policy_node", signal.SIGKILL)
    cell.set_mode("ACTIVE", "policy")
    until(lambda: cell.status is not None and bool(cell.status.latched), 10.0, "the arm goes on without its policy")
    assert cell.status is not None and "policy_node" in cell.status.reason


def test_a_bundle_that_may_not_run_ends_the_launch_in_one_sentence(bundles: Path) -> None:
    (bundles / "hold" / "spec.yaml").write_text("changed")
    with Supervisor(load("policy", {"bundle": str(bundles / "hold")}), log_dir=bundles / "log") as supervisor:
        supervisor.start("policy_node")
        until(lambda: "policy_node" not in supervisor.running(), 60.0, "it runs")
    log = "".join(path.read_text() for path in (bundles / "log").glob("policy_node*"))
    assert "policy_node: " in log and "spec.yaml: was altered" in log and "Traceback" not in log
    assert np.array_equal(sorted(p.name for p in (bundles / "hold").iterdir()), ["manifest.json", "spec.yaml"])
