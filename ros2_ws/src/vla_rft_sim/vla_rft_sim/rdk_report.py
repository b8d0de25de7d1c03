"""What the box reports without being waited for: the fields of the vendor's state and information structs, as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_rft_core.clock import NS_PER_S
from vla_rft_core.geometry import quaternion_to_matrix
from vla_rft_core.types import ArmState, GripperState
from vla_rft_sim.box import ControllerBox
from vla_rft_sim.rdk_settings import arm_limits, gripper_limits
from vla_rft_sim.rdk_tools import T_FLANGE_WORLD_TCP, gripper_name, pose_to_wxyz

CLOCK_OFFSET_NS = -7_250_000_000
"""The robot's clock runs this far from the host's: nothing synchronises them."""
SOFTWARE_VERSION = "v3.11.3"
_JOINT_TEMPERATURE_C = 35.0


def info(serial: str) -> dict[str, Any]:
    """The fields of `RobotInfo`."""
    return {
        **{"serial_num": serial, "software_ver": SOFTWARE_VERSION, "model_name": "Rizon4s"},
        **{"license_type": "Standard", "DoF": 7, "DoF_m": 7, "DoF_e": 0, "has_FT_sensor": True},
        **arm_limits(),
    }


def report(box: ControllerBox, arm: ArmState, gripper: GripperState) -> dict[str, Any]:
    """Status, states and gripper."""
    return {
        **{"mode": box.mode, "status": box.status, "busy": box.busy, "stopped": not box.moving},
        **{"fault": bool(box.fault), "recovery": box.recovering, "reduced": "reduced_state" in box.injected},
        **{"estop_released": "estop" not in box.injected},
        "states": _states(box, arm),
        **{"gripper_params": _gripper_params(box), "gripper_states": _gripper_states(box, gripper)},
    }


def _states(box: ControllerBox, arm: ArmState) -> dict[str, Any]:
    """The fields of `RobotStates`; wrench and velocity are those of the active tool's tcp."""
    T_base_flange = arm.T_base_tcp.compose(T_FLANGE_WORLD_TCP.inverse())
    T_base_tool = T_base_flange.compose(box.tools[box.tool].T_flange_tcp)
    arm_to_tool = T_base_tool.position - arm.T_base_tcp.position
    twist, wrench = arm.tcp_twist.copy(), arm.wrench.copy()
    twist[:3] += np.cross(twist[3:], arm_to_tool)
    wrench[3:] -= np.cross(arm_to_tool, wrench[:3])
    in_world = wrench.tolist()
    in_tcp = (wrench.reshape(2, 3) @ quaternion_to_matrix(T_base_tool.quaternion)).ravel().tolist()
    in_flange = (wrench.reshape(2, 3) @ quaternion_to_matrix(T_base_flange.quaternion)).ravel().tolist()
    q, dq, tau_ext = arm.q.tolist(), arm.dq.tolist(), arm.tau_ext.tolist()
    return {
        "timestamp": list(divmod(arm.stamp_ns + CLOCK_OFFSET_NS, NS_PER_S)),
        **{"q": q, "theta": q, "dq": dq, "dtheta": dq},
        **{"tau": tau_ext, "tau_dot": [0.0] * 7, "tau_ext": tau_ext, "tau_interact": tau_ext},
        "temperature": [_JOINT_TEMPERATURE_C] * 7,
        **{"tcp_pose": pose_to_wxyz(T_base_tool), "flange_pose": pose_to_wxyz(T_base_flange)},
        **{"tcp_vel": twist.tolist(), "ft_sensor_raw": in_flange},
        **{"ext_wrench_in_tcp": in_tcp, "ext_wrench_in_tcp_raw": in_tcp},
        **{"ext_wrench_in_world": in_world, "ext_wrench_in_world_raw": in_world},
    }


def actions(box: ControllerBox) -> dict[str, Any]:
    """The fields of `RobotActions` that are played here."""
    controller = box.world.controller
    tool = box.tools[box.tool].T_flange_tcp
    desired = controller.reference.compose(T_FLANGE_WORLD_TCP.inverse()).compose(tool)
    return {
        **{"q_d": controller.q.tolist(), "dq_d": controller.dq.tolist(), "tau_d": [0.0] * 7},
        "tcp_pose_d": pose_to_wxyz(desired),
    }


def _gripper_params(box: ControllerBox) -> dict[str, Any]:
    return {"name": gripper_name(), **gripper_limits()} if box.fingers.name else {}


def _gripper_states(box: ControllerBox, gripper: GripperState) -> dict[str, Any]:
    if not box.fingers.name:
        return {}
    limit = box.fingers.force_limit
    force = max(-limit, min(limit, gripper.force))
    return {"width": gripper.width, "force": force, "is_moving": gripper.moving or box.homing}
