"""Flow matching, heads, the small policy's eye, augmentation; and the paper-size policy by its parameter counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vla_rft_train.data.augment import AugmentConfig, augment, center_crop, moved
from vla_rft_train.data.prompts import PADDING, tokenizer_of
from vla_rft_train.models import flow
from vla_rft_train.models.conv_tower import ConvTower, ConvTowerConfig
from vla_rft_train.models.flow_head import DitConfig, DitHead, MlpConfig, MlpHead
from vla_rft_train.models.policy import ConvPolicy, ConvPolicyConfig, Shapes
from vla_rft_train.models.vla import LanguageConfig, VlaConfig, VlaPolicy
from vla_rft_train.policy_presets import policy_run

torch.set_num_threads(1)
SHAPES = Shapes(horizon=8, action_dim=7, state_dim=10)


def without_weights(config: VlaConfig, *, depth: int = 0) -> VlaConfig:
    """Random weights, and so many blocks instead of all (one of a tower's is cut off)."""
    towers = tuple(replace(tower, weights="", depth=depth and depth + 1) for tower in config.towers)
    language = replace(config.language, source="")
    if depth:
        language = replace(language, layers=depth, vocab_size=300)
    return replace(config, towers=towers, language=language)


def stirred(module: nn.Module) -> nn.Module:
    """With weights that are nowhere zero, so that a gradient of zero means a weight that is not used."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module


class TestFlow:
    def test_times_follow_beta(self) -> None:
        torch.manual_seed(0)
        t = flow.draw_time(200_000)
        beta = torch.distributions.Beta(torch.tensor(1.5), torch.tensor(1.0))
        assert float(t.mean()) == pytest.approx(float(beta.mean), abs=2e-3)
        assert float(t.std()) == pytest.approx(float(beta.stddev), abs=2e-3)
        assert float(t.min()) >= 0.0 and float(t.max()) <= 1.0

    def test_zero_is_noise_and_one_is_the_action(self) -> None:
        noise, actions = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
        x_t, u_t = flow.interpolate(noise, actions, torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(x_t[0], noise[0])
        torch.testing.assert_close(x_t[1], actions[1])
        torch.testing.assert_close(u_t, actions - noise)

    @pytest.mark.parametrize("num_steps", [1, 10])
    def test_the_true_velocity_leads_to_the_action(self, num_steps: int) -> None:
        noise, actions = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
        seen = []

        def velocity(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            seen.append(float(t[0]))
            return (actions - x_t) / (1.0 - t[:, None, None])

        torch.testing.assert_close(flow.integrate(velocity, noise, num_steps), actions)
        assert seen == pytest.approx([i / num_steps for i in range(num_steps)])

    def test_a_small_head_learns_two_actions(self) -> None:
        """What is sampled after training on -1 and 1 is -1 or 1: flow matching keeps both, regression would give 0."""
        torch.manual_seed(0)
        head = MlpHead(MlpConfig(depth=2, width=64), horizon=1, action_dim=1, state_dim=1, context_dim=1)
        optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
        context = state = torch.zeros(256, 1)
        for _ in range(300):
            actions = torch.randint(0, 2, (256, 1, 1)) * 2.0 - 1.0
            t = flow.draw_time(256)
            x_t, u_t = flow.interpolate(torch.randn(256, 1, 1), actions, t)
            loss = (head(x_t, t, context, state) - u_t).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            made = flow.integrate(lambda x_t, t: head(x_t, t, context, state), torch.randn(256, 1, 1), 10).flatten()
        assert float(((made.abs() - 1.0).abs() < 0.3).float().mean()) > 0.85
        assert 0.3 < float((made > 0.0).float().mean()) < 0.7


class TestHeads:
    def test_every_parameter_is_used_and_the_first_flow_is_zero(self) -> None:
        small = {"horizon": 8, "action_dim": 7, "state_dim": 10, "context_dim": 12}
        dit, mlp = DitHead(DitConfig(depth=3, width=32, heads=2), **small), MlpHead(MlpConfig(width=16), **small)
        for head, context in ((dit, torch.randn(2, 1, 5, 12)), (mlp, torch.randn(2, 12))):
            inputs = (torch.randn(2, 8, 7), torch.rand(2), context, torch.randn(2, 10))
            assert not head(*inputs).any()
            stirred(head)(*inputs).square().sum().backward()
            unused = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().any()]
            assert not unused

    def test_blocks_share_the_layers_of_a_bridge(self) -> None:
        head = stirred(
            DitHead(DitConfig(depth=2, width=32, heads=2), horizon=2, action_dim=1, state_dim=1, context_dim=4)
        )
        x_t, t, state = torch.randn(1, 2, 1), torch.rand(1), torch.randn(1, 1)
        layers = torch.randn(1, 4, 3, 4)
        used = []
        for i, block in enumerate(head.blocks):
            block.register_forward_hook(lambda module, inputs, output, i=i: used.append((i, inputs[2])))
        head(x_t, t, layers, state)
        projected = head.context_in(layers)
        for i, seen in used:
            torch.testing.assert_close(seen, projected[:, 2 * i])

    def test_what_is_computed_once_for_all_steps_changes_nothing(self) -> None:
        head = stirred(
            DitHead(DitConfig(depth=3, width=32, heads=2), horizon=8, action_dim=7, state_dim=10, context_dim=12)
        )
        context, state = torch.randn(2, 2, 5, 12), torch.randn(2, 10)
        once = head.conditioned(context, state)
        for _ in range(2):
            x_t, t = torch.randn(2, 8, 7), torch.rand(2)
            torch.testing.assert_close(once(x_t, t), head(x_t, t, context, state))

    def test_times_are_told_apart(self) -> None:
        embedding = MlpHead(MlpConfig(), horizon=1, action_dim=1, state_dim=1, context_dim=1).time_in
        angles = torch.tensor([0.4, 0.5])[:, None] * embedding.rates
        embedded = torch.cat([angles.cos(), angles.sin()], dim=-1)
        assert float(torch.cosine_similarity(embedded[0], embedded[1], dim=0)) < 0.9


class TestEye:
    def test_a_point_is_where_its_map_is_high(self) -> None:
        tower = ConvTower(ConvTowerConfig(points=1))
        nn.init.zeros_(tower.to_maps.weight)
        tower.to_maps.weight.data[0, 0] = 1.0
        features = torch.zeros(1, 32, 24, 24)
        features[0, 0, 6, 18] = 50.0  # row 6, column 18
        point = tower._points(features)[0, 0]
        torch.testing.assert_close(point, torch.tensor([18.5 / 12.0 - 1.0, 6.5 / 12.0 - 1.0]))

    def test_the_small_policy_is_two_parts(self) -> None:
        policy = stirred(ConvPolicy(ConvPolicyConfig(image_size=32), SHAPES)).eval()
        images, tokens, state = torch.rand(2, 3, 32, 32), torch.zeros(2, 0, dtype=torch.int64), torch.rand(2, 10)
        noise = policy.noise(2, torch.Generator().manual_seed(0))
        context = policy.encode(images, tokens, state)
        by_hand = flow.integrate(lambda x, t: policy.velocity(x, t, context, state), noise, 4)
        torch.testing.assert_close(policy.sample(images, tokens, state, noise, num_steps=4), by_hand)
        assert by_hand.shape == (2, 8, 7)

    def test_the_shipped_size(self) -> None:
        policy = ConvPolicy(policy_run("sim").policy, SHAPES)
        assert 0.9e6 < sum(p.numel() for p in policy.parameters()) < 1.5e6


class TestAugment:
    def test_nothing_wanted_changes_nothing(self) -> None:
        images = torch.rand(2, 3, 8, 8)
        assert torch.equal(augment(images, AugmentConfig())[0], images)

    def test_colors_change_within_range_and_by_the_generator(self) -> None:
        images, config = torch.rand(4, 3, 8, 8), AugmentConfig(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
        made = []
        for _ in range(2):
            torch.manual_seed(3)
            made.append(augment(images, config)[0])
        assert torch.equal(*made) and not torch.allclose(made[0], images, atol=0.02)
        assert float(made[0].min()) >= 0.0 and float(made[0].max()) <= 1.0

    def test_hue_and_saturation_leave_grey_alone(self) -> None:
        grey = torch.rand(3, 1, 4, 4).expand(3, 3, 4, 4)
        changed, _ = augment(grey, AugmentConfig(saturation=0.5, hue=0.5))
        torch.testing.assert_close(changed, grey, atol=2e-3, rtol=0.0)

    def test_crops_keep_straight_ramps_straight(self) -> None:
        ramp = torch.linspace(0.0, 1.0, 32).expand(5, 3, 32, 32)
        torch.manual_seed(0)
        cut, _ = augment(ramp, AugmentConfig(crop_area=0.81))
        slopes = cut[..., 20] - cut[..., 10]
        torch.testing.assert_close(slopes, torch.full_like(slopes, 0.9 * 10 / 31), atol=1e-4, rtol=0.0)
        assert float(cut[:, 0, 0, 5].std()) > 0.0
        middle = center_crop(ramp, 0.81)[0, 0, 0]
        assert float(middle[15] + middle[16]) == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.parametrize("config", [AugmentConfig(shift=0.1), AugmentConfig(crop_area=0.7, shift=0.05)])
    def test_points_stay_on_what_they_mark(self, config: AugmentConfig) -> None:
        x, y = torch.meshgrid(torch.linspace(-1, 1, 65), torch.linspace(-1, 1, 65), indexing="xy")
        at = torch.tensor([[0.1, -0.3], [-0.2, 0.25], [0.0, 0.4]])
        spots = torch.stack([torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 0.02) for px, py in at.tolist()])
        torch.manual_seed(2)
        pictures, cut = augment(spots[:, None].expand(-1, 3, -1, -1), config)
        assert float((cut[:, 1:].abs()).min()) > 0.0
        weights = pictures[:, :1] / pictures[:, :1].sum(dim=(2, 3), keepdim=True)
        found = torch.stack([(weights * x).sum(dim=(1, 2, 3)), (weights * y).sum(dim=(1, 2, 3))], dim=-1)
        torch.testing.assert_close(found[:, None], moved(at[:, None], cut), atol=0.02, rtol=0.0)


class TestPrompts:
    def test_bytes_are_padded_in_front(self) -> None:
        tokens = tokenizer_of("bytes", length=80)("Fold the towel.")
        text = bytes(t for t in tokens.tolist() if t != PADDING).decode()
        assert text == "What action should the robot take to fold the towel?"
        assert len(tokens) == 80 and int(tokens[0]) == PADDING
        with pytest.raises(ValueError, match="the policy reads 8"):
            tokenizer_of("bytes", length=8)("fold the towel")

    def test_a_tokenizer_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ValueError, match=r"tokenizer '\./nowhere'"):
            tokenizer_of("./nowhere", length=8)


class TestPaperSize:
    @pytest.mark.parametrize("preset", ["towel", "libero"])
    def test_parameters_are_what_the_tables_imply(self, preset: str) -> None:
        config = without_weights(policy_run(preset).policy)
        with torch.device("meta"):
            policy = VlaPolicy(config, SHAPES)
        counts = {name: count(getattr(policy, name)) for name in ("towers", "language", "projector", "head")}
        assert counts["language"] == qwen(LanguageConfig()) + lora_of_language(LanguageConfig(), 64)
        towers = vit(1024, 23, 4096, tokens=256, prefix=5, scaled=True) + vit(1152, 26, 4304, tokens=256)
        assert counts["towers"] == towers + lora_of_vit(1024, 23, 4096, 64) + lora_of_vit(1152, 26, 4304, 64)
        assert counts["projector"] == 2176 * 8704 + 8704 + 8704 * 896 + 896 + 896 * 896 + 896
        assert counts["head"] == 54_703_111
        assert sum(counts.values()) + 64 * 896 == count(policy) == 1_353_145_639
        trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        assert trained == 171_281_671

    @pytest.mark.parametrize("bridge", ["last", "all"])
    def test_one_step_at_reduced_depth(self, bridge: str) -> None:
        """Real towers and language model of full width, random weights, one block of each."""
        config = replace(without_weights(policy_run("towel").policy, depth=1), bridge=bridge, head=DitConfig(depth=1))
        torch.manual_seed(0)
        policy = VlaPolicy(config, SHAPES)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or "modulation" in name or name.startswith("head.out"):
                nn.init.normal_(parameter, std=0.02)
        tokens = torch.tensor([[PADDING, 5, 6]])
        context = policy.encode(torch.rand(1, 3, 224, 224), tokens, torch.rand(1, 10))
        assert context.shape == (1, 1, 256 + 64, 896)
        policy.velocity(torch.randn(1, 8, 7), torch.rand(1), context, torch.rand(1, 10)).square().sum().backward()
        for name, parameter in policy.named_parameters():
            used = parameter.grad is not None and bool(parameter.grad.abs().any())
            assert used == parameter.requires_grad, name

    def test_padding_is_not_read(self) -> None:
        policy = VlaPolicy(tiny(), SHAPES).eval()
        images, state = torch.rand(1, 3, 32, 32), torch.zeros(1, 10)
        padded = policy.encode(images, torch.tensor([[PADDING, PADDING, 7, 8]]), state)
        patches = policy.towers.patches
        alone = policy.encode(images, torch.tensor([[7, 8]]), state)
        torch.testing.assert_close(padded[:, :, :patches], alone[:, :, :patches])
        other = policy.encode(images, torch.tensor([[PADDING, PADDING, 7, 9]]), state)
        assert not torch.allclose(padded[:, :, patches:], other[:, :, patches:])

    def test_weights_that_are_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ValueError, match="no file /nowhere"):
            VlaPolicy(
                replace(tiny(), towers=(replace(policy_run("towel").policy.towers[0], weights="/nowhere"),)), SHAPES
            )
        with pytest.raises(ValueError, match=r"language model '\./nowhere'"):
            VlaPolicy(replace(tiny(), language=LanguageConfig(source="./nowhere")), SHAPES)


def tiny() -> VlaConfig:
    """The same code in small."""
    tower = replace(policy_run("towel").policy.towers[0], name="vit_tiny_patch16_224", weights="", depth=2)
    return VlaConfig(
        image_size=32,
        towers=(tower,),
        language=LanguageConfig(
            source="", layers=1, width=16, heads=2, kv_heads=1, ffn_width=32, vocab_size=300, max_positions=128
        ),
        head=DitConfig(depth=1, width=16, heads=2),
        queries=4,
        lora_rank=2,
        lora_alpha=4,
        tokenizer="bytes",
    )


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())


def qwen(c: LanguageConfig) -> int:
    """Qwen2.5 without its output layer, which shares the embedding: biases on q, k and v only, RMS norms."""
    kv = c.width * c.kv_heads // c.heads
    attention = 2 * c.width * c.width + 2 * c.width * kv + c.width + 2 * kv
    return c.vocab_size * c.width + c.layers * (attention + 3 * c.width * c.ffn_width + 2 * c.width) + c.width


def lora_of_language(c: LanguageConfig, rank: int) -> int:
    """Two thin matrices beside every linear map."""
    kv = c.width * c.kv_heads // c.heads
    sides = 2 * (c.width + c.width) + 2 * (c.width + kv) + 3 * (c.width + c.ffn_width)
    return c.layers * rank * sides


def vit(width: int, blocks: int, ffn: int, *, tokens: int, prefix: int = 0, scaled: bool = False) -> int:
    """A vision transformer with 14x14 patches, without final norm; `scaled` has LayerScale."""
    block = 4 * width * width + 4 * width + 2 * width * ffn + width + ffn + 4 * width + (2 * width if scaled else 0)
    return blocks * block + 14 * 14 * 3 * width + width + tokens * width + prefix * width


def lora_of_vit(width: int, blocks: int, ffn: int, rank: int) -> int:
    """Beside qkv, projection and both maps of the feed-forward."""
    return blocks * rank * ((width + 3 * width) + 2 * width + 2 * (width + ffn))
