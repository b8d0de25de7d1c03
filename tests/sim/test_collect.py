"""Collecting simulated demonstrations: which attempts there are, what is in them, going on, refusing, ending."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core import manifest
from vla_rft_core.sync import FreshnessLimits, assemble
from vla_rft_core.types import Observation
from vla_rft_episodes import channels, codec, layout
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.fsck import fsck
from vla_rft_episodes.labels import Label, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import repair_attempt
from vla_rft_sim import collect as command
from vla_rft_sim.attempt import Plan, Stage
from vla_rft_sim.collect import Tally, resume
from vla_rft_sim.demonstrate import Onlooker
from vla_rft_sim.episode_tape import EpisodeTape
from vla_rft_sim.gl import BACKEND

pytestmark = pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")

PLAN = Plan(seed=7)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def recorded(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Observation]]:
    """A collection with attempt 0 of the plan, and the observations as they were live."""
    collection = tmp_path_factory.mktemp("collection") / "demos"
    live: list[Observation] = []
    original = EpisodeTape.observed

    def observed(tape: EpisodeTape, observation: Observation) -> None:
        live.append(observation)
        original(tape, observation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpisodeTape, "observed", observed)
        attempt = stage.perform(PLAN, 0, collection)
    assert attempt.success and attempt.quality == "good"
    return collection, live


def only_episode(collection: Path) -> Episode:
    return Episode.open(Collection(collection).episodes()[0].path)


def test_the_same_attempt_gives_the_same_bytes(
    stage: Stage, recorded: tuple[Path, list[Observation]], tmp_path: Path
) -> None:
    stage.perform(PLAN, 1, tmp_path / "before")  # another past
    stage.perform(PLAN, 0, tmp_path / "again")
    first, again = (Collection(path).episodes()[0] for path in (recorded[0], tmp_path / "again"))
    assert first.id == again.id
    for name in (layout.MCAP_NAME, manifest.FILE_NAME):
        assert (first.path / name).read_bytes() == (again.path / name).read_bytes()


def test_an_episode_has_everything(recorded: tuple[Path, list[Observation]]) -> None:
    episode = only_episode(recorded[0])
    counts = {channel.topic: count for channel, count in episode.counts.items()}
    ticks = counts[channels.color("front").topic]
    for channel in (channels.SIM_TRUTH, channels.SIM_STATE, channels.SAFETY_STATUS, channels.camera_info("front")):
        assert counts[channel.topic] == ticks
    assert counts[channels.ROBOT_STATE.topic] == 10 * (ticks - 1) + 1
    assert counts[channels.ACTION_CHUNK.topic] == counts[channels.CHUNK_VERDICT.topic] == ticks - 11
    assert counts[channels.SERVO_REPORT.topic] >= 10 * (ticks - 11)
    assert counts[channels.TF_STATIC.topic] == counts[channels.ROBOT_DESCRIPTION.topic] == 1
    assert set(episode.attachments()) == {"spec.yaml", "calibration.yaml", "safety.yaml", "motion.yaml"}
    info = episode.info
    assert info.simulated and info.seed == PLAN.scene_seed(0) and info.extra["collect.attempt"] == 0
    assert "random.mass" in info.extra and "expert.along" in info.extra and info.termination_reason == "expert done"


def test_offline_observations_are_the_live_ones(recorded: tuple[Path, list[Observation]]) -> None:
    collection, live = recorded
    episode = only_episode(collection)
    streams = episode.streams()
    for seen in live:
        offline = assemble(
            seen.stamp_ns, spec=episode.spec, streams=streams, prompt=episode.info.prompt, limits=FreshnessLimits()
        )
        assert offline.stamp_ns == seen.stamp_ns and offline.prompt == seen.prompt
        assert np.array_equal(offline.state, seen.state)
        assert np.array_equal(offline.commanded.T_base_tcp.position, seen.commanded.T_base_tcp.position)
        assert np.array_equal(offline.commanded.T_base_tcp.quaternion, seen.commanded.T_base_tcp.quaternion)
        assert offline.commanded.width == seen.commanded.width
        error = np.abs(offline.images["front"].astype(int) - seen.images["front"])
        assert error.mean() < 3.0  # JPEG


def test_targets_are_sent_exactly_when_they_are_due(recorded: tuple[Path, list[Observation]]) -> None:
    episode = only_episode(recorded[0])
    sent = {entry.stamp_ns: entry for entry in episode.servo_entries()}
    for chunk in episode.chunks():
        entry = sent[chunk.due_ns(0)]
        assert np.allclose(entry.sent.T_base_tcp.position, chunk.positions[0], atol=1e-9) or entry.reasons


def test_the_last_truth_is_the_outcome_and_labels_are_made_up_for(
    recorded: tuple[Path, list[Observation]], tmp_path: Path
) -> None:
    collection = tmp_path / "copy"
    shutil.copytree(recorded[0], collection)
    assert Collection(collection).episodes()[0].label is None
    assert resume(collection, PLAN) == Tally({0}, 1)
    ref = Collection(collection).episodes()[0]
    assert ref.kept and ref.outcome is Outcome.SUCCESS
    assert fsck(collection).clean


def test_a_failure_is_kept_and_labelled(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.world._grasp, "_slip_force", 0.05)  # it loses every towel
    attempt = stage.perform(PLAN, 0, tmp_path)
    assert not attempt.success and attempt.quality == "suspect"
    assert resume(tmp_path, PLAN) == Tally({0}, 0)
    ref = Collection(tmp_path).episodes()[0]
    assert ref.label is not None and ref.label.label is Label.KEEP and ref.outcome is Outcome.FAILURE


def test_another_plan_or_another_kind_of_episode_is_refused(
    recorded: tuple[Path, list[Observation]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(recorded[0].rglob("*"))
    with pytest.raises(EpisodeError, match=r"is of seed 7, strength 1.0, not of seed 8, strength 1.0; take another"):
        resume(recorded[0], Plan(seed=8))
    assert command.main(["--count", "1", "--out", str(recorded[0]), "--seed", "7", "--strength", "0.5"]) == 1
    assert "not of seed 7, strength 0.5" in capsys.readouterr().err
    assert sorted(recorded[0].rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--count", "0"], "count must be at least 1, got 0"),
        (["--seed", "-1"], "seed must not be negative, got -1"),
        (["--strength", "-1"], "strength must not be negative"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--out", str(tmp_path / "demos"), *options]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "demos").exists()


def test_a_start_that_was_cut_short_is_made_again_even_after_its_repair(
    stage: Stage, recorded: tuple[Path, list[Observation]], tmp_path: Path
) -> None:
    whole = Collection(recorded[0]).episodes()[0]
    cut = tmp_path / f".open-{PLAN.episode_id(0, 0)}"
    cut.mkdir()
    content = (whole.path / layout.MCAP_NAME).read_bytes()
    (cut / layout.MCAP_NAME).write_bytes(content[: len(content) // 2])
    assert resume(tmp_path, PLAN) == Tally()
    repair_attempt(cut)
    assert [ref.id for ref in Collection(tmp_path).episodes()] == [PLAN.episode_id(0, 0)]
    assert resume(tmp_path, PLAN) == Tally()
    attempt = stage.perform(PLAN, 0, tmp_path)
    assert attempt.episode == PLAN.episode_id(0, 1) and resume(tmp_path, PLAN) == Tally({0}, 1)


def test_the_set_of_attempts_does_not_depend_on_the_number_of_workers() -> None:
    fates = np.random.default_rng(0).random(200) < 0.7

    def attempts(workers: int, seed: int) -> set[int]:
        """With workers that finish in any order."""
        random, tally, started, running = np.random.default_rng(seed), Tally(), set(), []
        while True:
            while len(running) < workers and (number := tally.next_number(20, started)) is not None:
                started.add(number)
                running.append(number)
            if not running:
                assert tally.successes == 20
                return tally.done
            number = running.pop(int(random.integers(len(running))))
            tally.add(number, bool(fates[number]))

    alone = attempts(1, 0)
    assert all(attempts(workers, seed) == alone for workers in (2, 3, 8) for seed in range(5))
    assert alone == set(range(len(alone)))


def test_a_run_that_goes_on_fills_the_gaps_first() -> None:
    tally = Tally({0, 1, 3}, 3)
    started: set[int] = set()
    numbers = []
    while (number := tally.next_number(6, started)) is not None:
        started.add(number)
        numbers.append(number)
    assert numbers == [2, 4, 5]


def test_seeds_and_stamps_follow_from_the_plan() -> None:
    assert PLAN.scene_seed(0) != PLAN.scene_seed(1) != Plan(seed=8).scene_seed(1)
    assert PLAN.started_ns(1) - PLAN.started_ns(0) == 120 * 10**9
    ids = {plan.episode_id(n, r) for plan in (PLAN, Plan(seed=8)) for n in range(30) for r in range(2)}
    assert len(ids) == 120


def test_one_who_only_looks_on_need_not_do_anything() -> None:
    onlooker = Onlooker()
    assert [onlooker.started(None), onlooker.observed(None), onlooker.commanded(None, None)] == [None] * 3  # type: ignore[arg-type, func-returns-value]


@pytest.mark.slow
def test_two_workers_sigint_and_going_on(tmp_path: Path) -> None:
    out = tmp_path / "demos"
    arguments = [sys.executable, "-m", "vla_rft_sim.collect", "--count", "4", "--out", str(out), "--seed", "5"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    while "1/4" not in seen:
        part = os.read(process.stderr.fileno(), 4096).decode()
        assert part, seen
        seen += part
    process.send_signal(signal.SIGINT)
    table, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and table.startswith("successes")
    assert not list(out.glob(".open-*")) and fsck(out).clean
    some = {ref.id: ref.info.verdict for ref in Collection(out).episodes()}
    assert 1 <= len(some) < 4
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    refs = Collection(out).episodes(kept_only=True)
    assert set(some) < {ref.id for ref in refs} and sum(ref.outcome is Outcome.SUCCESS for ref in refs) == 4
    assert sorted(ref.info.extra["collect.attempt"] for ref in refs) == list(range(len(refs)))
    labels = [json.loads(line)["episode"] for line in (out / "labels.jsonl").read_text().splitlines()]
    assert sorted(labels) == sorted(ref.id for ref in refs)
    truth = [codec.decode_sim_truth(m.data) for m in only_episode(out).messages([channels.SIM_TRUTH.topic])]
    assert truth[-1].success == (refs[0].outcome is Outcome.SUCCESS)
