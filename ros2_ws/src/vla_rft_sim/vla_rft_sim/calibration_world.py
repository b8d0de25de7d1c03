"""The towel cell as it is before anybody calibrated it: a world whose geometry and latencies are not what it says.

The arm's links, the camera's pose, its focal length, depth and latency, and the gripper's opening differ from what the
devices report; `CalibrationTruth` holds by how much. There is a ChArUco board to put on gripper or table, a lamp that
blinks, and a block to squeeze. The towel lies out of sight unless wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vla_rft_core.clock import nanoseconds
from vla_rft_core.errors import DeviceError
from vla_rft_core.geometry import Array, Pose, quaternion_multiply, rotvec_to_quaternion
from vla_rft_core.types import ArmState, Depth, GripperState, Image
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim import towel
from vla_rft_sim.camera import CameraRenderer
from vla_rft_sim.controller import ArmController, MotionCaps
from vla_rft_sim.gl import mujoco
from vla_rft_sim.gripper import SPEED
from vla_rft_sim.imperfect import perturbed_description
from vla_rft_sim.kinematics import FLANGE_TO_TCP_M, ArmKinematics
from vla_rft_sim.layout import HOME_Q, MAX_WIDTH_M, T_BASE_CAMERA, TOOL_DOWN, looking_at
from vla_rft_sim.printed_board import PrintedBoard, board_xml
from vla_rft_sim.scene import Additions
from vla_rft_sim.towel import Placement
from vla_rft_sim.world import TowelWorld, TowelWorldConfig
from vla_rft_sim.world_protocol import STEP_NS

T_FLANGE_TCP = Pose((0.0, 0.0, FLANGE_TO_TCP_M), (0.0, 0.0, 0.0, 1.0))  # type: ignore[arg-type]
_SHOWN_TCP = Pose((0.55, 0.08, 0.24), TOOL_DOWN)  # type: ignore[arg-type]
_SHOWN_BOARD = (0.69, 0.13, 0.33)
"""With the tcp at `_SHOWN_TCP`, the board's middle is here [m, base] and the board faces the nominal camera."""
T_BASE_BOARD_ON_TABLE = Pose((0.43, 0.13, 0.005), (0.7071067811865476, -0.7071067811865476, 0.0, 0.0))  # type: ignore[arg-type]
"""Face up, its long side along -y."""
LAMP = (0.60, 0.30, 0.0)
_OUT_OF_SIGHT = Placement(-3.0, 0.0, 0.0, 0)
_HIDDEN_GROUP, _SHOWN_GROUP = 4, 0
_FORCE_NOISE_N, _SQUEEZE_N = 0.3, 20.0
_HISTORY_S = 0.5
_DEPTH_ERROR_AT_M = 2.0


@dataclass(frozen=True, kw_only=True)
class CalibrationTruth:
    """What is wrong with a set-up; only a simulator knows."""

    seed: int = 0
    kinematics_error_m: float = 0.001
    """Root mean square of the reported tcp's position error around home [m]."""
    T_base_camera: Pose = T_BASE_CAMERA
    T_tcp_board: Pose = field(default_factory=Pose.identity)
    fx_factor: float = 1.0
    """Focal length that the camera reports over the true one."""
    depth_error: float = 0.0
    """Relative error of depth at 2 m; it grows with the square of the distance."""
    camera_latency_s: float = 0.0
    robot_latency_s: float = 0.0
    gripper_latency_s: float = 0.0
    gripper_sag_m: float = 0.0
    """How much wider than commanded the fingers stand in the middle of their stroke."""
    board: PrintedBoard = field(default_factory=PrintedBoard)

    @property
    def kinematics(self) -> ArmKinematics:
        """The arm as it is."""
        return ArmKinematics(perturbed_description(self.seed, self.kinematics_error_m))


def draw_truth(seed: int) -> CalibrationTruth:
    """A set-up as one finds it: everything off by what is usual. The same seed gives the same."""
    random = np.random.default_rng([seed, 11])

    def within(amount: float, count: int = 3) -> Array:
        return random.uniform(-amount, amount, count)

    x, y, z = T_BASE_CAMERA.position.tolist()
    mount = looking_at((x, y, z), _SHOWN_BOARD)
    width, height = PrintedBoard().size
    middle = Pose((-0.5 * width, -0.5 * height, 0.0), (0.0, 0.0, 0.0, 1.0))  # type: ignore[arg-type]
    T_base_board = Pose(_SHOWN_BOARD, mount.quaternion).compose(middle)  # type: ignore[arg-type]
    T_tcp_board = _SHOWN_TCP.inverse().compose(T_base_board)
    return CalibrationTruth(
        seed=seed,
        T_base_camera=T_BASE_CAMERA.moved(within(0.02), within(0.03)),
        T_tcp_board=T_tcp_board.moved(within(0.005), within(0.05)),
        depth_error=float(random.uniform(-0.02, 0.02)),  # the data sheet's limit at 2 m
        camera_latency_s=float(random.uniform(0.03, 0.12)),
        robot_latency_s=0.010 * int(random.integers(0, 7)),  # whole steps of the controller
        gripper_latency_s=0.005 * int(random.integers(4, 25)),
        gripper_sag_m=float(random.uniform(-0.004, 0.004)),
    )


class _Late:
    """Calls that take effect some time after they were made."""

    def __init__(self, delay_s: float) -> None:
        self._delay_ns = nanoseconds(delay_s)
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self.now_ns = 0

    def post(self, call: Callable[[], None]) -> None:
        """Once the delay has passed."""
        self._waiting.append((self.now_ns + self._delay_ns, call))

    def advance(self, duration_ns: int) -> None:
        """What has become due happens; then time passes."""
        while self._waiting and self._waiting[0][0] <= self.now_ns:
            self._waiting.popleft()[1]()
        self.now_ns += duration_ns

    def forget(self) -> None:
        """Nothing is waiting any more."""
        self._waiting.clear()


class _LateController(ArmController):
    """A controller whose targets arrive late."""

    def __init__(self, delay_s: float) -> None:
        self.late = _Late(delay_s)
        super().__init__(ArmKinematics(), HOME_Q)

    def place(self, q: Array) -> None:
        self.late.forget()
        super().place(q)

    def set_target(self, T_base_tcp: Pose, caps: MotionCaps | None = None) -> None:
        if self.mode == "idle":
            raise DeviceError("the arm is idle and accepts no target; enter the motion mode first")
        self.late.post(lambda: ArmController.set_target(self, T_base_tcp, caps) if self.mode != "idle" else None)


class CalibrationWorld(TowelWorld):
    """A towel world with the errors of `truth`, and with things to calibrate it by."""

    def __init__(self, truth: CalibrationTruth, config: TowelWorldConfig | None = None) -> None:
        self.errors = truth
        self.true_kinematics = truth.kinematics
        self.towel_seed: int | None = None
        """Where the towel lies from the next reset on; None: out of sight."""
        self.block: float | None = None
        """Width of what is held between the fingers [m]; None: nothing."""
        T_flange_board = T_FLANGE_TCP.compose(truth.T_tcp_board)
        additions = Additions(
            assets=truth.board.assets_xml(),
            on_table=board_xml("board_on_table", T_BASE_BOARD_ON_TABLE) + _lamp_xml(),
            on_gripper=board_xml("board_on_gripper", T_flange_board),
            T_base_camera=truth.T_base_camera,
            description=perturbed_description(truth.seed, truth.kinematics_error_m),
        )
        super().__init__(config or TowelWorldConfig(quality="video", selfcollide=False), additions=additions)
        self.controller = _LateController(truth.robot_latency_s)
        self._late_width = _Late(truth.gripper_latency_s)
        self._past: deque[tuple[int, Array, bool]] = deque(maxlen=round(_HISTORY_S * 1e9 / STEP_NS))
        self._seen = mujoco.MjData(self.model)
        self._random = np.random.default_rng([truth.seed, 13])
        self._lamp_on = False
        self._paint_board()
        self.show_board("")
        self.reset(truth.seed)

    def _paint_board(self) -> None:
        texture, picture = self.model.tex("board").id, self.errors.board.texture()
        start = int(self.model.tex_adr[texture])
        self.model.tex_data[start : start + picture.size] = picture.reshape(-1)

    def show_board(self, where: str) -> None:
        """Put the board on the "gripper" or the "table", or take it away ("")."""
        for place in ("gripper", "table"):
            self._show(f"board_on_{place}", place == where)

    def blink(self, on: bool) -> None:
        """Switch the lamp."""
        self._lamp_on = on

    def _show(self, geom: str, shown: bool) -> None:
        self.model.geom_group[self.model.geom(geom).id] = _SHOWN_GROUP if shown else _HIDDEN_GROUP

    def move_camera(self, translation: Array, rotvec: Array) -> None:
        """Somebody knocks the camera: it moves [m] and turns [rad], in base."""
        camera = self.model.camera("color").id
        self.model.cam_pos[camera] += translation
        w, x, y, z = self.model.cam_quat[camera]
        turned = quaternion_multiply(rotvec_to_quaternion(rotvec), (x, y, z, w))
        self.model.cam_quat[camera] = np.roll(turned, 1)
        self._seen = mujoco.MjData(self.model)  # what stands still is computed once per data

    def draw(self, seed: int) -> Placement:
        """Out of sight, unless a towel is wanted."""
        return _OUT_OF_SIGHT if self.towel_seed is None else towel.draw(self.towel_seed)

    def advance(self, duration_ns: int) -> None:
        """Step by step, because commands take effect late, and pictures show the past."""
        for _ in range(duration_ns // STEP_NS):
            controller = self.controller
            if isinstance(controller, _LateController):  # the base class makes and resets a plain one first
                controller.late.advance(STEP_NS)
                self._late_width.advance(STEP_NS)
            super().advance(STEP_NS)
            if isinstance(controller, _LateController):
                self._past.append((controller.late.now_ns, self.data.qpos.copy(), self._lamp_on))

    def set_width(self, width: float, *, speed: float = SPEED) -> None:
        """Open or close the fingers, when the command has arrived."""
        self._late_width.post(lambda: TowelWorld.set_width(self, width, speed=speed))

    def arm_state(self, stamp_ns: int) -> ArmState:
        """As the nominal kinematics have it, with a noisy wrench."""
        state = super().arm_state(stamp_ns)
        noise = self._random.normal(scale=_FORCE_NOISE_N, size=6) * [1, 1, 1, 0.1, 0.1, 0.1]
        return replace(state, wrench=state.wrench + noise)

    def gripper_state(self, stamp_ns: int) -> GripperState:
        """The opening with the linkage's sag; a closing (negative) force while the fingers squeeze the block."""
        state = super().gripper_state(stamp_ns)
        middle = 4.0 * state.width * (MAX_WIDTH_M - state.width) / MAX_WIDTH_M**2
        width = max(0.0, state.width + self.errors.gripper_sag_m * middle)
        if self.block is None or width > self.block:
            return replace(state, width=width)
        return GripperState(stamp_ns, self.block, -_SQUEEZE_N, False)

    def camera_info(self, camera: str) -> CameraInfo:
        """The intrinsics that the camera reports; what it sees follows the true ones."""
        info = super().camera_info(camera)
        factor = self.errors.fx_factor
        return replace(info, fx=info.fx * factor, fy=info.fy * factor)

    def capture(self) -> None:
        """Take over what was to be seen when the shutter was open: the camera's latency ago."""
        if self._renderer is None:
            self._renderer = CameraRenderer(self.model, self._info)
        now_ns = self._past[-1][0] if self._past else 0
        shutter_ns = now_ns - nanoseconds(self.errors.camera_latency_s)
        before = [entry for entry in self._past if entry[0] <= shutter_ns] or list(self._past)[:1]
        after = [entry for entry in self._past if entry[0] > shutter_ns][:1] or before[-1:]
        if not before:
            self._renderer.capture(self.data, shadows=self.config.quality == "video")
            return
        (t0, q0, lamp), (t1, q1, _) = before[-1], after[0]
        share = (shutter_ns - t0) / (t1 - t0) if t1 > t0 and shutter_ns > t0 else 0.0
        self._seen.qpos[:] = q0 + share * (q1 - q0)
        mujoco.mj_forward(self.model, self._seen)
        self._show("lamp_on", lamp)
        self._show("lamp_off", not lamp)
        self._renderer.capture(self._seen, shadows=self.config.quality == "video")

    def develop(self, *, depth: bool = True) -> tuple[Image, Depth | None]:
        """Draw what was captured, with the sensor's noise and the depth's systematic error."""
        color, distance = super().develop(depth=depth)
        if distance is None:
            return color, None
        z = distance.astype(np.float32)
        wrong = z * (1.0 + self.errors.depth_error * z / (1000.0 * _DEPTH_ERROR_AT_M))
        return color, np.rint(wrong).astype(np.uint16)

    @property
    def true_tcp(self) -> Pose:
        """Where the tcp really is."""
        return self.true_kinematics.tcp_pose(self.data.qpos[:7])


def _lamp_xml() -> str:
    return "".join(
        f'<geom name="{name}" type="cylinder" pos="{LAMP[0]} {LAMP[1]} {LAMP[2] + 0.004}" size=".018 .004" '
        f'rgba="{rgba}" contype="0" conaffinity="0" mass="0" group="4"/>'
        for name, rgba in (("lamp_on", "1 1 1 1"), ("lamp_off", ".08 .08 .08 1"))
    )
