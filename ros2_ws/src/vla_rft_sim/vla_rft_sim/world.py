"""The towel world: MuJoCo physics of arm, fingers and cloth behind the `World` protocol.

Grasping is modelled, not simulated: when the fingers close around vertices of the towel, these are attached to the
gripper, and let go when the fingers open or the towel pulls harder than `slip_force`. No clock: time is what
`advance` is told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import cv2

from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Array
from vla_rft_core.types import ArmState, Depth, GripperState, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim import looks, towel, world_state
from vla_rft_sim.camera import MULTISAMPLES, CameraRenderer, Quality, SensorNoise
from vla_rft_sim.controller import ArmController
from vla_rft_sim.gl import mujoco
from vla_rft_sim.grasp import Grasp
from vla_rft_sim.gripper import SPEED, WidthRamp
from vla_rft_sim.intrinsics import color_camera_info
from vla_rft_sim.kinematics import ArmKinematics
from vla_rft_sim.layout import HOME_Q, MAX_WIDTH_M
from vla_rft_sim.looks import TowelLook
from vla_rft_sim.scene import DAMPING_TIME_S, FINGER_TRAVEL_M, TOWEL_RADIUS_M, Additions, scene_xml
from vla_rft_sim.towel import Placement, TowelTruth
from vla_rft_sim.world_protocol import STEP_NS, measured_arm, steps_in
from vla_rft_sim.world_state import Physics

_TRAVEL_PER_WIDTH = FINGER_TRAVEL_M / MAX_WIDTH_M
_SETTLING_STEPS = 4
_STEPS_PER_CONTROL = 2
_FATAL_WARNINGS = tuple(
    int(kind)
    for kind in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
        mujoco.mjtWarning.mjWARN_BADCTRL,
    )
)
_HELD_WIDTH_M = 0.006
"""The fingers stand this far apart when they squeeze the towel."""
_SQUEEZE_N = 20.0


@dataclass(frozen=True, kw_only=True)
class TowelWorldConfig:
    """How fine, how kind and how pretty the world is."""

    cloth: tuple[int, int] = (11, 8)
    """Vertices along and across the towel; (15, 11) looks better and costs 2.5 times as much."""
    selfcollide: bool = True
    """The towel lies on itself; without, it cannot be folded properly, but runs at 2.5 times the speed."""
    slip_force: float = 1.0
    """The fingers lose the towel when it pulls harder than this [N]; carrying it takes about 0.2 N."""
    drop_probability: float = 0.0
    """Chance that a grasp is lost within its first two seconds for no reason."""
    width: int = 640
    height: int = 480
    """Size of the camera's image [pixels]."""
    quality: Quality = "fast"
    """"video" adds anti-aliasing and shadows."""

    def __post_init__(self) -> None:
        if min(self.cloth) < 3:
            raise ValueError(f"cloth needs at least 3 vertices each way, got {self.cloth}")
        if not self.slip_force > 0.0:
            raise ValueError(f"slip_force must be positive, got {self.slip_force}")
        if not 0.0 <= self.drop_probability <= 1.0:
            raise ValueError(f"drop_probability must be within 0 and 1, got {self.drop_probability}")
        if self.quality not in MULTISAMPLES:
            raise ValueError(f"quality must be one of {sorted(MULTISAMPLES)}, got {self.quality!r}")


@dataclass
class _Warnings:
    """What MuJoCo warns about, kept instead of a log file in the working directory."""

    texts: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.texts = [*self.texts[-9:], text]


_warnings = _Warnings()
mujoco.set_mju_user_warning(_warnings)


class TowelWorld:
    """Satisfies `World`. Deterministic: the same seed and the same calls give bit-identical results on one machine."""

    def __init__(self, config: TowelWorldConfig | None = None, *, additions: Additions | None = None) -> None:
        self.config = config or TowelWorldConfig()
        self._info = color_camera_info("camera", self.config.width, self.config.height)
        xml = scene_xml(
            cloth=self.config.cloth,
            selfcollide=self.config.selfcollide,
            camera=self._info,
            multisamples=MULTISAMPLES[self.config.quality],
            additions=additions,
        )
        self.model = mujoco.MjModel.from_xml_string(xml)
        looks.paint(self.model)
        self.exposure = 1.0
        """Factor on the brightness of colour images."""
        self.data = mujoco.MjData(self.model)
        self._kinematics = ArmKinematics()
        self.controller = ArmController(self._kinematics, HOME_Q)
        self._fingers = WidthRamp()
        self._renderer: CameraRenderer | None = None
        self._noise = SensorNoise(self._info)
        first = self.model.body("towel_0").id
        count = self.config.cloth[0] * self.config.cloth[1]
        self._vertices = slice(first, first + count)
        start = self.model.jnt_qposadr[self.model.body_jntadr[first]]
        self._cloth_dofs = slice(start, start + 3 * count)  # slides only: positions and velocities share addresses
        self._grasp = Grasp(self.model, self.config.slip_force, self.config.drop_probability)
        self._before_step: Physics | None = None
        """What the last physics step started from; None when nothing has moved since the towel was laid out."""
        self.reset(0)

    def reset(self, seed: int, *, arm: bool = True, placement: Placement | None = None) -> Placement:
        """Lay the towel out where `seed` says, or at `placement`, and with `arm` start everything afresh."""
        self._placement = placement or self.draw(seed)
        if arm:
            mujoco.mj_resetData(self.model, self.data)
            self.controller.place(HOME_Q)
            self._steps_to_control = 0
            self._fingers = WidthRamp()
            self.data.qpos[:7] = HOME_Q
            self.data.qpos[7:9] = self._fingers.width * _TRAVEL_PER_WIDTH
        self._grasp.restart(self.data, seed)
        self._noise.restart(seed)
        flat = towel.flat(self._placement, self.config.cloth, TOWEL_RADIUS_M).reshape(-1, 3)
        self.data.qpos[self._cloth_dofs] = (flat - self.model.body_pos[self._vertices]).reshape(-1)
        self.data.qvel[self._cloth_dofs] = 0.0
        self.data.qacc_warmstart[:] = 0.0
        mujoco.mj_forward(self.model, self.data)
        self._before_step = None
        self.advance(_SETTLING_STEPS * STEP_NS if arm else 0)
        return self._placement

    def draw(self, seed: int) -> Placement:
        """Where the towel is laid out for a seed."""
        return towel.draw(seed)

    def advance(self, duration_ns: int) -> None:
        """Step controller, fingers, grasp and physics."""
        data, dt, controller = self.data, STEP_NS * 1e-9, self.controller
        try:
            for remaining in reversed(range(steps_in(duration_ns))):
                if self._steps_to_control == 0:
                    self._steps_to_control = _STEPS_PER_CONTROL
                    controller.step(dt * _STEPS_PER_CONTROL)
                self._steps_to_control -= 1
                # Between two control steps the joint command moves evenly; its speed is fed forward.
                lead = DAMPING_TIME_S - dt * self._steps_to_control
                data.ctrl[:7] = controller.q + lead * controller.dq
                width = self._fingers.advance(dt)
                data.ctrl[7] = max(width, _HELD_WIDTH_M if self._grasp.held else 0.0) * _TRAVEL_PER_WIDTH
                if remaining == 0:
                    self._before_step = Physics.of(self.model, data)
                mujoco.mj_step(self.model, data)
                self._grasp.update(data, width=self._measured_width(), wanted_width=self._fingers.wanted)
        except mujoco.FatalError as error:
            raise DeviceError(f"the simulated physics failed: {error}") from error
        if any(data.warning[kind].number for kind in _FATAL_WARNINGS):
            raise DeviceError(
                f"the simulated physics failed: {(_warnings.texts or ['not finite'])[-1]}; reset the world"
            )

    def save(self) -> bytes:
        """The whole state in the layout `world_state.FORMAT`; the model (cloth, looks, friction, mass) is not in it."""
        physics = self._before_step or Physics.of(self.model, self.data)
        plain = {
            "cloth": list(self.config.cloth),
            "stepped": self._before_step is not None,
            "steps_to_control": self._steps_to_control,
            "placement": asdict(self._placement),
            "fingers": asdict(self._fingers),
            "controller": world_state.controller_state(self.controller),
            "grasp": self._grasp.save(),
            "noise": self._noise.save(),
        }
        return world_state.pack(plain, {**physics.to_arrays(), **self._grasp.anchors(physics.eq_active)})

    def restore(self, state: bytes) -> None:
        """Be as the world was that saved this state: what follows is bit-identical. ValueError for a foreign state."""
        plain, arrays = world_state.unpack(state)
        if plain["cloth"] != list(self.config.cloth):
            raise ValueError(f"the saved towel has {plain['cloth']} vertices, this one has {list(self.config.cloth)}")
        physics = Physics.from_arrays(arrays, self.model)
        self._grasp.put_anchors(arrays)
        physics.put(self.model, self.data)
        self._before_step = physics if plain["stepped"] else None
        if plain["stepped"]:
            mujoco.mj_step(self.model, self.data)
        self._grasp.restore(self.data, plain["grasp"])
        self._noise.restore(plain["noise"])
        self._steps_to_control = plain["steps_to_control"]
        self._placement = Placement(**plain["placement"])
        self._fingers = WidthRamp(**plain["fingers"])
        world_state.restore_controller(self.controller, plain["controller"])

    def drop(self) -> None:
        """Lose the towel, as if it had slipped; the fingers stay as they are."""
        self._grasp.drop(self.data)

    def _measured_width(self) -> float:
        return float(self.data.qpos[7] + self.data.qpos[8]) / (2.0 * _TRAVEL_PER_WIDTH)

    def arm_state(self, stamp_ns: int) -> ArmState:
        """Joints from the physics; external torques are those of contacts and of the held towel."""
        q, dq = self.data.qpos[:7].copy(), self.data.qvel[:7].copy()
        tau_ext = self.data.qfrc_constraint[:7].copy()
        return measured_arm(
            self._kinematics, q, dq, stamp_ns=stamp_ns, tau_ext=tau_ext, operational=self.controller.mode == "cartesian"
        )

    def gripper_state(self, stamp_ns: int) -> GripperState:
        """Measured opening; a closing (negative) force while the fingers squeeze the towel, else none."""
        squeezing = self._grasp.held and self._fingers.width < _HELD_WIDTH_M
        width = max(0.0, self._measured_width())
        return GripperState(stamp_ns, width, -_SQUEEZE_N if squeezing else 0.0, self._fingers.moving)

    def set_width(self, width: float, *, speed: float = SPEED) -> None:
        """Open or close the fingers [m] at a speed [m/s]."""
        self._fingers.set(width, speed)

    @property
    def vertices(self) -> Array:
        """The towel's vertices (nx, ny, 3) in base [m]; a copy."""
        return self.data.xpos[self._vertices].reshape(*self.config.cloth, 3).copy()

    def truth(self) -> TowelTruth:
        """Judge the towel as it lies."""
        return towel.judge(self.vertices, len(self._grasp.held))

    def camera_info(self, camera: str) -> CameraInfo:
        """The D435i's intrinsics at this size."""
        return color_camera_info(camera, self._info.width, self._info.height)

    def capture(self) -> None:
        """Take over what the camera sees now. DeviceError when this machine cannot render."""
        if self._renderer is None:
            self._renderer = CameraRenderer(self.model, self._info)
        self._renderer.capture(self.data, shadows=self.config.quality == "video")

    def develop(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """Draw what was captured, and add the sensor's noise."""
        if self._renderer is None:
            raise DeviceError("nothing was captured since the world was made or closed")
        color, distance = self._renderer.develop(depth=depth)
        if self.exposure != 1.0:
            color = cv2.convertScaleAbs(color, alpha=self.exposure)
        return self._noise.color(color), self._noise.depth(distance) if distance is not None else None

    def render(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """Capture and develop."""
        self.capture()
        return self.develop(depth=depth)

    def paint(self, look: TowelLook) -> None:
        """Give the towel other colours."""
        texture = looks.paint(self.model, look)
        if self._renderer is not None:
            self._renderer.texture_changed(texture)

    def describe(self) -> str:
        """The towel's placement."""
        return str(self._placement)

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
