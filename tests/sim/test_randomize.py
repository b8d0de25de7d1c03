"""Domain randomisation: drawn by seed, applied from the plain world, undone without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vla_rft_sim.gl import BACKEND
from vla_rft_sim.randomize import Randomization, RandomizationConfig, Randomizer, draw
from vla_rft_sim.world import TowelWorld

rendering = pytest.mark.skipif(BACKEND == "disable", reason="no off-screen OpenGL: install libegl1 libgl1-mesa-dri")


@pytest.fixture(scope="module")
def world() -> Iterator[TowelWorld]:
    made = TowelWorld()
    yield made
    made.close()


@pytest.fixture(scope="module")
def randomizer(world: TowelWorld) -> Randomizer:
    return Randomizer(world)


def arrays(world: TowelWorld) -> dict[str, np.ndarray]:
    """Every array of the model that a simulation or a picture depends on; anchors of past grasps do not count."""
    found: dict[str, Any] = {name: getattr(world.model, name) for name in dir(world.model) if name[0] != "_"}
    return {k: v.copy() for k, v in found.items() if isinstance(v, np.ndarray) and k != "eq_data"}


def differing(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    return {name for name in a if not np.array_equal(a[name], b[name])}


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    assert draw(4) == draw(4)
    assert draw(4) != draw(5)
    assert len({draw(seed).towel for seed in range(50)}) == 50


def test_without_strength_nothing_is_randomised() -> None:
    assert all(draw(seed, RandomizationConfig(strength=0.0)) == Randomization() for seed in range(20))


def test_draws_stay_within_their_amounts() -> None:
    config = RandomizationConfig(strength=0.5)
    for drawn in (draw(seed, config) for seed in range(200)):
        assert abs(drawn.mass - 1.0) <= 0.5 * config.mass and abs(drawn.friction - 1.0) <= 0.5 * config.friction
        assert np.abs(drawn.camera_shift).max() <= 0.5 * config.camera_shift
        assert np.abs(drawn.lamp_turn).max() <= 0.5 * config.lamp_angle
        assert min(*drawn.towel, *drawn.stripe) >= 0.0 and max(*drawn.towel, *drawn.stripe) <= 1.0


def test_named_numbers_give_the_draw_back() -> None:
    drawn = draw(7)
    extra = drawn.as_extra()
    assert all(name.startswith("random.") and isinstance(value, float) for name, value in extra.items())
    assert Randomization.from_extra({**extra, "something": "else"}) == drawn
    with pytest.raises(ValueError, match=r"random\.mass"):
        Randomization.from_extra({k: v for k, v in extra.items() if k != "random.mass"})


def test_everything_is_applied_and_everything_is_undone(world: TowelWorld, randomizer: Randomizer) -> None:
    plain = arrays(world)
    randomizer.apply(draw(3))
    changed = differing(plain, arrays(world))
    expected = {"geom_rgba", "light_dir", "light_diffuse", "cam_pos", "cam_quat", "tex_data", "geom_friction"}
    assert expected | {"flex_friction", "body_mass", "dof_invweight0", "flexedge_invweight0"} <= changed
    assert world.exposure == draw(3).exposure
    once = arrays(world)
    randomizer.apply(draw(2))
    randomizer.apply(draw(3))
    assert not differing(once, arrays(world))
    randomizer.apply(Randomization())
    assert not differing(plain, arrays(world)) and world.exposure == 1.0


def test_a_heavier_towel_weighs_as_if_it_had_been_compiled_so(world: TowelWorld, randomizer: Randomizer) -> None:
    plain = arrays(world)
    randomizer.apply(Randomization(mass=1.2))
    first, count = world.model.body("towel_0").id, 88
    towel = slice(first, first + count)
    assert world.model.body_mass[towel].sum() == pytest.approx(0.06)
    assert np.allclose(world.model.dof_invweight0[9:], plain["dof_invweight0"][9:] / 1.2)
    assert np.array_equal(world.model.body_mass[:first], plain["body_mass"][:first])
    randomizer.apply(Randomization())


@rendering
def test_pictures_change_and_come_back(world: TowelWorld, randomizer: Randomizer) -> None:
    world.reset(0)
    plain, _ = world.render(depth=False)
    randomizer.apply(Randomization(towel=(0.9, 0.1, 0.1)))
    world.reset(0)
    red, _ = world.render(depth=False)
    assert np.abs(red.astype(int) - plain).max() > 80
    randomizer.apply(Randomization())
    world.reset(0)
    assert np.array_equal(world.render(depth=False)[0], plain)


@rendering
def test_exposure_makes_pictures_brighter(world: TowelWorld, randomizer: Randomizer) -> None:
    means = []
    for exposure in (0.8, 1.0, 1.2):
        randomizer.apply(Randomization(exposure=exposure))
        world.reset(0)
        means.append(float(world.render(depth=False)[0].mean()))
    assert means == sorted(means) and means[2] - means[0] > 20.0
    randomizer.apply(Randomization())


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"mass": float("nan")}, {"strength": 4.0}])
def test_impossible_amounts_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RandomizationConfig(**wrong)
