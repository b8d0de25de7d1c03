"""Domain randomisation: how a towel world looks and behaves in one episode, drawn from a seed, applied and undone.

The world is edited in place: colours, light, camera, exposure, friction, mass. Every application starts from the model
as it was compiled, so nothing adds up. Geometry (placement of the towel, size of the cloth) is not touched.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.geometry import (
    Array,
    quaternion_multiply,
    quaternion_to_matrix,
    rotvec_to_quaternion,
)
from vla_rft_sim.looks import Rgb, TowelLook
from vla_rft_sim.world import TowelWorld

PREFIX = "random."
"""Of the drawn values' names in an episode's `info.extra`."""


@dataclass(frozen=True, kw_only=True)
class RandomizationConfig:
    """Largest departures from the world as it is compiled, each drawn uniformly within plus and minus the value."""

    strength: float = 1.0
    """Scales everything below; 0 is the plain world."""
    colors: float = 0.9
    """How far the towel's colours go from today's towards one drawn from all: 0 not at all, 1 entirely."""
    table: float = 0.6
    """The same for the table, towards a drawn wood, grey or dark top."""
    lamp_angle: float = math.radians(25.0)
    """Of the lamp's direction, about two axes [rad]."""
    light: float = 0.35
    """Relative, of the lamp and, on its own, of the light from all around."""
    camera_shift: float = 0.004
    """Of the camera along each axis [m]: the calibration is that wrong."""
    camera_turn: float = math.radians(0.4)
    """About each axis [rad]."""
    exposure: float = 0.15
    """Relative brightness of the image."""
    friction: float = 0.25
    """Relative, of towel and table."""
    mass: float = 0.3
    """Relative, of the towel."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{field.name} must not be negative, got {value}")
        for name in ("light", "exposure", "friction", "mass"):
            if self.strength * getattr(self, name) >= 0.9:
                raise ValueError(f"{name} at strength {self.strength:g} must stay below 0.9, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Randomization:
    """What was drawn; the defaults are the plain world."""

    towel: Rgb = TowelLook.ground
    stripe: Rgb = TowelLook.stripe
    stripe_pattern: int = 0
    """Which of `STRIPES`."""
    table: Rgb = (1.0, 1.0, 1.0)
    """Factors on the planks' colours."""
    lamp_turn: tuple[float, float] = (0.0, 0.0)
    """Of the lamp's direction about base x and y [rad]."""
    lamp: float = 1.0
    """Factor on the lamp's brightness."""
    ambient: float = 1.0
    """Factor on the light from all around."""
    exposure: float = 1.0
    """Factor on the image's brightness."""
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of the camera in base [m]."""
    camera_turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation vector of the camera in base [rad]."""
    friction: float = 1.0
    """Factor."""
    mass: float = 1.0
    """Factor."""

    def as_extra(self) -> dict[str, float]:
        """Named numbers for an episode's `info.extra`."""
        extra: dict[str, float] = {}
        for name, value in asdict(self).items():
            if isinstance(value, tuple):
                extra |= {f"{PREFIX}{name}.{i}": float(part) for i, part in enumerate(value)}
            else:
                extra[PREFIX + name] = float(value)
        return extra

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> Randomization:
        """Undo `as_extra`; ValueError naming a value that is missing."""
        plain, values = cls(), {}
        try:
            for name, default in asdict(plain).items():
                if isinstance(default, tuple):
                    values[name] = tuple(float(extra[f"{PREFIX}{name}.{i}"]) for i in range(len(default)))
                else:
                    values[name] = type(default)(extra[PREFIX + name])
        except KeyError as error:
            raise ValueError(f"the randomisation is incomplete: there is no {error}") from None
        return cls(**values)


STRIPES: tuple[tuple[tuple[float, float], ...], ...] = (
    TowelLook.stripes,
    (),
    ((0.06, 0.16),),
    ((0.05, 0.065), (0.09, 0.105), (0.13, 0.145)),
    ((0.2, 0.23),),
)
_TABLES: tuple[Rgb, ...] = (
    (1.0, 1.0, 1.0),
    (0.95, 1.12, 1.42),
    (0.45, 0.42, 0.40),
    (0.62, 0.72, 0.9),
    (1.05, 0.9, 0.7),
)
"""Light wood (as it is), white, dark brown, grey, reddish: factors on the planks' colours."""


def draw(seed: int, config: RandomizationConfig | None = None) -> Randomization:
    """The world of a seed; the same seed and config give the same."""
    config = config or RandomizationConfig()
    random, strength = np.random.default_rng([seed, 2]), config.strength

    def within(amount: float, count: int = 1) -> list[float]:
        return [float(v) * strength * amount for v in random.uniform(-1.0, 1.0, count)]

    ground = colorsys.hsv_to_rgb(random.uniform(), random.uniform(0.1, 0.85), random.uniform(0.3, 0.98))
    stripe = colorsys.hsv_to_rgb(random.uniform(), random.uniform(0.0, 0.6), random.uniform(0.35, 1.0))
    pattern = int(random.integers(len(STRIPES)))
    table = _TABLES[int(random.integers(len(_TABLES)))]
    colors, tint = min(1.0, strength * config.colors), min(1.0, strength * config.table)
    return Randomization(
        towel=_mixed(TowelLook.ground, ground, colors),
        stripe=_mixed(TowelLook.stripe, stripe, colors),
        stripe_pattern=pattern if strength > 0.0 and config.colors > 0.0 else 0,
        table=_mixed((1.0, 1.0, 1.0), table, tint),
        lamp_turn=(*within(config.lamp_angle, 2),),
        lamp=1.0 + within(config.light)[0],
        ambient=1.0 + 0.5 * within(config.light)[0],
        exposure=1.0 + within(config.exposure)[0],
        camera_shift=(*within(config.camera_shift, 3),),
        camera_turn=(*within(config.camera_turn, 3),),
        friction=1.0 + within(config.friction)[0],
        mass=1.0 + within(config.mass)[0],
    )


def _mixed(base: Rgb, other: Rgb, share: float) -> Rgb:
    return tuple(a + share * (b - a) for a, b in zip(base, other, strict=True))  # type: ignore[return-value]


_HEAVIER = ("body_mass", "body_subtreemass", "body_inertia", "dof_M0")
_LIGHTER = ("body_invweight0", "dof_invweight0", "flexedge_invweight0")
_LOOKS = ("geom_rgba", "light_dir", "light_diffuse", "light_specular", "cam_pos", "cam_quat")
_CONTACT = ("geom_friction", "flex_friction")


class Randomizer:
    """Applies randomisations to one world; make it before anything else edits the model. Reset the world afterwards."""

    def __init__(self, world: TowelWorld) -> None:
        self._world, model = world, world.model
        self._plain: dict[str, NDArray[Any]] = {
            name: getattr(model, name).copy() for name in (*_HEAVIER, *_LIGHTER, *_LOOKS, *_CONTACT)
        }
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in ("ambient", "diffuse")}
        names = [model.geom(i).name for i in range(model.ngeom)]
        self._planks = [i for i, name in enumerate(names) if name.startswith("plank_")]
        first, count = model.body("towel_0").id, world.config.cloth[0] * world.config.cloth[1]
        self._bodies = slice(first, first + count)
        dofs = model.body_dofadr[first]
        self._dofs = slice(dofs, dofs + 3 * count)

    def apply(self, drawn: Randomization) -> None:
        """Make the world what was drawn, whatever it was before."""
        model = self._world.model
        for name, values in self._plain.items():
            getattr(model, name)[:] = values
        model.geom_rgba[self._planks, :3] = np.clip(model.geom_rgba[self._planks, :3] * drawn.table, 0.0, 1.0)
        lamp = model.light("lamp").id
        model.light_dir[lamp] = _turned(model.light_dir[lamp], (*drawn.lamp_turn, 0.0))
        model.light_diffuse[lamp] *= drawn.lamp
        model.light_specular[lamp] *= drawn.lamp
        for name, values in self._headlight.items():
            getattr(model.vis.headlight, name)[:] = values * drawn.ambient
        self._move_camera(drawn)
        model.geom_friction[model.geom("table").id, 0] *= drawn.friction
        model.flex_friction[:, 0] *= drawn.friction
        self._weigh(drawn.mass)
        self._world.exposure = drawn.exposure
        self._world.paint(TowelLook(ground=drawn.towel, stripe=drawn.stripe, stripes=STRIPES[drawn.stripe_pattern]))

    def _move_camera(self, drawn: Randomization) -> None:
        model = self._world.model
        camera = model.camera("color").id
        model.cam_pos[camera] += drawn.camera_shift
        w, x, y, z = model.cam_quat[camera]
        turned = quaternion_multiply(rotvec_to_quaternion(drawn.camera_turn), (x, y, z, w))
        model.cam_quat[camera] = np.roll(turned, 1) if any(drawn.camera_turn) else (w, x, y, z)

    def _weigh(self, factor: float) -> None:
        """The constants that MuJoCo derives from a vertex' mass are proportional to it, or to its inverse."""
        model = self._world.model
        for name in _HEAVIER + _LIGHTER:
            where = slice(None) if name.startswith("flex") else self._dofs if name.startswith("dof") else self._bodies
            getattr(model, name)[where] *= factor if name in _HEAVIER else 1.0 / factor


def _turned(direction: Array, rotvec: tuple[float, float, float]) -> Array:
    return quaternion_to_matrix(rotvec_to_quaternion(rotvec)) @ direction if any(rotvec) else direction
