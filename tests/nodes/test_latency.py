"""Where the time goes: what the listener makes of the stamps of picture, decision, verdict and set-point."""

from __future__ import annotations

import json

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_rft_interfaces.msg import ChunkVerdict, PolicyReport, ServoReport
from vla_rft_nodes import convert
from vla_rft_nodes.latency import CHUNK_COSTS, POLICY_STAGES, ChunkCosts, Listener, as_text, summary_ms

MS = 1_000_000
START = 1_700_000_000_000_000_000


def decision(sequence: int, at: int, *, problem: str = "") -> PolicyReport:
    """Picture at `at`, here after 40 ms, begun 2 ms later, 4 ms of model in a decision of 7 ms."""
    return PolicyReport(
        header=convert.to_header(at),
        sequence=sequence,
        problem=problem,
        image_received=convert.to_time(at + 40 * MS),
        began=convert.to_time(at + 42 * MS),
        published=convert.to_time(at + 49 * MS),
        assemble=0.001,
        preprocess=0.0005,
        encode=0.001,
        flow=0.003,
        postprocess=0.0005,
        splice=0.0005,
    )


def verdict(sequence: int, at: int) -> ChunkVerdict:
    return ChunkVerdict(header=convert.to_header(at + 51 * MS), sequence=sequence, source="policy", age=0.051)


def servo(sequence: int, at: int, *, wait_ms: int) -> ServoReport:
    return ServoReport(
        header=convert.to_header(at + (51 + wait_ms) * MS),
        sequence=sequence,
        source="policy",
        moving=True,
        chunk_received=convert.to_time(at + 51 * MS),
    )


def test_a_chunks_way_from_picture_to_command() -> None:
    listener = Listener()
    assert listener.figures() == {}
    for i in range(10):
        at = START + i * 400 * MS
        said = [
            lambda i=i, at=at: listener.on_policy(decision(i, at)),
            lambda i=i, at=at: listener.on_verdict(verdict(i, at)),
        ]
        for say in said if i % 2 else reversed(said):  # topics overtake one another
            say()
        for wait_ms in (9, 19):  # the first set-point of a chunk counts
            listener.on_servo(servo(i, at, wait_ms=wait_ms))
    listener.on_policy(decision(10, START, problem="the state is not finite"))
    cost = json.dumps({"p50": 0.2, "p95": 0.3, "p99": 0.4, "max": 1.0, "n": 10})
    spent = ChunkCosts()
    for sequence in range(3, 10):
        spent.add(sequence, 0.0005)  # handled
        spent.add(sequence, 0.0001 * sequence)  # sent
    values = [
        KeyValue(key="chunk_handling_ms", value=cost),
        KeyValue(key=CHUNK_COSTS, value=json.dumps(spent.figures())),
    ]
    listener.on_diagnostics(DiagnosticArray(status=[DiagnosticStatus(name="robot_node", values=values)]))

    figures = listener.figures()
    stages = figures[POLICY_STAGES]
    assert isinstance(stages, dict) and stages["ours"]["n"] == 10
    assert {name: of["p50"] for name, of in stages.items()} == pytest.approx(
        {
            "picture_to_node": 40.0,
            "wait": 2.0,
            "assemble": 1.0,
            "preprocess": 0.5,
            "encode": 1.0,
            "flow": 3.0,
            "postprocess": 0.5,
            "splice": 0.5,
            "model": 4.0,
            "ours": 5.0,  # 2 ms of waiting and a decision of 7 ms, less the model
        }
    )
    p50 = {name: figures[name]["p50"] for name in figures if isinstance(figures[name], dict) and "p50" in figures[name]}  # type: ignore[index,operator,call-overload]
    assert p50["chunk_published_to_received_ms"] == pytest.approx(2.0)
    assert p50["chunk_received_to_set_point_sent_ms"] == pytest.approx(9.0)
    assert p50["picture_to_command_ms"] == pytest.approx(60.0)
    assert figures["chunk_published_to_received_ms"]["n"] == 10  # type: ignore[index,call-overload]
    ours = figures["ours_from_picture_to_command_ms"]  # of the seven chunks that both nodes told of
    assert ours == pytest.approx({"p50": 6.1, "p95": 6.37, "p99": 6.394, "max": 6.4, "n": 7})
    assert figures["chunk_handling_ms"] == json.loads(cost)
    assert "picture_to_command_ms" in as_text(figures)


def test_only_the_newest_chunks_costs_are_told() -> None:
    spent = ChunkCosts()
    for sequence in range(100):
        spent.add(sequence, 0.001)
    assert list(spent.figures()) == list(range(68, 100))


def test_teleoperation_has_no_picture() -> None:
    listener = Listener()
    report = servo(1, START, wait_ms=9)
    report.source = "teleop"
    listener.on_servo(report)
    assert set(listener.figures()) == {"chunk_received_to_set_point_sent_ms", "input_to_chunk_received_ms"}


def test_no_samples_have_no_figures() -> None:
    assert summary_ms([]) == {}
    assert summary_ms([1.0, 3.0]) == {"p50": 2.0, "p95": 2.9, "p99": 2.98, "max": 3.0, "n": 2}
