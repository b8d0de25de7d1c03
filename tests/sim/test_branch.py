"""Branches: they leave a demonstration where they say, do what their label says, and are read without a simulator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_rft_core.action import accumulate
from vla_rft_core.cell import find_cell
from vla_rft_core.geometry import Pose
from vla_rft_core.manifest import verify
from vla_rft_core.types import SetPoint
from vla_rft_episodes import branches, channels, codec
from vla_rft_episodes.branches import Branch, Branches, write_shard
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.labels import Label, Outcome
from vla_rft_episodes.reader import Episode
from vla_rft_sim import branch as command
from vla_rft_sim import deviations, perturbed
from vla_rft_sim.attempt import Plan, Stage
from vla_rft_sim.branch import BranchPlan, make_shard
from vla_rft_sim.cell import SIM_CELL
from vla_rft_sim.continuation import Demonstration, play
from vla_rft_sim.deviations import KINDS, Kind, Phases, Targets
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.perturbed import BACK, LARGEST_M, SMALLEST_M, PerturbationPlan, perturb, shifted
from vla_rft_sim.shards import missing, shards

rendering = pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")

HOME = SetPoint(Pose((0.40, 0.0, 0.28), (0.0, 1.0, 0.0, 0.0)), 0.08)
PHASES = Phases(close=20, open=50, count=70)
PLAN = BranchPlan(seed=3, horizon=6, count=3)


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


@pytest.fixture(scope="module")
def demos(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    path = tmp_path_factory.mktemp("demos")
    attempt = stage.perform(Plan(seed=7), 0, path)
    collection = Collection(path)
    collection.labels.append(attempt.episode, Label.KEEP, Outcome.SUCCESS, "test")
    return collection


@pytest.fixture(scope="module")
def demonstration(stage: Stage, demos: Collection) -> Demonstration:
    made = Demonstration.load(demos.episodes()[0].path)
    stage.randomizer.apply(made.randomization)
    return made


def kind(name: str) -> Kind:
    return next(k for k in KINDS if k.name == name)


def targets(tick: int, horizon: int = 16) -> Targets:
    """Of an imagined demonstration that moves along x and has the phases PHASES."""
    ticks = np.arange(tick, tick + horizon)
    positions = np.column_stack([0.4 + 0.001 * ticks, np.zeros(horizon), np.full(horizon, 0.1)])
    widths = np.where((ticks >= PHASES.close) & (ticks < PHASES.open), 0.0, 0.08)
    return Targets(positions, np.tile([0.0, 1.0, 0.0, 0.0], (horizon, 1)), widths, HOME)


# --- deviations: pure -------------------------------------------------------------------------------------------------


def test_shares_sum_to_one_and_names_differ() -> None:
    assert sum(k.share for k in KINDS) == pytest.approx(1.0)
    assert len({k.name for k in KINDS}) == len(KINDS)


def test_phases_are_found_in_the_widths() -> None:
    assert Phases.of(np.array([0.08, 0.08, 0.0, 0.0, 0.0, 0.08])) == Phases(2, 5, 6)
    for widths in ([0.08, 0.08], [0.08, 0.0]):
        with pytest.raises(ValueError, match="do not close and open again"):
            Phases.of(np.array(widths))


def test_every_kind_differs_from_the_demonstration_wherever_it_may_begin() -> None:
    random = np.random.default_rng(0)
    for k in KINDS:
        first, last = k.window(PHASES, 16)
        for tick in range(max(0, first), last + 1):
            plain = targets(tick)
            changed = k.change(plain, PHASES, tick, random)
            same = all(np.array_equal(getattr(plain, n), getattr(changed, n)) for n in ("positions", "widths"))
            assert (same and changed.drop_at < 0) == (k.name == "expert"), (k.name, tick)
            assert np.array_equal(plain.widths, targets(tick).widths)  # nothing was written into it


def test_timing_is_changed_as_the_label_says() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        tick = int(random.integers(8, 17))
        closes = PHASES.close - tick
        early = kind("close early").change(targets(tick), PHASES, tick, random)
        first = int(np.flatnonzero(early.widths < 0.03)[0])
        assert first == max(0, closes + early.parameters["periods"])
        late = kind("close late").change(targets(tick), PHASES, tick, random)
        closed = np.flatnonzero(late.widths < 0.03)
        assert len(closed) == max(0, 16 - closes - late.parameters["periods"])
        assert (kind("never close").change(targets(tick), PHASES, tick, random).widths == 0.08).all()


def test_going_astray_is_smooth_and_stays() -> None:
    random = np.random.default_rng(2)
    for name in ("aside", "higher at grasp"):
        changed = kind(name).change(targets(10), PHASES, 10, random)
        offsets = changed.positions - targets(10).positions
        named = [changed.parameters[f"offset_{axis}_m"] for axis in "xyz"]
        assert np.allclose(offsets[8:], named)
        assert np.abs(np.diff(offsets, axis=0)).max() < 0.025 and np.linalg.norm(offsets[0]) < 0.01


def test_dead_actions_repeat_what_is_in_force() -> None:
    changed = kind("dead").change(targets(10), PHASES, 10, np.random.default_rng(0))
    assert (changed.positions == HOME.T_base_tcp.position).all() and (changed.widths == HOME.width).all()


# --- in the simulator -------------------------------------------------------------------------------------------------


@rendering
def test_the_experts_continuation_is_the_demonstration(
    stage: Stage, demonstration: Demonstration, demos: Collection
) -> None:
    episode = Episode.open(demos.episodes()[0].path)
    recorded = [codec.decode_sim_truth(m.data) for m in episode.messages([channels.SIM_TRUTH.topic])]
    truths = {truth.stamp_ns: truth for truth in recorded}
    for tick in (3, 22, 40):
        observations, seen = play(stage, demonstration, tick, demonstration.targets(tick, 8))
        for observation, truth in zip(observations, seen, strict=True):
            then = truths[observation.stamp_ns]
            assert np.allclose(truth.corners, then.corners, atol=1e-3)
            assert truth.grasped_vertices == then.grasped_vertices
            assert np.allclose(
                observation.commanded.T_base_tcp.position,
                demonstration.sent[observation.stamp_ns].T_base_tcp.position,
                atol=1e-9,
            )


@rendering
def test_deviations_do_what_they_are_called(stage: Stage, demonstration: Demonstration) -> None:
    phases, random = demonstration.phases, np.random.default_rng(0)

    def held(name: str, tick: int, horizon: int = 10) -> list[int]:
        changed = kind(name).change(demonstration.targets(tick, horizon), phases, tick, random)
        return [truth.grasped_vertices for truth in play(stage, demonstration, tick, changed)[1]]

    assert held("expert", phases.close - 2)[-1] > 0
    assert not any(held("never close", phases.close - 2))
    dropped = held("drop", phases.close + 8)
    assert dropped[0] > 0 and dropped[-1] == 0
    opened = held("open early", phases.open - 8)
    assert opened[0] > 0 and opened[-1] == 0


@rendering
def test_shards_are_the_same_again_and_hold_what_was_played(stage: Stage, demos: Collection, tmp_path: Path) -> None:
    (shard,) = shards(demos, PLAN.count)
    counts = make_shard(stage, shard, PLAN, tmp_path / "a")
    make_shard(stage, shard, PLAN, tmp_path / "b")
    for name in (branches.TABLE, branches.FRAMES, "manifest.json"):
        path = Path(f"{branches.PREFIX}{shard.name}") / name
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    read = Branches(tmp_path / "a")
    assert len(read) == 3 and counts.total() == 3 and sorted(read.kinds) == sorted(counts.elements())
    assert read.episodes == [shard.episode.name] * 3
    for made in read:
        assert made.images("front").shape == (7, 224, 224, 3)
        assert made.actions.shape == (6, 7) and made.states.shape == (7, 10)
        start = SetPoint(Pose(made.commanded[0, :3], made.commanded[0, 3:7]), made.commanded[0, 7])
        reached = accumulate(start, made.actions, read.spec)
        assert np.allclose([p.T_base_tcp.position for p in reached], made.commanded[1:, :3], atol=1e-6)
    assert missing([shard], PLAN, tmp_path / "a") == []


@rendering
def test_other_plans_and_other_demonstrations_are_refused(
    stage: Stage, demos: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shard,) = shards(demos, PLAN.count)
    make_shard(stage, shard, PLAN, tmp_path)
    assert command.main([str(demos.path), "--out", str(tmp_path), "--count", "4", "--horizon", "6", "--seed", "3"]) == 1
    assert "take another folder" in capsys.readouterr().err
    with pytest.raises(EpisodeError, match="does not come from these demonstrations"):
        missing([], PLAN, tmp_path)
    with pytest.raises(EpisodeError, match="exists already and is not overwritten"):
        make_shard(stage, shard, PLAN, tmp_path)


@pytest.mark.parametrize(("option", "message"), [("--count", "count 1"), ("--horizon", "horizon 4")])
def test_bad_options_are_refused(option: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out"), option, "0"]) == 1
    assert message in capsys.readouterr().err


def test_a_collection_without_simulated_successes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "holds no kept success from a simulator" in capsys.readouterr().err


def test_branches_are_spread_evenly(demos: Collection) -> None:
    found = shards(demos, 120)
    assert [shard.count for shard in found] == [50, 50, 20] and len({shard.name for shard in found}) == 3


# --- perturbed chunks: played to the end ------------------------------------------------------------------------------


def test_a_perturbed_chunk_is_off_while_watched_and_comes_back() -> None:
    plan = PerturbationPlan(chunk=8, watched=16)
    as_it_was = targets(10, 60)
    for seed in range(20):
        changed = perturb(as_it_was, plan, np.random.default_rng(seed))
        off = np.linalg.norm(changed.positions - as_it_was.positions, axis=1)
        size = changed.parameters["offset_m"]
        assert SMALLEST_M <= size <= LARGEST_M and np.all(np.diff(off[:8]) > 0.0)
        assert np.allclose(off[7:16], size) and np.allclose(off[16 + BACK :], 0.0)
        assert np.array_equal(changed.widths[8:], as_it_was.widths[8:])


@pytest.mark.parametrize(("periods", "closes_at"), [(0, 3), (2, 5), (-2, 1), (4, 7), (-4, 0), (8, 8)])
def test_a_grasp_within_the_chunk_is_shifted(periods: int, closes_at: int) -> None:
    widths = np.array([0.08] * 3 + [0.0] * 13)
    changed = shifted(widths, 8, periods)
    assert int(np.flatnonzero(changed < 0.03)[0]) == closes_at and np.array_equal(changed[8:], widths[8:])


@rendering
def test_perturbed_chunks_are_played_to_the_end(stage: Stage, demos: Collection, tmp_path: Path) -> None:
    plan = PerturbationPlan(starts=2, chunks=2)
    (shard,) = shards(demos, plan.starts)
    assert perturbed.make_shard(stage, shard, plan, tmp_path).total() == 2
    made = Branches(tmp_path)
    assert made.kinds == ["expert", "perturbed", "perturbed"] * 2 and made.plan["chunk"] == 8
    for expert, *others in (made[:3], made[3:]):
        assert expert.parameters == {"finished": 1.0, "vertex_deviation_m": 0.0}
        assert {other.tick for other in others} == {expert.tick} and expert.actions.shape == (16, 7)
        for other in others:
            away = np.linalg.norm(other.commanded[-1, :3] - expert.commanded[-1, :3])
            assert 1e-3 < away < other.parameters["offset_m"] + 1e-3, "no less but for the safety filter"
            assert other.parameters["finished"] in (0.0, 1.0)


def test_a_bad_plan_of_perturbations_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert perturbed.main([str(tmp_path), "--out", str(tmp_path / "out"), "--chunks", "0"]) == 1
    assert "chunks at least 1" in capsys.readouterr().err


# --- the file ---------------------------------------------------------------------------------------------------------


def made_up(number: int) -> Branch:
    image = np.full((8, 8, 3), 20 * number, dtype=np.uint8)
    return Branch(
        kind="dead",
        parameters={"periods": float(number)},
        episode=f"episode {number}",
        tick=number,
        prompt="fold the towel in half",
        commanded=np.full((3, 8), float(number)),
        actions=np.full((2, 7), number, dtype=np.float32),
        states=np.full((3, 10), number, dtype=np.float32),
        truth={name: np.full(3, float(number)) for name in branches.TRUTHS},
        jpegs={"front": [branches.compress(image)] * 3},
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    spec = find_cell(SIM_CELL).spec
    write_shard(tmp_path, "b", [made_up(3)], spec=spec, plan={"seed": 0})
    write_shard(tmp_path, "a", [made_up(1), made_up(2)], spec=spec, plan={"seed": 0})
    return tmp_path


def test_what_was_written_is_read_in_random_access(written: Path) -> None:
    read = Branches(written)
    assert len(read) == 3 and read.plan == {"seed": 0} and read.spec.name == "rizon4s-gn01-towel"
    for index, number in ((2, 3), (0, 1), (-2, 2)):
        branch, expected = read[index], made_up(number)
        assert (branch.kind, branch.tick, branch.episode) == (expected.kind, number, f"episode {number}")
        assert branch.parameters == expected.parameters
        assert np.array_equal(branch.commanded, expected.commanded) and np.array_equal(branch.states, expected.states)
        assert all(np.array_equal(branch.truth[name], expected.truth[name]) for name in branches.TRUTHS)
        assert branch.jpegs == expected.jpegs
        assert abs(int(branch.images("front")[2, 4, 4, 0]) - 20 * number) <= 1
    assert [branch.tick for branch in read[:2]] == [1, 2]
    with pytest.raises(IndexError, match="branch 3 of 3"):
        read[3]


def test_shards_are_verified_by_hash_and_only_truth_columns_are_privileged(written: Path) -> None:
    for shard in written.iterdir():
        verify(shard, kind=branches.KIND)
    columns = set(pq.read_schema(written / "shard-a" / branches.TABLE).names)
    privileged = {f"truth.{name}" for name in branches.TRUTHS}
    assert columns - privileged == {
        *("kind", "parameters", "episode", "prompt", "tick", "commanded", "action", "observation.state", "frames.front")
    }


def test_reading_needs_no_simulator(written: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vla_rft_episodes.branches import Branches\n"
        f"Branches(Path({str(written)!r}))[0].images('front')\n"
        "assert not {'mujoco', 'torch', 'vla_rft_sim'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_foreign_and_mixed_folders_are_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="holds no branches"):
        Branches(tmp_path / "nothing")
    copy = written / "shard-c"
    shutil.copytree(written / "shard-a", copy)
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(EpisodeError, match="has another spec or plan than"):
        Branches(written)
    (copy / "manifest.json").unlink()
    with pytest.raises(EpisodeError, match="not a finished branches"):
        Branches(written)


def test_a_kind_is_drawn_within_its_window() -> None:
    random = np.random.default_rng(5)
    drawn = [deviations.draw(PHASES, 16, random) for _ in range(2000)]
    assert {k.name for k, _ in drawn} == {k.name for k in KINDS}
    for k, tick in drawn:
        first, last = k.window(PHASES, 16)
        assert max(0, first) <= tick <= min(last, PHASES.count - 1)
