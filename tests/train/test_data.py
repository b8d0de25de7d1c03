"""Windows, statistics and splits over clips made of numbers that can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_rft_core.types import Image
from vla_rft_train.data import normalize
from vla_rft_train.data.clips import FrameCache, JoinedClips, split_episodes
from vla_rft_train.data.normalize import NormStats
from vla_rft_train.data.windows import WindowConfig, Windows, stats_of


class Numbers:
    """Clips whose frame, state and action at row t of clip c hold 10 c + t."""

    state_names = ("s",)
    action_names = ("a", "b")

    def __init__(self, *lengths: int, first: int = 0) -> None:
        self._lengths, self._first = lengths, first

    def __len__(self) -> int:
        return len(self._lengths)

    def length(self, clip: int) -> int:
        return self._lengths[clip]

    def _values(self, clip: int) -> np.ndarray:
        return 10 * (clip + self._first) + np.arange(self._lengths[clip])

    def frames(self, clip: int, rows: Sequence[int]) -> Image:
        values = self._values(clip)[list(rows)].astype(np.uint8)
        return np.broadcast_to(values[:, None, None, None], (len(rows), 4, 4, 3)).copy()

    def states(self, clip: int) -> np.ndarray:
        return self._values(clip).astype(np.float32)[:, None]

    def actions(self, clip: int) -> np.ndarray:
        return np.stack([self._values(clip), -self._values(clip)], axis=1).astype(np.float32)

    def prompt(self, clip: int) -> str:
        return f"clip {clip}"


def unit(names: tuple[str, ...]) -> NormStats:
    """Statistics that leave numbers as they are."""
    n = len(names)
    return NormStats(names, (0.0,) * n, (1.0,) * n, (-1.0,) * n, (1.0,) * n, (1e-3,) * n)


STATS = {"state": unit(("s",)), "action": unit(("a", "b"))}


def test_windows_hold_the_actions_between_their_frames_and_stay_within_a_clip() -> None:
    windows = Windows(Numbers(7, 4, 5), WindowConfig(frames=2, actions_per_frame=2), STATS)
    assert [windows.place(i) for i in range(len(windows))] == [(0, 0), (0, 1), (0, 2), (2, 0)]
    item = windows[2]
    assert item["frames"][:, 0, 0, 0].tolist() == [2, 4, 6]
    assert item["frames"].shape == (3, 3, 4, 4)
    assert item["actions"].tolist() == [[[2, -2], [3, -3]], [[4, -4], [5, -5]]]
    assert item["state"].tolist() == [2]
    assert windows[3]["frames"][:, 0, 0, 0].tolist() == [20, 22, 24]


def test_clips_that_are_all_too_short_are_refused() -> None:
    with pytest.raises(ValueError, match="no clip has the 9 rows of a window of 4 frames"):
        Windows(Numbers(8, 3), WindowConfig(frames=4, actions_per_frame=2), STATS)


def test_statistics_of_other_dimensions_are_refused() -> None:
    stats = {"state": unit(("other",)), "action": unit(("a", "b"))}
    with pytest.raises(ValueError, match=r"norm_stats of state are for \('other',\)"):
        Windows(Numbers(8), WindowConfig(frames=2), stats)


def test_quantiles_go_to_minus_one_and_one_and_back() -> None:
    rows = np.stack([np.linspace(0.0, 10.0, 1001), np.full(1001, 3.0)], axis=1)
    stats = NormStats.of(rows, ("moves", "rests"), (0.001, 0.5))
    values = torch.tensor([[0.1, 3.0], [9.9, 3.25]])
    normal = stats.normalize(values)
    torch.testing.assert_close(normal, torch.tensor([[-1.0, 0.0], [1.0, 1.0]]), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(stats.unnormalize(normal), values)


def test_statistics_survive_their_file_and_a_broken_one_is_named(tmp_path: Path) -> None:
    stats = stats_of(Numbers(9), state_min_range=(0.1,), action_min_range=(0.1, 0.1))
    normalize.save(stats, tmp_path)
    assert normalize.load(tmp_path) == stats
    (tmp_path / normalize.FILE_NAME).write_text("{}}")
    with pytest.raises(ValueError, match=r"norm_stats\.json: malformed"):
        normalize.load(tmp_path)
    with pytest.raises(ValueError, match="without its statistics"):
        normalize.load(tmp_path / "elsewhere")


def test_numbers_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match="not finite in b"):
        NormStats.of(np.array([[1.0, np.nan]]), ("a", "b"), (1.0, 1.0))


def test_joined_clips_keep_their_own_and_must_agree() -> None:
    joined = JoinedClips([Numbers(3), Numbers(4, 5, first=5)])
    assert [joined.length(i) for i in range(len(joined))] == [3, 4, 5]
    assert joined.states(2)[0, 0] == 60
    other = Numbers(3)
    other.action_names = ("a", "c")
    with pytest.raises(ValueError, match="clips differ in action_names"):
        JoinedClips([Numbers(3), other])


def test_a_split_is_by_episode_and_by_seed() -> None:
    train, held_out = split_episodes(50, held_out=0.02, seed=3)
    assert len(held_out) == 1
    assert sorted(train + held_out) == list(range(50))
    assert split_episodes(50, held_out=0.02, seed=3) == (train, held_out)
    assert split_episodes(50, held_out=0.2, seed=4)[1] != split_episodes(50, held_out=0.2, seed=5)[1]


def test_the_cache_keeps_what_was_used_last_within_its_bound() -> None:
    cache = FrameCache(limit_bytes=2 * 48)
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    assert all(cache.put(clip, frames) for clip in (0, 1))
    assert cache.get(0) is not None
    cache.put(2, frames)
    assert [cache.get(clip) is not None for clip in range(3)] == [True, False, True]
    assert not cache.put(3, np.zeros((3, 4, 4, 3), np.uint8))
