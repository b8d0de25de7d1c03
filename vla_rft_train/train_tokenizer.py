"""`python -m vla_rft_train.train_tokenizer PRESET --out RUN --data.dataset DIR`: the compressive tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_rft_train import command
from vla_rft_train.data.prepare import prepare
from vla_rft_train.loop.trainer import Trainer
from vla_rft_train.models.tokenizer import CompressiveTokenizer
from vla_rft_train.presets import TokenizerRun, tokenizer_run
from vla_rft_train.stages import Origin, TokenizerStage, TokenizerTraining


def train(config: TokenizerRun, out: Path) -> Path:
    """Train, or go on with, the tokenizer in the run folder `out`; the folder of its last checkpoint."""
    data = prepare(config.data, size=config.model.image_size)
    torch.manual_seed(config.loop.seed)
    tokenizer = CompressiveTokenizer(config.model)
    sizes = (
        f"{config.model.context_tokens} + {config.model.dynamics_tokens} tokens of {config.model.codebook_size} codes"
    )
    command.announce("tokenizer", tokenizer, sizes)
    model = TokenizerTraining(tokenizer, config.loss, config.perceptual, later_frames=config.later_frames)
    facts = dict(data.facts) | {"git": command.git_revision()}
    stage = TokenizerStage(model, data.train, data.held_out, Origin(config, data.spec, data.stats, facts))
    return Trainer(stage, config.loop, out).train()


if __name__ == "__main__":
    command.run(tokenizer_run, train, __doc__ or "")
