"""Scale: how large the experiment is. `debug` takes minutes and proves the plan only; `sim` is the experiment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vla_rft_core.splice import SpliceConfig, SpliceMode
from vla_rft_train.presets import choose


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Everything that decides how much is made, trained and tried. Every field is an option of the command."""

    preset: str
    """Of every training."""
    rft_preset: str = ""
    """Of the fine-tuning of Table 11, its reward with it; empty: the same."""
    r1_preset: str = ""
    """Of fine-tuning with R1, which sees every number of every action and wants other noise; empty: the same."""
    demonstrations: int = 50
    branches: int = 4000
    """Short failures, for the world model and for the outcome's head."""
    held_out: int = 20
    """Demonstrations that only the world model's evaluation sees."""
    held_out_branches: int = 300
    windows_per_episode: int = 12
    """Of the world model's evaluation."""
    failures: int = 50
    """Branches on which the world model is tested; 0: none."""
    stage_one: Literal["own", "shipped"] = "own"
    """Tokenizer and world model: trained here, or those of vla_rft_train/checkpoints/sim."""
    world_model: str = ""
    """A checkpoint's folder in the place of either."""
    tokenizer: str = ""
    """The one that goes with it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of training, for every method."""
    sft_steps: int = 5000
    """N: the base policy's; the longer one has four times as many."""
    rft_steps: int = 200
    sft: str = ""
    """Further options of `vla_rft_train.train_policy`, as they are typed there: `--sft="--loop.lr 5e-4"`."""
    rft: str = ""
    """Further options of `vla_rft_train.rft`, for every reward and for the control alike."""
    outcome_weight: float = 0.05
    """Of the terminal outcome beside R3. At 1 its head was deceived and nothing folded (docs/results)."""
    num_steps: int = 10
    """Euler steps of every bundle."""
    noise_scale: float = 0.0
    """Of the noise that every bundle's chunks start from."""
    splice: SpliceMode = SpliceConfig().mode
    """How the chunks of every bundle are joined."""
    gate: bool = True
    """Bundles pass the closed-loop gate before they are tried; without, records say so."""
    placements: int = 50
    """Of the study, and of that of the rewards."""
    development: int = 0
    """Placements of a rehearsal of the study, played just as the study is, on seeds to develop on; 0: none."""
    development_seed: int = 300
    """Of its first placement."""
    perturbed: int = 50
    """Placements per perturbation; 0: none."""
    ros_trials: int = 10
    """Per policy, through ROS at real time, with the first seed; 0: none."""
    time_limit_s: float = 30.0
    """Of a trial in the simulated cell."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: at least one, all different, got {self.seeds}")
        if bool(self.world_model) != bool(self.tokenizer):
            raise ValueError("world_model and tokenizer: name both or neither, they are made for one another")
        counts = {"demonstrations": self.demonstrations, "placements": self.placements, "sft_steps": self.sft_steps}
        for name, count in (counts | {"rft_steps": self.rft_steps}).items():
            if count < 1:
                raise ValueError(f"{name}: at least 1, got {count}")


def scale(name: str) -> Scale:
    """The scale of that name; ValueError lists the others."""
    return choose(name, {"debug": _debug, "sim": _sim})


def _sim() -> Scale:
    return Scale(preset="sim", rft_preset="sim-r3-r1", r1_preset="sim-r1")


def _debug() -> Scale:
    return replace(
        _sim(),
        preset="debug",
        rft_preset="",
        r1_preset="",
        demonstrations=2,
        branches=24,
        held_out=1,
        windows_per_episode=2,
        failures=0,
        seeds=(0, 1),
        sft_steps=2,
        rft_steps=2,
        num_steps=2,
        gate=False,
        placements=2,
        perturbed=1,
        ros_trials=0,
        time_limit_s=2.0,
    )
