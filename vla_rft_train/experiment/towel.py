"""The towel experiment as a plan: from demonstrations to locked studies, every step a command of this project."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from vla_rft_core.splice import SpliceConfig
from vla_rft_train.experiment.scale import Scale
from vla_rft_train.experiment.steps import Command, Given, Of, Own, Plan, Step, Word

ROOT = Path(__file__).parents[2]
TEMPLATE = "launch/protocols/experiment.yaml"
SHIPPED = "vla_rft_train/checkpoints/sim"
CELL = "vla_rft_sim.cell:towel_cell"

SFT, LONGER, RFT, AS_LONG = "sft", "sft-4n", "rft", "sft-as-long"
R1, R2, R3, OUTCOME = "r1", "r2", "r3", "r3-outcome"
METHODS = {
    SFT: "SFT N",
    LONGER: "SFT 4N",
    RFT: "RFT",
    R1: "RFT with R1",
    R2: "RFT with R2",
    R3: "RFT with R3",
    OUTCOME: "RFT with R3 + outcome",
    AS_LONG: "SFT N, head as long as RFT",
}
"""What a report calls them; from the third on they begin with their seed's `sft`. RFT's reward: that of its preset."""
TABLE_11 = (SFT, LONGER, RFT)
TABLE_4 = (SFT, R1, R2, R3, OUTCOME, RFT, AS_LONG)
Pairs = Sequence[tuple[str, str]]
COMPARED_11: Pairs = ((RFT, SFT), (RFT, LONGER), (LONGER, SFT))
COMPARED_4: Pairs = (*((method, SFT) for method in TABLE_4[1:]), (RFT, AS_LONG))
"""Within each seed. What is not named here is not tested, and costs the others nothing."""
PERTURBATIONS = {
    "minor_towel": "towel ± 2.5 cm",
    "major_towel": "towel ± 5 cm",
    "minor_hand": "hand ± 20 mm",
    "major_hand": "hand ± 50 mm",
    "minor_both": "towel ± 2.5 cm, hand ± 20 mm",
    "major_both": "towel ± 5 cm, hand ± 50 mm",
}
"""Draws of `vla_rft_sim.perturbation`, in the order of Table 3."""
STUDY, REWARDS, ROS, REHEARSAL = "study", "study-rewards", "study-ros", "rehearsal"
WORLD_MODEL, ACTIONS = "world-model-figures", "actions"
DEMOS_SEED, HELD_OUT_SEED = 0, 1000


def towel_plan(size: Scale, out: Path) -> Plan:
    """All steps; ValueError for files that are named and not there."""
    steps = [*_data(size), *_stage_one(size), *_policies(size), *_bundles(size), *_studies(size), *_pictures(size)]
    return Plan(steps, out)


def policy(method: str, seed: int) -> str:
    """Name of the step that makes it."""
    return f"{method}-{seed}"


def perturbation(name: str) -> str:
    """Name of the step of its study."""
    return f"study-{name.replace('_', '-')}"


# --- data and world model ---------------------------------------------------------------------------------------


def _data(size: Scale) -> Iterator[Step]:
    yield from _demonstrations("demos", "dataset", size.demonstrations, DEMOS_SEED)
    yield _step("keypoints", ("vla_rft_sim.keypoints", Of("demos"), Of("dataset"), "--out", Own("keypoints.npz")))
    yield _step("branches", ("vla_rft_sim.branch", Of("demos"), "--count", str(size.branches), "--out", Own()))
    yield from _demonstrations("held-out-demos", "held-out", size.held_out, HELD_OUT_SEED)
    if size.failures:
        count = str(size.held_out_branches)
        words = ("vla_rft_sim.branch", Of("held-out-demos"), "--count", count, "--twins", "--out", Own())
        yield _step("held-out-branches", words)


def _demonstrations(demos: str, dataset: str, count: int, seed: int) -> Iterator[Step]:
    yield _step(demos, ("vla_rft_sim.collect", "--count", str(count), "--seed", str(seed), "--out", Own()))
    yield _step(dataset, ("vla_rft_episodes", "export", Of(demos), "--out", Own()))


def _stage_one(size: Scale) -> Iterator[Step]:
    tokenizer, world_model = _tokenizer(size), _world_model(size)
    data: tuple[Word, ...] = ("--data.dataset", Of("dataset"), "--data.branches", Of("branches"))
    if isinstance(tokenizer, Of):
        yield _trained("tokenizer", ("vla_rft_train.train_tokenizer", size.preset, *data))
    if isinstance(world_model, Of):
        words = ("vla_rft_train.train_world_model", size.preset, "--tokenizer", tokenizer, *data)
        yield _trained("world-model", words)
    words = ("vla_rft_train.evaluate", "world-model", world_model, "--tokenizer", tokenizer)
    words += ("--dataset", Of("held-out"), "--per-episode", str(size.windows_per_episode), "--out", Own())
    words += ("--net", "alex", "--perceptual", "random")
    if size.failures:
        words += ("--failures", Of("held-out-branches"), "--cases", str(size.failures))
    yield _step(WORLD_MODEL, words)


def _tokenizer(size: Scale) -> Word:
    if size.tokenizer:
        return Given(Path(size.tokenizer))
    return _ours(f"{SHIPPED}/tokenizer") if size.stage_one == "shipped" else Of("tokenizer", RELEASED)


def _world_model(size: Scale) -> Word:
    if size.world_model:
        return Given(Path(size.world_model))
    return _ours(f"{SHIPPED}/world_model") if size.stage_one == "shipped" else Of("world-model", RELEASED)


def _ours(path: str) -> Given:
    """From where the command is run: checkpoints keep the paths that they were given."""
    return Given(Path(os.path.relpath(ROOT / path)))


# --- policies ---------------------------------------------------------------------------------------------------


def _policies(size: Scale) -> Iterator[Step]:
    for seed in size.seeds:
        yield _supervised(size, SFT, seed, size.sft_steps)
        yield _supervised(size, LONGER, seed, 4 * size.sft_steps)
    branches: Word = Of("branches")
    yield _trained("outcome-head", ("vla_rft_train.rft.outcome", size.preset, "--data.branches", branches))
    outcome: tuple[Word, ...] = ("--reward.outcome", str(size.outcome_weight))
    outcome += ("--reward.outcome-head", Of("outcome-head", RELEASED))
    for seed in size.seeds:
        yield _finetuned(size, RFT, seed, preset=size.rft_preset)
        yield _finetuned(size, R1, seed, "--reward.design", "ACTION", preset=size.r1_preset)
        yield _finetuned(size, R2, seed, "--reward.design", "IMAGE")
        yield _finetuned(size, R3, seed, "--reward.design", "MODEL")
        yield _finetuned(size, OUTCOME, seed, "--reward.design", "MODEL", *outcome)
        like = ("--like", Of(policy(RFT, seed), TRAINING))
        yield _finetuned(size, AS_LONG, seed, *like, module="vla_rft_train.rft.equal_time")


def _supervised(size: Scale, method: str, seed: int, steps: int) -> Step:
    words: tuple[Word, ...] = ("vla_rft_train.train_policy", size.preset, "--data.dataset", Of("dataset"))
    words += ("--data.keypoints", Of("keypoints", "keypoints.npz"))
    words += ("--loop.steps", str(steps), "--loop.seed", str(seed), *shlex.split(size.sft))
    return _trained(policy(method, seed), words)


def _finetuned(
    size: Scale, method: str, seed: int, *more: Word, module: str = "vla_rft_train.rft", preset: str = ""
) -> Step:
    words: tuple[Word, ...] = (module, preset or size.preset, "--policy", Of(policy(SFT, seed), RELEASED))
    words += ("--world-model", _world_model(size), "--tokenizer", _tokenizer(size), "--data.dataset", Of("dataset"))
    words += ("--loop.steps", str(size.rft_steps), "--loop.seed", str(seed), *shlex.split(size.rft), *more)
    return _trained(policy(method, seed), words)


# --- bundles and studies ----------------------------------------------------------------------------------------


def _bundles(size: Scale) -> Iterator[Step]:
    for method in METHODS:
        for seed in size.seeds:
            yield _bundle(size, method, seed)


def _bundle(size: Scale, method: str, seed: int) -> Step:
    export: tuple[Word, ...] = ("deploy.export", Of(policy(method, seed), RELEASED), Own(BUNDLE), "--cell", CELL)
    export += ("--data", f"{size.demonstrations} simulated demonstrations: vla_rft_sim.collect --seed {DEMOS_SEED}")
    export += ("--num-steps", str(size.num_steps), "--noise-scale", str(size.noise_scale))
    # What is joined as ever keeps its key: bundles made before there was a choice stay valid.
    export += () if size.splice is SpliceConfig().mode else ("--splice", str(size.splice))
    verify: tuple[Word, ...] = ("deploy.verify", Own(BUNDLE), *(() if size.gate else ("--no-gate",)))
    commands = (Command(words=export, makes=BUNDLE), Command(words=verify))
    return Step(name=f"bundle-{policy(method, seed)}", commands=commands)


def _studies(size: Scale) -> Iterator[Step]:
    yield _study(size, STUDY, "Towel folding: SFT N, SFT 4N, RFT", TABLE_11, COMPARED_11, size.placements)
    yield _study(size, REWARDS, "Towel folding: rewards and controls", TABLE_4, COMPARED_4, size.placements)
    if size.development:
        developed = ("--development", str(size.development_seed))
        title = "Towel folding: a rehearsal on placements to develop on"
        yield _study(size, REHEARSAL, title, TABLE_11, COMPARED_11, size.development, more=developed)
    if size.perturbed:
        for draw, title in PERTURBATIONS.items():
            name, factory = perturbation(draw), f"vla_rft_sim.perturbation:{draw}"
            drawn = ("--draw", factory)
            yield _study(size, name, f"Towel folding: {title}", (SFT, RFT), [(RFT, SFT)], size.perturbed, more=drawn)
    if size.ros_trials:
        yield _ros_study(size)


def _study(
    size: Scale,
    name: str,
    title: str,
    methods: Sequence[str],
    pairs: Pairs,
    count: int,
    *,
    more: tuple[Word, ...] = (),
) -> Step:
    """more: further words of `compose`."""
    compose = (*_compose(size, title, methods, pairs, size.seeds, count), *more)
    run: tuple[Word, ...] = ("vla_rft_sim.study", "--protocol", Own(PROTOCOL), "--out", Own(LOCKED))
    run += () if size.gate else ("--allow-unverified",)
    first = size.seeds[0]
    return Step(
        name=name,
        commands=(
            Command(words=compose, makes=PROTOCOL),
            Command(words=run, makes=f"{LOCKED}/unlocked.json"),
            *_told(methods, first),
        ),
    )


def _ros_study(size: Scale) -> Step:
    """The first seed of each, at real time."""
    compose = _compose(size, "Towel folding through ROS", TABLE_11, COMPARED_11, size.seeds[:1], size.ros_trials)
    words: tuple[Word, ...] = ("vla_rft_nodes.bringup", "evaluate", "unattended:=true", "policies:=bundles")
    words += (Own(PROTOCOL, before="protocol:="), Own(LOCKED, before="study:="))
    words += () if size.gate else ("allow_unverified:=true",)
    return Step(
        name=ROS,
        commands=(
            Command(words=compose, makes=PROTOCOL),
            Command(words=words, makes=f"{LOCKED}/unlocked.json"),
            *_told(TABLE_11, size.seeds[0]),
        ),
    )


def _compose(
    size: Scale, title: str, methods: Sequence[str], pairs: Pairs, seeds: Sequence[int], count: int
) -> tuple[Word, ...]:
    """Every method and seed, and what is compared within a seed."""
    words: tuple[Word, ...] = ("vla_rft_trials", "compose", _ours(TEMPLATE), Own(PROTOCOL), "--title", title)
    words += ("--count", str(count), "--time-limit", str(size.time_limit_s))
    for seed in seeds:
        for method in methods:
            name = policy(method, seed)
            words += ("--policy", Of(f"bundle-{name}", BUNDLE, before=f"{name}=", after=f"@{METHODS[method]}"))
        for first, second in pairs:
            words += ("--compare", f"{policy(first, seed)}:{policy(second, seed)}")
    return words


def _told(methods: Sequence[str], seed: int) -> tuple[Command, ...]:
    """What comes after a study: its report again, its figures, and strips of the first method and RFT."""
    strips: tuple[Word, ...] = ("vla_rft_trials", "strips", Own(LOCKED), policy(methods[0], seed), policy(RFT, seed))
    return (
        Command(words=("vla_rft_trials", "report", Own(LOCKED))),
        Command(words=("vla_rft_trials", "results", Own(LOCKED), "--out", Own(RESULTS))),
        Command(words=(*strips, "--out", Own(STRIPS))),
    )


def _pictures(size: Scale) -> Iterator[Step]:
    seed = size.seeds[0]
    words: tuple[Word, ...] = ("vla_rft_train.evaluate", "actions")
    words += (Of(policy(SFT, seed), RELEASED), Of(policy(RFT, seed), RELEASED), "--dataset", Of("held-out"))
    yield _step(ACTIONS, (*words, "--num-steps", str(size.num_steps), "--out", Own()))


# --- what lies in a step's folder ---------------------------------------------------------------------------------

TRAINING, RELEASED, BUNDLE = "training", "released", "bundle"
PROTOCOL, LOCKED, RESULTS, STRIPS = "protocol.yaml", "study", "results.json", "strips.png"


def _trained(name: str, words: tuple[Word, ...]) -> Step:
    """A training, which goes on by itself, and what it releases."""
    release: tuple[Word, ...] = ("vla_rft_train.release", Own(TRAINING), Own(RELEASED), "--half")
    training = Command(words=(*words, "--out", Own(TRAINING)), makes=RELEASED)
    return Step(name=name, commands=(training, Command(words=release, makes=RELEASED)))


def _step(name: str, words: tuple[Word, ...]) -> Step:
    return Step(name=name, commands=(Command(words=words),))
