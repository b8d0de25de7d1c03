"""Pictures: calibrated, noisy, repeatable, with metric depth; and the towel can be seen in all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vla_rft_core.clock import ManualClock
from vla_rft_core.geometry import Array, Pose
from vla_rft_sim import towel
from vla_rft_sim.cell import SIM_CELL, find_cell
from vla_rft_sim.devices import SimCamera
from vla_rft_sim.gl import BACKEND
from vla_rft_sim.intrinsics import color_camera_info, pixel_rays
from vla_rft_sim.layout import HOME_Q, T_BASE_CAMERA, TOOL_DOWN
from vla_rft_sim.world import TowelWorld, TowelWorldConfig

needs_gl = pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")


@pytest.fixture
def world() -> Iterator[TowelWorld]:
    made = TowelWorld()
    yield made
    made.close()


def project(points: Array) -> Array:
    """Pixels (n, 2) of points (n, 3) in base."""
    info = color_camera_info("front", 640, 480)
    x, y, z = T_BASE_CAMERA.inverse().apply(points).T
    return np.stack([info.fx * x / z + info.cx, info.fy * y / z + info.cy], axis=1)


def is_blue(color: Array) -> Array:
    red, _, blue = (color[..., i].astype(int) for i in range(3))
    return blue - red > 40


@needs_gl
def test_the_towel_is_where_the_calibration_says(world: TowelWorld) -> None:
    for seed in range(3):
        world.reset(seed)
        color, _ = world.render(depth=False)
        rows, columns = np.nonzero(is_blue(color))
        corners = project(world.truth().corners + np.array([0.0, 0.0, 0.004]))
        assert np.abs(corners.min(axis=0) - (columns.min(), rows.min())).max() < 4.0
        assert np.abs(corners.max(axis=0) - (columns.max(), rows.max())).max() < 4.0


@needs_gl
def test_depth_deprojects_to_the_table(world: TowelWorld) -> None:
    _, depth = world.render()
    assert depth is not None and depth.dtype == np.uint16 and depth.shape == (480, 640)
    row, column = 440, 60
    patch = np.s_[row - 5 : row + 6, column - 5 : column + 6]
    rays = pixel_rays(world.camera_info("front"))[patch].reshape(-1, 3)
    points = T_BASE_CAMERA.apply(rays * (depth[patch].reshape(-1, 1) * 0.001))
    assert abs(points[:, 2].mean()) < 0.002
    assert 0.0 < points[:, 2].std() < 0.005


@needs_gl
def test_every_frame_differs_and_a_reset_repeats_them(world: TowelWorld) -> None:
    world.reset(3)
    first = [world.render() for _ in range(3)]
    world.reset(3)
    again = [world.render() for _ in range(3)]
    assert not np.array_equal(first[0][0], first[1][0]) and not np.array_equal(first[0][1], first[1][1])
    for (color, depth), (same_color, same_depth) in zip(first, again, strict=True):
        assert np.array_equal(color, same_color) and np.array_equal(depth, same_depth)
    difference = np.abs(first[0][0].astype(int) - first[1][0].astype(int))
    assert 0.5 < difference.mean() < 5.0


@needs_gl
def test_other_sizes_and_the_video_quality() -> None:
    world = TowelWorld(TowelWorldConfig(width=320, height=240, quality="video"))
    color, depth = world.render()
    world.close()
    assert color.shape == (240, 320, 3) and depth is not None and depth.shape == (240, 320)
    assert is_blue(color).sum() > 500


@needs_gl
def test_the_camera_device(world: TowelWorld) -> None:
    clock = ManualClock()
    camera = SimCamera(world, clock, "front", depth=False)
    frame = camera.read(0.0)
    clock.advance(100)
    later = camera.read(0.0)
    assert frame is not None and later is not None
    assert (frame.camera, frame.number, later.number, frame.depth) == ("front", 1, 2, None)
    assert later.stamp_ns - frame.stamp_ns == 100
    assert camera.info().fy == 605.613


def test_the_whole_towel_is_in_the_policys_square_for_every_placement() -> None:
    for seed in range(300):
        pixels = project(towel.flat(towel.draw(seed), (2, 2), 0.008).reshape(-1, 3))
        assert (pixels[:, 0] > 80 + 10).all() and (pixels[:, 0] < 560 - 10).all()
        assert (pixels[:, 1] > 10).all() and (pixels[:, 1] < 470).all()


@needs_gl
def test_the_arm_at_home_hides_nothing_of_the_towel(world: TowelWorld) -> None:
    for seed in range(4):
        world.reset(seed)
        _, at_home = world.render()
        vertices = world.vertices.reshape(-1, 3) + np.array([0.0, 0.0, 0.004])
        z = T_BASE_CAMERA.inverse().apply(vertices)[:, 2]
        pixels = np.rint(project(vertices)).astype(int)
        assert at_home is not None
        assert np.abs(at_home[pixels[:, 1], pixels[:, 0]] * 0.001 - z).max() < 0.03


def test_the_cells_folder_says_where_camera_and_home_are() -> None:
    folder = find_cell(SIM_CELL)
    camera = folder.calibration.cameras[0]
    metres, radians = Pose(camera.position, camera.quaternion).distance_to(T_BASE_CAMERA)
    assert metres < 1e-6 and radians < 1e-6
    assert np.abs(np.array(folder.spec.home.q) - HOME_Q).max() < 1e-9
    assert np.allclose(folder.spec.home.quaternion, TOOL_DOWN)


def test_intrinsics_scale_and_refuse_other_shapes() -> None:
    full, quarter = color_camera_info("front", 640, 480), color_camera_info("front", 160, 120)
    assert quarter.fx == pytest.approx(full.fx / 4) and quarter.cx == pytest.approx((full.cx + 0.5) / 4 - 0.5, abs=0.1)
    with pytest.raises(ValueError, match="100x100"):
        color_camera_info("front", 100, 100)
