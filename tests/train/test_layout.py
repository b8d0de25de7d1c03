"""TokenLayout: everything follows from the sizes; the paper's numbers come out."""

from __future__ import annotations

import pytest

from vla_rft_train.models.layout import TokenLayout

PAPER = TokenLayout(context_tokens=1024, dynamics_tokens=64, codebook_size=4375, action_dim=7, action_bins=256)
SMALL = TokenLayout(
    context_tokens=4, dynamics_tokens=2, codebook_size=5, action_dim=3, action_bins=0, actions_per_frame=2, state_dim=6
)


def test_the_papers_vocabulary_and_lengths() -> None:
    assert PAPER.vocab_size == 9008
    assert PAPER.per_frame == 71
    assert PAPER.prefix + PAPER.action_tokens == 1095  # its max_prompt_length
    assert PAPER.length(8) == 1024 + 64 + 8 * 71


def test_ids_do_not_overlap() -> None:
    assert PAPER.context_id == 4375
    assert PAPER.action_id == 8750
    assert PAPER.bos_id == 9006


def test_positions_of_a_small_layout() -> None:
    # [c c c c][s][d d] then per frame [a][d d]
    assert SMALL.prefix == 7
    assert SMALL.per_frame == 3
    assert [SMALL.action_start(i) for i in range(3)] == [7, 10, 13]
    assert [SMALL.dynamics_start(i) for i in range(3)] == [8, 11, 14]
    assert SMALL.length(3) == 16
    assert SMALL.vocab_size == 12


def test_discrete_actions_of_several_periods_take_a_token_per_number() -> None:
    layout = TokenLayout(
        context_tokens=4, dynamics_tokens=2, codebook_size=5, action_dim=7, action_bins=256, actions_per_frame=2
    )
    assert layout.action_tokens == 14


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="sizes must be positive"):
        TokenLayout(context_tokens=0, dynamics_tokens=2, codebook_size=5, action_dim=7, action_bins=256)
