"""What an unattended evaluator makes of its launch arguments, and which it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_rft_core.manifest import write_manifest
from vla_rft_nodes.evaluator_node import EvaluatorConfig, _adapted
from vla_rft_trials.protocol import Protocol, Rule

PROTOCOLS = Path(__file__).parents[2] / "launch" / "protocols"


def settings(**changes: object) -> EvaluatorConfig:
    return EvaluatorConfig(cell="x", camera="front", **changes)


def test_arguments_replace_what_they_name() -> None:
    protocol = _adapted(Protocol.load(PROTOCOLS / "demo.yaml"), settings(trials=10, seed=100, policy="expert"))
    assert (protocol.trials_per_policy, protocol.placements.count, protocol.placements.seed) == (10, 10, 100)
    assert not protocol.blinded


def test_without_arguments_the_protocol_stays() -> None:
    protocol = Protocol.load(PROTOCOLS / "grasp_noise.yaml")
    assert _adapted(protocol, settings()) == protocol


def test_an_unknown_policy_names_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match="policy 'exprt': neither in the protocol nor the folder of a bundle; did you mean 'expert'"
    ):
        _adapted(Protocol.load(PROTOCOLS / "demo.yaml"), settings(policy="exprt"))


def test_a_bundle_stands_for_itself_and_answers_for_its_holds(tmp_path: Path) -> None:
    (tmp_path / "sim").mkdir()
    write_manifest(tmp_path / "sim", kind="bundle", metadata={})
    protocol = _adapted(Protocol.load(PROTOCOLS / "demo.yaml"), settings(policy=str(tmp_path / "sim")))
    assert [(policy.name, policy.bundle) for policy in protocol.policies] == [("sim", str(tmp_path / "sim"))]
    assert protocol.exclusions.safety_hold is Rule.FAILURE and not protocol.blinded


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": -1}, "must not be negative"),
        ({"seed": -2}, "must not be negative"),
        ({"unattended": True}, "at a real arm somebody stands by"),
        ({"countdown": -1.0}, "countdown"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**changes)


def test_the_robot_s_template_is_a_protocol() -> None:
    protocol = Protocol.load(PROTOCOLS / "towel.yaml")
    assert protocol.time_limit_s == 180.0 and protocol.trials_per_policy == 20
    assert [policy.bundle for policy in protocol.policies] == ["bundles/sft", "bundles/rft"]
