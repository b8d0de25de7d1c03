"""TokenLayout: the world model's sequence, and everything that follows from it (vocabulary, ids, positions, lengths).

    [context: frame 0 at full token count][dynamics 0][action 0][dynamics 1][action 1] ... [dynamics T]

Vocabulary: dynamics codes first, then context codes, then action bins, then BOS and EOS (unused, kept because the
paper's vocabulary of 9008 counts them; Table 5). With continuous actions there are no action bins: each action is one
position whose embedding is computed. Knows nothing of images or weights.
"""

from __future__ import annotations

from dataclasses import dataclass

BOS_EOS = 2


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """Sizes of one sequence. Example, the paper's: 1024 context and 64 dynamics tokens, 7 action tokens, 9008 ids."""

    context_tokens: int
    """Tokens of the context frame."""
    dynamics_tokens: int
    """Tokens of every frame, the context frame included."""
    codebook_size: int
    """Codes of each of the two quantisers."""
    action_dim: int
    """Numbers of one action."""
    action_bins: int
    """Bins per number when actions are discrete tokens (the paper: 256); 0 = one continuous embedding per frame."""
    actions_per_frame: int = 1
    """Control periods between two frames of the world model."""
    state_dim: int = 0
    """Numbers of the robot's state, given as one more position after the context; 0 = none (the paper)."""

    def __post_init__(self) -> None:
        sizes = (self.context_tokens, self.dynamics_tokens, self.codebook_size, self.action_dim, self.actions_per_frame)
        if min(sizes) < 1 or min(self.action_bins, self.state_dim) < 0:
            raise ValueError(f"token layout: sizes must be positive, got {self}")

    # --- ids --------------------------------------------------------------------------------------------------

    @property
    def context_id(self) -> int:
        """Id of context code 0; dynamics code 0 has id 0."""
        return self.codebook_size

    @property
    def action_id(self) -> int:
        """Id of action bin 0."""
        return 2 * self.codebook_size

    @property
    def bos_id(self) -> int:
        """Id of the beginning of a sequence."""
        return self.action_id + self.action_bins

    @property
    def eos_id(self) -> int:
        """Id of the end of a sequence."""
        return self.bos_id + 1

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.bos_id + BOS_EOS

    # --- positions --------------------------------------------------------------------------------------------

    @property
    def action_tokens(self) -> int:
        """Positions that one frame's actions take."""
        return self.action_dim * self.actions_per_frame if self.action_bins else 1

    @property
    def state_tokens(self) -> int:
        """Positions that the state takes."""
        return 1 if self.state_dim else 0

    @property
    def prefix(self) -> int:
        """Positions before the first action: context, state, dynamics 0. What a group of rollouts shares."""
        return self.context_tokens + self.state_tokens + self.dynamics_tokens

    @property
    def per_frame(self) -> int:
        """Positions that one more frame takes: its actions and its dynamics tokens."""
        return self.action_tokens + self.dynamics_tokens

    def length(self, frames: int) -> int:
        """Positions of a sequence that predicts `frames` frames."""
        return self.prefix + frames * self.per_frame

    def action_start(self, frame: int) -> int:
        """Position of the first action that leads to predicted frame `frame` (0-based)."""
        return self.prefix + frame * self.per_frame

    def dynamics_start(self, frame: int) -> int:
        """Position of the first dynamics token of predicted frame `frame` (0-based)."""
        return self.action_start(frame) + self.action_tokens
