"""`python -m vla_rft_train.rft PRESET --out RUN --policy ... --data.dataset DIR`: reinforcement fine-tuning, stage II.

A reward that imagines also wants --world-model and --tokenizer. RUN/index.html is the run's page.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch

from vla_rft_train import command, released
from vla_rft_train.loop import parallel
from vla_rft_train.models.perceptual import Perceptual
from vla_rft_train.rft import outcome, page
from vla_rft_train.rft.imagine import Imagination
from vla_rft_train.rft.presets import RftRun, StartConfig, rft_run
from vla_rft_train.rft.rewards import Reward, Term
from vla_rft_train.rft.stage import RftStage
from vla_rft_train.rft.start_states import PreparedStarts, prepare_starts
from vla_rft_train.rft.trainer import RftTrainer


def finetune(config: RftRun, out: Path) -> Path:
    """Fine-tune, or go on with, a policy in the run folder `out`; the folder of its last checkpoint."""
    trainer = RftTrainer(make_stage(config, parallel.join().device), config.loop, out)
    last = trainer.train()
    if trainer.world.first:
        trainer.stage.draw(trainer.model, out / "pictures", trainer.step)
        print(f"{page.write(out, config)}")
    return last


def make_stage(config: RftRun, device: torch.device) -> RftStage:
    """Everything that a fine-tuning needs, from its checkpoints; ValueError or a VlaRftError in one sentence."""
    for name, wanted in (
        ("policy", True),
        ("tokenizer", config.reward.imagines),
        ("world_model", config.reward.imagines),
    ):
        if wanted and not getattr(config, name):
            raise ValueError(f"{name}: name the folder of a {name.replace('_', ' ')}'s checkpoint")
    policy = released.load_policy(Path(config.policy))
    policy.model.to(device)
    facts = {"git": command.git_revision(), "parent": policy.digest, "policy": policy.config.kind}
    facts |= {"horizon": policy.model.shapes.horizon}
    imagination = None
    if config.reward.imagines:
        tokenizer = released.load_tokenizer(Path(config.tokenizer))
        world_model = released.load_world_model(Path(config.world_model), tokenizer)
        imagination = Imagination(
            world_model, tokenizer, policy_actions=policy.stats["action"], config=config.rollout, device=device
        )
        facts |= {"tokenizer": tokenizer.digest, "world_model": world_model.digest}
    folders = (
        (config.policy, config.world_model, config.tokenizer) if config.reward.imagines else (config.policy, "", "")
    )
    starts = _starts(config.data, *folders)
    perceptual = Perceptual(config.perceptual).to(device) if config.reward.compares_pictures else None
    reward = Reward(config.reward, perceptual=perceptual, extra=_extra(config, device))
    command.announce(
        "fine-tuning", policy.model.head, f"{len(starts.train)} start states, {config.group} rollouts of each"
    )
    return RftStage(config, policy, imagination, reward, starts, dict(starts.facts) | facts)


@lru_cache(maxsize=2)
def _starts(data: StartConfig, policy: str, world_model: str, tokenizer: str) -> PreparedStarts:
    """The start states, which many fine-tunings of one process may share: their pictures are decoded once."""
    seen = released.load_policy(Path(policy))
    if not world_model:
        return prepare_starts(data, seen, None, size=0)
    coded = released.load_tokenizer(Path(tokenizer))
    return prepare_starts(
        data, seen, released.load_world_model(Path(world_model), coded), size=coded.model.config.image_size
    )


def _extra(config: RftRun, device: torch.device) -> Mapping[str, tuple[float, Term]]:
    """Further terms of the reward."""
    if not config.reward.outcome:
        return {}
    return {"outcome": (config.reward.outcome, outcome.load(Path(config.reward.outcome_head), device))}


if __name__ == "__main__":
    command.run(rft_run, finetune, __doc__ or "")
