"""The compressive tokenizer: shapes, round trips, and what a frame's codes may depend on."""

from __future__ import annotations

import pytest
import torch

from vla_rft_train.loop.trainer import STEP
from vla_rft_train.models.discriminator import PatchDiscriminator, adversarial_losses
from vla_rft_train.models.perceptual import PerceptualConfig, Weights
from vla_rft_train.models.tokenizer import CompressiveTokenizer, TokenizerConfig
from vla_rft_train.stages import ReconstructionLoss, TokenizerTraining

SMALL = TokenizerConfig(
    image_size=32, stem=2, channels=(16, 24), blocks=1, latent_channels=8, dynamics_patch=2, fsq_levels=(5, 5, 5),
    attention_size=8, residual=True,
)  # fmt: skip


@pytest.fixture
def tokenizer() -> CompressiveTokenizer:
    torch.manual_seed(0)
    model = CompressiveTokenizer(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # also what starts at zero
    return model


def test_sizes_follow_from_the_configuration(tokenizer: CompressiveTokenizer) -> None:
    assert (SMALL.context_tokens, SMALL.dynamics_tokens, SMALL.codebook_size) == (64, 16, 125)
    towel = TokenizerConfig(image_size=256)
    assert (towel.context_tokens, towel.dynamics_tokens, towel.codebook_size) == (1024, 64, 4375)
    frames = torch.rand(2, 4, 3, 32, 32)
    context = tokenizer.encode_context(frames[:, 0])
    codes = tokenizer.encode_dynamics(frames[:, 1:], context)
    assert context.codes.shape == (2, 64)
    assert codes.shape == (2, 3, 16)
    assert codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < 125


def test_decoding_codes_is_what_training_sees(tokenizer: CompressiveTokenizer) -> None:
    frames = torch.rand(2, 4, 3, 32, 32)
    with torch.no_grad():
        context = tokenizer.encode_context(frames[:, 0])
        decoded = tokenizer.decode_dynamics(tokenizer.encode_dynamics(frames[:, 1:], context), context)
        first, trained = tokenizer(frames)
    torch.testing.assert_close(decoded, trained, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(context.reconstruction, first, rtol=0.0, atol=1e-6)


def test_a_frame_is_coded_by_itself_and_frame_0(tokenizer: CompressiveTokenizer) -> None:
    frames = torch.rand(1, 4, 3, 32, 32)
    changed = frames.clone()
    changed[:, 3] = torch.rand(3, 32, 32)
    with torch.no_grad():
        context = tokenizer.encode_context(frames[:, 0])
        before, after = (tokenizer.encode_dynamics(f[:, 1:], context) for f in (frames, changed))
        other = tokenizer.encode_dynamics(frames[:, 1:], tokenizer.encode_context(torch.rand(1, 3, 32, 32)))
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.equal(before[:, 2], after[:, 2])
    assert not torch.equal(before, other)


def test_gradients_reach_every_weight(tokenizer: CompressiveTokenizer) -> None:
    first, later = tokenizer(torch.rand(2, 3, 3, 32, 32))
    (first.square().mean() + later.square().mean()).backward()
    without = [name for name, p in tokenizer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_repeated_context_decodes_like_each_alone(tokenizer: CompressiveTokenizer) -> None:
    codes = torch.randint(125, (4, 2, 16))
    with torch.no_grad():
        context = tokenizer.encode_context(torch.rand(2, 3, 32, 32))
        together = tokenizer.decode_dynamics(codes, context.repeat(2))
        one = tokenizer.encode_context(context.frame[1:])
        alone = tokenizer.decode_dynamics(codes[3:], one)
    torch.testing.assert_close(together[3:], alone, rtol=0.0, atol=1e-5)


def test_a_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="40 is not a multiple of 16"):
        TokenizerConfig(image_size=40, stem=2, channels=(16, 16), dynamics_patch=4)


def test_each_player_of_the_adversarial_game_has_a_gradient_in_its_own_weights() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    ours, true = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    fooled, found_out = adversarial_losses(discriminator, ours, true)
    (pictures,) = torch.autograd.grad(fooled, ours, retain_graph=True)
    assert pictures.abs().sum() > 0
    assert torch.autograd.grad(fooled, list(discriminator.parameters()), allow_unused=True, retain_graph=True) == (
        (None,) * len(list(discriminator.parameters()))
    )
    assert torch.autograd.grad(found_out, ours, allow_unused=True, retain_graph=True) == (None,)
    found_out.backward()
    # all but the last bias, whose pulls by real and made cancel as long as neither side is sure
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in list(discriminator.parameters())[:-1])
    with torch.no_grad():  # the losses say what their names say
        sure = PatchDiscriminator()
        sure.layers[-1].weight.zero_()
        sure.layers[-1].bias.fill_(3.0)
        assert [float(x) for x in adversarial_losses(sure, ours, true)] == [-3.0, 2.0]


def test_the_adversarial_term_is_felt_from_its_step_on() -> None:
    torch.manual_seed(0)
    weights = ReconstructionLoss(perceptual=0.0, adversarial=0.5, adversarial_from=3)
    training = TokenizerTraining(CompressiveTokenizer(SMALL), weights, PerceptualConfig(weights=Weights.NONE))
    batch = {"frames": torch.randint(255, (1, 3, 3, 32, 32), dtype=torch.uint8)}
    with torch.no_grad():
        before, after = (float(training({**batch, STEP: torch.tensor(step)})) for step in (2, 3))
        frames = batch["frames"].float() / 255.0
        fooled, _ = adversarial_losses(
            training.discriminator, training.tokenizer(frames)[1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
        )
    assert after - before == pytest.approx(0.5 * float(fooled), abs=1e-5)
