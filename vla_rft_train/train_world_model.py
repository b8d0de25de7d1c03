"""`python -m vla_rft_train.train_world_model PRESET --out RUN --tokenizer CHECKPOINT --data.dataset DIR`: Eq. 3."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_rft_train import command, released
from vla_rft_train.data.codes import CodedWindows
from vla_rft_train.data.prepare import prepare
from vla_rft_train.loop.trainer import Trainer
from vla_rft_train.models.world_model import WorldModel
from vla_rft_train.presets import WorldModelRun, world_model_run
from vla_rft_train.stages import Origin, WorldModelStage, WorldModelTraining


def train(config: WorldModelRun, out: Path) -> Path:
    """Train, or go on with, the world model in the run folder `out`; the folder of its last checkpoint."""
    if not config.tokenizer:
        raise ValueError("tokenizer: name the folder of a tokenizer's checkpoint")
    parent = released.load_tokenizer(Path(config.tokenizer))
    begun = released.load_world_model(Path(config.start), parent) if config.start else None
    data = prepare(config.data, size=parent.model.config.image_size, stats=begun.stats if begun else None)
    if parent.spec is not None and data.spec is not None:
        parent.spec.require_same(data.spec, ours=config.tokenizer, theirs=config.data.dataset)
    torch.manual_seed(config.loop.seed)
    model = WorldModelTraining(
        WorldModel(config.model, released.layout_of(config, parent.model.config, data.stats)), parent.model
    )
    if begun is not None:
        if begun.config.model != config.model or begun.model.layout != model.world_model.layout:
            raise ValueError(f"start: {config.start} is {begun.config.model}, this run is {config.model}")
        model.world_model.load_state_dict(begun.model.state_dict())
    command.announce(
        "world model", model.world_model, f"{model.world_model.layout.length(config.data.frames)} positions"
    )
    facts = dict(data.facts) | {"git": command.git_revision(), "tokenizer": parent.digest}
    if begun is not None:
        facts["parent"] = begun.digest
    if config.looks and not config.encode_once:
        raise ValueError(f"looks: {config.looks} copies of every window need encode_once")
    windows = data.train
    if config.encode_once:
        windows = CodedWindows(data.train, parent.model, copies=config.looks, seed=config.loop.seed)
    stage = WorldModelStage(model, windows, data.held_out, Origin(config, data.spec, data.stats, facts))
    return Trainer(stage, config.loop, out).train()


if __name__ == "__main__":
    command.run(world_model_run, train, __doc__ or "")
