"""The compressive tokenizer (after iVideoGPT, arXiv 2405.15223): a context frame in many tokens, every frame in few.

Context encoder and decoder work on frame 0 at full token count. Dynamics encoder and decoder look at the context's
features while they work, so that a frame's few tokens need only say what has changed. Both latents are quantised by FSQ
(arXiv 2309.15505). It knows nothing of actions or of time.

Legend: B batch, T frames, C channels, H W pixels in [0, 1], Kc context tokens, Kd dynamics tokens per frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from vla_rft_train.models.blocks import GROUPS, ContextAttention, Down, ResBlock, Up


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Sizes of the tokenizer. The paper's (Tables 1 and 5 imply 1024 + 64 tokens of 4375 codes) is `towel`."""

    image_size: int
    """Side of the square frames [pixels]."""
    stem: int = 1
    """Pixels per side that the first layer folds into channels; cheap where a CPU convolves."""
    channels: tuple[int, ...] = (128, 256, 256, 512)
    """Per level; each level after the first halves the resolution."""
    blocks: int = 2
    """Residual blocks per level."""
    latent_channels: int = 64
    dynamics_patch: int = 4
    """Latent positions per side that one dynamics token stands for."""
    fsq_levels: tuple[int, ...] = (7, 5, 5, 5, 5)
    attention_size: int = 32
    """Levels of this resolution or less look at the whole context; finer ones at the same place of it (`residual`)."""
    residual: bool = False
    """Later frames are frame 0, of which the decoder takes away a part and to which it adds; its fine levels see the
    features of frame 0 in place. Still things stay sharp: tokens need only say what has changed. Not in iVideoGPT."""

    def __post_init__(self) -> None:
        shrink = self.stem * 2 ** (len(self.channels) - 1)
        if self.image_size % (shrink * self.dynamics_patch):
            raise ValueError(
                f"image_size: {self.image_size} is not a multiple of {shrink * self.dynamics_patch} "
                f"(stem {self.stem} x {len(self.channels)} levels x dynamics_patch {self.dynamics_patch})"
            )

    @property
    def latent_size(self) -> int:
        """Side of the latent maps."""
        return self.image_size // self.stem // 2 ** (len(self.channels) - 1)

    @property
    def context_tokens(self) -> int:
        """Kc."""
        return self.latent_size**2

    @property
    def dynamics_tokens(self) -> int:
        """Kd."""
        return (self.latent_size // self.dynamics_patch) ** 2

    @property
    def codebook_size(self) -> int:
        """Codes of each quantiser."""
        return prod(self.fsq_levels)


@dataclass(frozen=True, eq=False)
class Context:
    """What is kept of frame 0 of B sequences, so that it is computed once however many frames are decoded."""

    frame: Tensor
    """[B, 3, H, W] frame 0 as it was given."""
    codes: Tensor
    """[B, Kc] int64."""
    encoded: list[Tensor]
    """Encoder features, finest first."""
    decoded: list[Tensor]
    """Decoder features, finest first."""
    reconstruction: Tensor
    """[B, 3, H, W] frame 0 from its codes."""

    def take(self, rows: Tensor) -> Context:
        """The sequences of these indices [n], in this order."""
        return Context(
            frame=self.frame[rows],
            codes=self.codes[rows],
            encoded=[x[rows] for x in self.encoded],
            decoded=[x[rows] for x in self.decoded],
            reconstruction=self.reconstruction[rows],
        )

    def repeat(self, times: int) -> Context:
        """Every sequence `times` times in a row."""
        return self.take(torch.arange(len(self.frame), device=self.frame.device).repeat_interleave(times))


class Encoder(nn.Module):
    """Frame -> latent map; with `context_channels`, levels up to `attention_size` look at the context's features."""

    def __init__(self, config: TokenizerConfig, *, in_frames: int, look: bool) -> None:
        super().__init__()
        self.stem = config.stem
        size = config.image_size // config.stem
        widths = config.channels
        self.first = nn.Conv2d(3 * in_frames * config.stem**2, widths[0], 3, padding=1)
        self.downs, self.levels, self.looks = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        for level, width in enumerate(widths):
            self.downs.append(nn.Identity() if level == 0 else Down(widths[level - 1], width))
            self.levels.append(nn.Sequential(*(ResBlock(width) for _ in range(config.blocks))))
            if look and size // 2**level <= config.attention_size:
                self.looks[str(level)] = ContextAttention(width, width)
        self.last = nn.Conv2d(widths[-1], config.latent_channels, 1)

    def forward(self, frames: Tensor, context: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """frames [B, C, H, W] -> latent [B, D, h, w] and the features of every level, finest first."""
        h = self.first(_channels_last(F.pixel_unshuffle(frames, self.stem)))
        features = []
        for level, (down, blocks) in enumerate(zip(self.downs, self.levels, strict=True)):
            h = blocks(down(h))
            if context is not None and str(level) in self.looks:
                h = self.looks[str(level)](h, context[level])
            features.append(h)
        return self.last(h), features


class Decoder(nn.Module):
    """Latent map -> picture; with `look`, levels look at the context's features."""

    def __init__(self, config: TokenizerConfig, *, look: bool) -> None:
        super().__init__()
        self.stem = config.stem
        size = config.image_size // config.stem
        widths = config.channels
        self.first = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.levels, self.ups = nn.ModuleList(), nn.ModuleList()
        self.looks, self.places = nn.ModuleDict(), nn.ModuleDict()
        for level in reversed(range(len(widths))):
            self.levels.append(nn.Sequential(*(ResBlock(widths[level]) for _ in range(config.blocks))))
            self.ups.append(Up(widths[level], widths[level - 1]) if level else nn.Identity())
            if look and size // 2**level <= config.attention_size:
                self.looks[str(level)] = ContextAttention(widths[level], widths[level])
            elif look and config.residual:
                self.places[str(level)] = nn.Conv2d(widths[level], widths[level], 1)
        out_channels = 4 if look and config.residual else 3
        self.last = nn.Conv2d(widths[0], out_channels * config.stem**2, 3, padding=1)
        if look and config.residual:  # starts as a copy of frame 0
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, latent: Tensor, context: Context | None = None) -> tuple[Tensor, list[Tensor]]:
        """latent [B, D, h, w] -> [B, 3, H, W] and the features of every level, finest first."""
        h = self.first(_channels_last(latent))
        features = []
        for index, (blocks, up) in enumerate(zip(self.levels, self.ups, strict=True)):
            level = len(self.levels) - 1 - index
            if context is not None and str(level) in self.looks:
                h = self.looks[str(level)](h, context.decoded[level])
            if context is not None and str(level) in self.places:
                h = h + self.places[str(level)](context.encoded[level])
            h = blocks(h)
            features.insert(0, h)
            h = up(h)
        return F.pixel_shuffle(self.last(F.silu(h)), self.stem), features


class CompressiveTokenizer(nn.Module):
    """Frames to codes and back."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        dim, patch = len(config.fsq_levels), config.dynamics_patch
        self.context_encoder = Encoder(config, in_frames=1, look=False)
        self.context_decoder = Decoder(config, look=False)
        self.dynamics_encoder = Encoder(config, in_frames=2, look=True)
        self.dynamics_decoder = Decoder(config, look=True)
        # Normalised first: values of the size of FSQ's range, or nearly all of them fall into its middle code.
        self.context_to_codes = nn.Sequential(_norm(config), nn.Conv2d(config.latent_channels, dim, 1))
        self.context_from_codes = nn.Conv2d(dim, config.latent_channels, 1)
        self.dynamics_to_codes = nn.Sequential(
            _norm(config), nn.Conv2d(config.latent_channels, dim, patch, stride=patch)
        )
        self.dynamics_from_codes = nn.ConvTranspose2d(dim, config.latent_channels, patch, stride=patch)
        with torch.device("cpu"):  # FSQ reads its own sizes back, which the meta device cannot do
            self.context_fsq, self.dynamics_fsq = FSQ(list(config.fsq_levels)), FSQ(list(config.fsq_levels))

    # --- encode -----------------------------------------------------------------------------------------------

    def encode_context(self, frame: Tensor) -> Context:
        """Frame 0 [B, 3, H, W] -> everything that later frames need of it."""
        latent, encoded = self.context_encoder(frame)
        quantised, codes = self._quantise(self.context_fsq, self.context_to_codes(latent))
        reconstruction, decoded = self.context_decoder(self.context_from_codes(quantised))
        return Context(frame, codes, encoded, decoded, reconstruction)

    def encode_dynamics(self, frames: Tensor, context: Context) -> Tensor:
        """Frames [B, T, 3, H, W] -> codes [B, T, Kd] int64."""
        return self._dynamics(frames, context.frame, context.encoded)[1]

    @torch.no_grad()
    def encode_window(self, frames: Tensor) -> tuple[Context, Tensor]:
        """Frames [B, 1 + T, 3, H, W] -> the context of frame 0, and codes [B, 1 + T, Kd] of all of them."""
        context = self.encode_context(frames[:, 0])
        return context, self.encode_dynamics(frames, context)

    @torch.no_grad()
    def codes_of(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B, 1 + T, 3, H, W] -> context codes [B, Kc] and codes [B, 1 + T, Kd], with nothing decoded."""
        latent, encoded = self.context_encoder(frames[:, 0])
        _, context_codes = self._quantise(self.context_fsq, self.context_to_codes(latent))
        return context_codes, self._dynamics(frames, frames[:, 0], encoded)[1]

    def _dynamics(self, frames: Tensor, first: Tensor, encoded: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Frames [B, T, 3, H, W], frame 0 and its features -> quantised maps [B*T, d, h, w], codes [B, T, Kd]."""
        batch, time = frames.shape[:2]
        repeated = [features.repeat_interleave(time, dim=0) for features in encoded]
        flat = torch.cat([frames, first[:, None].expand_as(frames)], dim=2).flatten(0, 1)
        latent, _ = self.dynamics_encoder(flat, repeated)
        quantised, codes = self._quantise(self.dynamics_fsq, self.dynamics_to_codes(latent))
        return quantised, codes.reshape(batch, time, -1)

    # --- decode -----------------------------------------------------------------------------------------------

    def decode_dynamics(self, codes: Tensor, context: Context) -> Tensor:
        """Codes [B, T, Kd] -> frames [B, T, 3, H, W]; values may lie slightly outside [0, 1]."""
        side = self.config.latent_size // self.config.dynamics_patch
        values = self.dynamics_fsq.indices_to_codes(rearrange(codes, "b t k -> (b t) k"))
        quantised = rearrange(values, "n (y x) d -> n d y x", y=side)
        return self._decode(quantised, context.repeat(codes.shape[1]), codes.shape[1])

    def _decode(self, quantised: Tensor, many: Context, time: int) -> Tensor:
        out, _ = self.dynamics_decoder(self.dynamics_from_codes(quantised), many)
        if self.config.residual:
            added, taken = out[:, :3], out[:, 3:]  # no sigmoid on the mask: one that saturates lets no gradient back
            out = (1.0 - taken) * many.frame + added
        return rearrange(out, "(b t) c h w -> b t c h w", t=time)

    # --- train ------------------------------------------------------------------------------------------------

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B, 1 + T, 3, H, W] -> reconstructions of frame 0 [B, 3, H, W] and of frames 1..T [B, T, 3, H, W].

        Every frame but the first passes the dynamics path; the gradient passes the quantisers straight through.
        """
        context = self.encode_context(frames[:, 0])
        time = frames.shape[1] - 1
        quantised, _ = self._dynamics(frames[:, 1:], context.frame, context.encoded)
        return context.reconstruction, self._decode(quantised, context.repeat(time), time)

    @staticmethod
    def _quantise(fsq: FSQ, values: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, d, h, w] -> quantised map of that shape and codes [B, h*w] int64, row by row."""
        height = values.shape[2]
        quantised, codes = fsq(rearrange(values, "b d y x -> b (y x) d"))
        return rearrange(quantised, "b (y x) d -> b d y x", y=height), codes.long()


def _norm(config: TokenizerConfig) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, config.latent_channels)


def _channels_last(x: Tensor) -> Tensor:
    """Convolutions keep this order of memory from here on and take a third less time; the weights keep theirs, because
    fused optimisers want weights and their restored state in one order.
    """
    return x.contiguous(memory_format=torch.channels_last)
