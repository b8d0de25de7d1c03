"""The whole state of the towel world as bytes: enough to go on from there, bit for bit, in another process.

Layout "vla_rft.towel_world/1": a little-endian uint32 with the length of a JSON header (plain values; name, dtype and
shape of every array), the header, then the arrays one after the other. It knows what the world is made of, but not the
model: the same cloth, randomised in the same way, must be there when a state is restored.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_rft_core.geometry import Array, Pose
from vla_rft_sim.controller import ArmController, MotionCaps
from vla_rft_sim.gl import mujoco

FORMAT = "vla_rft.towel_world/1"

Plain = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

_INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
_SLEEP_ARRAYS = ("tree_asleep", "tree_awake", "body_awake", "body_awake_ind", "parent_awake_ind", "dof_awake_ind")
_SLEEP_COUNTS = ("ntree_awake", "nbody_awake", "nparent_awake", "nv_awake")


def pack(plain: Plain, arrays: Arrays) -> bytes:
    """Plain values and arrays as bytes; the same content gives the same bytes."""
    layout = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    header = json.dumps({"format": FORMAT, "plain": plain, "arrays": layout}, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(header)), header, *(array.tobytes() for array in arrays.values())])


def unpack(data: bytes) -> tuple[Plain, Arrays]:
    """What `pack` was given; ValueError with one sentence for anything else."""
    try:
        (length,) = struct.unpack_from("<I", data)
        header = json.loads(data[4 : 4 + length])
        found = header["format"]
        plain, layout = header["plain"], header["arrays"]
    except (struct.error, ValueError, KeyError, TypeError):
        raise ValueError(f"{len(data)} bytes are no saved world: they have no header of {FORMAT!r}") from None
    if found != FORMAT:
        raise ValueError(f"the saved world has format {found!r}, this software reads {FORMAT!r}")
    arrays, offset = {}, 4 + length
    for name, (dtype, shape) in layout.items():
        count = math.prod(shape)
        end = offset + count * np.dtype(dtype).itemsize
        if end > len(data):
            raise ValueError(f"the saved world is cut off within {name!r}: {len(data)} bytes of at least {end}")
        arrays[name] = np.frombuffer(data, dtype=dtype, count=count, offset=offset).reshape(shape).copy()
        offset = end
    if offset != len(data):
        raise ValueError(f"the saved world has {len(data) - offset} bytes too many")
    return plain, arrays


@dataclass(frozen=True, eq=False)
class Physics:
    """MuJoCo's state at one moment, sleeping towel included; what it derives from that is not kept.

    What a world shows (positions of bodies, forces) is what MuJoCo derived during its last step, from the state before
    that step. So a world is saved as it stood before its last step, and restoring it takes that step once more.
    """

    integration: Array
    """mjSTATE_INTEGRATION."""
    sleep: Arrays
    """Which trees sleep, and the index lists that follow from it."""
    counts: dict[str, int]
    eq_active: NDArray[np.uint8]
    """Which equality constraints held; a part of `integration`, for whoever needs to know."""

    @classmethod
    def of(cls, model: mujoco.MjModel, data: mujoco.MjData) -> Physics:
        """The present state."""
        integration = np.empty(mujoco.mj_stateSize(model, _INTEGRATION))
        mujoco.mj_getState(model, data, integration, _INTEGRATION)
        sleep = {name: getattr(data, name).copy() for name in _SLEEP_ARRAYS}
        counts = {name: int(getattr(data, name)) for name in _SLEEP_COUNTS}
        return cls(integration, sleep, counts, data.eq_active.copy())

    def put(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Make it the present state, with everything derived from it, as if nothing slept, and then put to sleep."""
        mujoco.mj_resetData(model, data)
        flags = model.opt.enableflags
        model.opt.enableflags = flags & ~int(mujoco.mjtEnableBit.mjENBL_SLEEP)
        mujoco.mj_setState(model, data, self.integration, _INTEGRATION)
        mujoco.mj_forward(model, data)
        model.opt.enableflags = flags
        mujoco.mj_setState(model, data, self.integration, _INTEGRATION)
        for name, values in self.sleep.items():
            getattr(data, name)[:] = values
        for name, count in self.counts.items():
            setattr(data, name, count)

    def to_arrays(self) -> Arrays:
        """For `pack`."""
        counts = np.array([self.counts[name] for name in _SLEEP_COUNTS], dtype=np.int32)
        return {"integration": self.integration, "sleep_counts": counts, "eq_active": self.eq_active, **self.sleep}

    @classmethod
    def from_arrays(cls, arrays: Arrays, model: mujoco.MjModel) -> Physics:
        """From `unpack`; ValueError when it is another model's state."""
        integration, size = arrays["integration"], mujoco.mj_stateSize(model, _INTEGRATION)
        if integration.shape != (size,):
            raise ValueError(f"the saved world has {integration.size} state values, this one {size}: another cloth?")
        counts = {name: int(count) for name, count in zip(_SLEEP_COUNTS, arrays["sleep_counts"], strict=True)}
        return cls(integration, {name: arrays[name] for name in _SLEEP_ARRAYS}, counts, arrays["eq_active"])


def controller_state(controller: ArmController) -> Plain:
    """All that an arm controller remembers."""
    joint_target = controller._joint_target
    return {
        "mode": controller.mode,
        "caps": asdict(controller.caps),
        "q": controller.q.tolist(),
        "dq": controller.dq.tolist(),
        "posture": controller.posture.tolist(),
        "target": [controller.target.position.tolist(), controller.target.quaternion.tolist()],
        "position": controller._position.tolist(),
        "quaternion": controller._quaternion.tolist(),
        "linear": controller._linear.tolist(),
        "angular": controller._angular.tolist(),
        "joint_target": [values.tolist() for values in joint_target] if joint_target else None,
    }


def restore_controller(controller: ArmController, state: Plain) -> None:
    """Undo `controller_state`."""
    controller.mode = state["mode"]
    controller.caps = MotionCaps(**state["caps"])
    position, quaternion = state["target"]
    controller.target = Pose(position, quaternion)
    for name in ("q", "dq", "posture"):
        setattr(controller, name, np.array(state[name]))
    for name in ("position", "quaternion", "linear", "angular"):
        setattr(controller, f"_{name}", np.array(state[name]))
    joint_target = state["joint_target"]
    controller._joint_target = tuple(np.array(values) for values in joint_target) if joint_target else None
