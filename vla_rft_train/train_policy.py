"""`python -m vla_rft_train.train_policy PRESET --out RUN --data.dataset DIR`: the flow-matching policy (Eq. 4)."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_rft_train import command
from vla_rft_train.data.prepare_policy import prepare_policy
from vla_rft_train.loop.trainer import Trainer
from vla_rft_train.models.making import make_policy, shapes_of
from vla_rft_train.policy_presets import PolicyRun, policy_run
from vla_rft_train.policy_stage import PolicyStage, PolicyTraining
from vla_rft_train.stages import Origin


def train(config: PolicyRun, out: Path) -> Path:
    """Train, or go on with, the policy in the run folder `out`; the folder of its last checkpoint."""
    data = prepare_policy(config)
    torch.manual_seed(config.loop.seed)
    policy = make_policy(config.policy, shapes_of(data.horizon, data.stats))
    facts = dict(data.facts) | {"git": command.git_revision(), "policy": config.kind, "horizon": data.horizon}
    stage = PolicyStage(
        PolicyTraining(policy, config.loss, config.augment),
        data.train,
        data.held_out,
        data.stats,
        Origin(config, data.spec, data.stats, facts),
    )
    return Trainer(stage, config.loop, out).train()


if __name__ == "__main__":
    command.run(policy_run, train, __doc__ or "")
