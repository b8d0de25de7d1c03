"""Starts are counted where they were, and the map shows the newest one and the cells nobody tried."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_core.manifest import write_manifest
from vla_rft_episodes import layout
from vla_rft_episodes.collection import Collection
from vla_rft_episodes.coverage import Region, Start, count, draw, starts, workspace
from vla_rft_episodes.labels import Label, Labels, Outcome
from vla_rft_episodes.synthetic import STARTED_NS, SyntheticConfig, synthetic_messages, write_synthetic

REGION = Region((0.4, -0.2), (0.6, 0.2), 0.1)
ORANGE = np.array([0xD5, 0x5E, 0x00])


def test_cells_of_a_region() -> None:
    assert REGION.shape == (2, 4)
    assert REGION.cell_of(0.45, -0.15) == (0, 0)
    assert REGION.cell_of(0.59, 0.19) == (1, 3)
    assert REGION.cell_of(0.61, 0.0) is None
    assert REGION.cell_of(0.5, -0.21) is None


@pytest.mark.parametrize("region", [((0.5, 0.0), (0.4, 1.0), 0.1), ((0.0, 0.0), (1.0, 1.0), 0.0)])
def test_a_region_must_have_area(region: tuple[tuple[float, float], tuple[float, float], float]) -> None:
    with pytest.raises(ValueError, match="low must be below high"):
        Region(*region)


def test_count_leaves_out_discarded_and_outside() -> None:
    found = count(
        [
            Start("a", 0.45, 0.05, 0.0),
            Start("b", 0.46, 0.04, 0.0),
            Start("c", 0.55, 0.05, 0.0, discarded=True),
            Start("d", 0.95, 0.05, 0.0),
        ],
        REGION,
    )
    assert found == {(0, 2): 2}


def test_starts_of_a_collection(tmp_path: Path) -> None:
    cell = find_cell("vla_rft_sim:towel_cell")
    for index, offset in enumerate([(0.0, 0.0), (0.04, -0.02)]):
        write_synthetic(
            tmp_path, cell, SyntheticConfig(grasp_offset=offset), started_ns=STARTED_NS + index * 60 * NS_PER_S
        )
    never_closed = list(synthetic_messages(cell))[:400]
    write_synthetic(tmp_path, cell, started_ns=STARTED_NS + 300 * NS_PER_S, messages=never_closed)
    collection = Collection(tmp_path)
    first, second, _ = collection.episodes()
    Labels(tmp_path).append(second.id, Label.DISCARD, Outcome.FAILURE, "test")
    found = starts(collection)
    assert [start.episode_id for start in found] == [first.id, second.id]
    assert [(start.x, start.y) for start in found] == [pytest.approx((0.5, 0.12)), pytest.approx((0.54, 0.10))]
    assert [start.discarded for start in found] == [False, True]
    assert workspace(first, cell=0.05) == Region((0.36, -0.40), (0.80, 0.40), 0.05)


def test_an_episode_without_a_verdict_is_read(tmp_path: Path) -> None:
    path = write_synthetic(tmp_path, find_cell("vla_rft_sim:towel_cell"))
    (before,) = starts(Collection(tmp_path))
    (ref,) = Collection(tmp_path).episodes()
    (path / "manifest.json").unlink()
    write_manifest(path, kind=layout.KIND, metadata={**ref.info.to_plain(), "verdict": None})
    assert starts(Collection(tmp_path)) == (before,)


def _pixels(png: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    return image[:, :, ::-1]


def test_the_newest_is_highlighted_where_it_is() -> None:
    left = [Start("a", 0.45, -0.15, 0.3), Start("b", 0.55, 0.15, 0.3)]
    right = list(reversed(left))
    for of, side in ((left, "left"), (right, "right")):
        picture = _pixels(draw(of, REGION, title="starts"))
        columns = np.flatnonzero((np.abs(picture.astype(int) - ORANGE).max(axis=2) < 12).any(axis=0))
        assert len(columns)
        middle = columns.mean() / picture.shape[1]
        assert (middle < 0.5) == (side == "left")  # +y of the base is to the left


def test_a_map_without_starts_can_be_drawn() -> None:
    picture = _pixels(draw([], REGION, title="nothing yet"))
    assert picture.std() > 1.0


def test_a_start_turned_by_half_looks_the_same() -> None:
    one, other = (draw([Start("a", 0.5, 0.0, yaw)], REGION, title="t") for yaw in (0.4, 0.4 - math.pi))
    assert (_pixels(one) == _pixels(other)).mean() > 0.9999
