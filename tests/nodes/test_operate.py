"""The operator's slow moves as chunks: how many targets, how fast, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_core.types import SetPoint, Source
from vla_rft_nodes.operate import jog_chunk, parser

SPEC = find_cell("vla_rft_sim:towel_cell").spec
START = SetPoint(SPEC.home.T_base_tcp, 0.08)


def test_a_jog_is_a_straight_line_at_the_speed_asked_for():
    chunk = jog_chunk(START, SPEC, delta=(0.0, 0.03, 0.04), speed=0.02, sequence=7)
    steps = np.diff(np.vstack([START.T_base_tcp.position, chunk.positions]), axis=0)
    speeds = np.linalg.norm(steps, axis=1) / SPEC.control_period_s
    assert len(chunk) == 25 and speeds == pytest.approx(np.full(25, 0.02))
    assert chunk.positions[-1] - START.T_base_tcp.position == pytest.approx([0.0, 0.03, 0.04])
    assert chunk.quaternions == pytest.approx(np.tile(START.T_base_tcp.quaternion, (25, 1)))
    assert set(chunk.widths) == {0.08} and chunk.source is Source.HOME and chunk.sequence == 7


@pytest.mark.parametrize("delta", [(0.0, 0.0, 0.0), (0.0, 0.0, -0.5), (float("nan"), 0.0, 0.0)])
def test_no_way_and_a_long_way_are_refused(delta):
    with pytest.raises(ValueError, match=r"at most 0\.2 m"):
        jog_chunk(START, SPEC, delta=delta, speed=0.02, sequence=1)


def test_motion_is_at_five_percent_unless_told_otherwise(capsys):
    assert parser().parse_args(["jog", "--z", "0.05"]).percent == 5.0
    with pytest.raises(SystemExit):
        parser().parse_args(["home", "--percent", "150"])
    assert "at most 100" in capsys.readouterr().err
