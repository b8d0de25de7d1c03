"""`python -m vla_rft_nodes.doctor`: the hardware's doctor, calibration, and ROS: interfaces, middleware, graph.

Takes the same arguments. It starts no node of ours and listens for a moment only.
"""

from __future__ import annotations

import importlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.utilities import get_rmw_implementation_identifier

from vla_rft_core.priority import SERVO, in_real_time
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import Found, check, green, red, yellow
from vla_rft_hardware.doctor import main as hardware_main
from vla_rft_nodes import checks_calibration
from vla_rft_nodes.ros import prepare_environment

REGISTERED = (checks_calibration,)
"""Modules whose import registers checks, beside this one."""

MIDDLEWARE = "rmw_fastrtps_cpp"
LISTEN_S = 2.0
"""How long other nodes are given to be seen."""
OWNERS = ("robot_node", "camera_node")
"""Nodes that hold a device; a second one cannot."""


@check("ros interfaces")
def interfaces(bench: Bench) -> Found:
    """Our messages are built for this Python."""
    try:
        built = importlib.import_module("vla_rft_interfaces.msg")
    except ImportError as error:
        return red(f"not built: {error}", "make setup, or source ros2_ws/install/setup.bash")
    return green(f"{sum(name[0].isupper() for name in vars(built))} messages")


@check("ros middleware")
def middleware(bench: Bench) -> Found:
    """The one our transport profile is for."""
    name = str(get_rmw_implementation_identifier())
    if name != MIDDLEWARE:
        return red(name, f"unset RMW_IMPLEMENTATION, or set it to {MIDDLEWARE}")
    return green(name)


@check("real time")
def real_time(bench: Bench) -> Found:
    """The servo thread may go before everything else."""
    with ThreadPoolExecutor(1) as thread:
        allowed = thread.submit(in_real_time, SERVO).result()
    if not allowed:
        remedy = f"`USER - rtprio {2 * SERVO}` in /etc/security/limits.d, then log in anew"
        return yellow("this user may not: a busy computer delays the servo thread", remedy)
    return green(f"SCHED_FIFO at {SERVO}")


@check("ros graph")
def graph(bench: Bench) -> Found:
    """No other process holds the devices under this domain."""
    names = nodes_seen(LISTEN_S)
    owners = sorted(name for name in names if name.rpartition("/")[2] in OWNERS)
    if not owners:
        return green(f"{len(names)} other nodes")
    words = f"running already: {', '.join(owners)}"
    if bench.simulated:
        return yellow(words, "the simulated devices may be shared")
    return red(words, "end it: the robot takes one connection, and the camera one reader")


def nodes_seen(duration_s: float) -> list[str]:
    """Full names of the nodes on this domain, after listening for a while."""
    prepare_environment()
    context = Context()
    rclpy.init(context=context)
    node = Node("doctor", context=context)
    try:
        time.sleep(duration_s)
        own = node.get_fully_qualified_name()
        seen = {f"{space.rstrip('/')}/{name}" for name, space in node.get_node_names_and_namespaces()}
        return sorted(seen - {own})
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


if __name__ == "__main__":
    sys.exit(hardware_main())
