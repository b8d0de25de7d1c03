"""Keypoints are where MuJoCo's own camera sees them, also when the camera was moved for an episode."""

from __future__ import annotations

import numpy as np
import pytest

from vla_rft_core.cell import find_cell
from vla_rft_sim import randomize
from vla_rft_sim.cell import SIM_CELL
from vla_rft_sim.gl import mujoco
from vla_rft_sim.keypoints import main, project
from vla_rft_sim.randomize import Randomization, Randomizer
from vla_rft_sim.world import TowelWorld


@pytest.mark.parametrize("drawn", [Randomization(), randomize.draw(3), randomize.draw(4)])
def test_projection_is_that_of_the_simulated_camera(drawn: Randomization) -> None:
    world = TowelWorld()
    Randomizer(world).apply(drawn)
    world.reset(5)
    mujoco.mj_forward(world.model, world.data)
    camera = world.model.camera("color").id
    points, info = world.truth().corners, world.camera_info("front")
    (mount,) = find_cell(SIM_CELL).calibration.cameras
    seen = (points - world.data.cam_xpos[camera]) @ world.data.cam_xmat[camera].reshape(3, 3)
    x, y, z = seen[:, 0], -seen[:, 1], -seen[:, 2]  # MuJoCo looks along -z with y up
    expected = np.stack([info.fx * x / z + info.cx, info.fy * y / z + info.cy], axis=-1)
    np.testing.assert_allclose(project(points, info, mount, drawn), expected, atol=0.05)
    assert ((expected > 0.0) & (expected < [640.0, 480.0])).all()


def test_what_is_not_there(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "demos"), str(tmp_path / "dataset"), "--out", str(tmp_path / "k.npz")]) == 1
    assert "no such folder" in capsys.readouterr().err and not (tmp_path / "k.npz").exists()
