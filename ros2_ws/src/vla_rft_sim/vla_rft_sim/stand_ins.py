"""What launch files name for `backend:=sim`: the real drivers over stand-ins of the vendors' libraries."""

from __future__ import annotations

from vla_rft_core.cell import CellFolder
from vla_rft_hardware import flexiv
from vla_rft_sim.client import CONNECT_TIMEOUT_S
from vla_rft_sim.rdk import module_for
from vla_rft_sim.rdk_calls import SERIAL
from vla_rft_sim.software_camera import connect_camera

__all__ = ["connect_camera", "connect_robot", "connect_stop"]


def connect_robot(
    address: str, *, cell: CellFolder, interface: str = ""
) -> tuple[flexiv.FlexivArm, flexiv.FlexivGripper]:
    """Arm and gripper of the `sim_world` at `address` (empty: this user's); a simulated robot has no network card."""
    return flexiv.connect_robot(SERIAL, cell=cell, rdk=module_for(address, timeout_s=CONNECT_TIMEOUT_S))


def connect_stop(address: str, *, cell: CellFolder | None = None, interface: str = "") -> flexiv.FlexivStop:
    """The watchdog's connection: it may stop the arm and nothing else."""
    return flexiv.connect_stop(SERIAL, rdk=module_for(address, timeout_s=CONNECT_TIMEOUT_S))
