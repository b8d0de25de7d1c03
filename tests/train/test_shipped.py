"""The checkpoints that the repository ships: whole, made for one another, and good for a rollout."""

from __future__ import annotations

from pathlib import Path

import torch

import vla_rft_train
from vla_rft_train import released
from vla_rft_train.rollout import RolloutEngine

SHIPPED = Path(vla_rft_train.__file__).parent / "checkpoints" / "sim"
LARGEST_BYTES = 15_000_000


def test_the_shipped_world_model_imagines_frames_for_the_shipped_tokenizer() -> None:
    tokenizer = released.load_tokenizer(SHIPPED / "tokenizer")
    world_model = released.load_world_model(SHIPPED / "world_model", tokenizer)
    assert tokenizer.spec is not None and world_model.spec == tokenizer.spec
    layout, size = world_model.model.layout, tokenizer.model.config.image_size
    context, first = tokenizer.model.encode_window(torch.full((1, 1, 3, size, size), 0.5))
    engine = RolloutEngine(world_model.model)
    prefix = engine.prefill(context.codes, torch.zeros(1, layout.state_dim), first[:, 0])
    actions = torch.zeros(1, 2, 2, layout.actions_per_frame, layout.action_dim)
    codes = engine.rollout(prefix, actions)
    frames = tokenizer.model.decode_dynamics(codes[:, 0], context)
    assert frames.shape == (1, 2, 3, size, size) and torch.isfinite(frames).all()


def test_what_is_shipped_is_small_and_names_no_place_of_its_makers() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < LARGEST_BYTES
    for path in SHIPPED.rglob("*.yaml"):
        assert ": /" not in path.read_text(), path
