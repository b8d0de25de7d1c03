"""What the nodes' doctor adds: interfaces, middleware, and who holds the devices already."""

from __future__ import annotations

from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from vla_rft_core.cell import find_cell
from vla_rft_hardware import checks
from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import CHECKS, Status
from vla_rft_hardware.host import ThisHost
from vla_rft_nodes.ros import prepare_environment

pytestmark = [pytest.mark.ros, pytest.mark.realtime]


@pytest.fixture
def doctor(monkeypatch):
    """Import the module, whose checks then register in a copy: other tests' doctors stay without ROS."""
    monkeypatch.setattr(checks, "CHECKS", dict(CHECKS))
    from vla_rft_nodes import doctor as module

    return module


def bench_of(backend: str) -> Bench:
    return Bench(backend=backend, cell=find_cell("vla_rft_sim:towel_cell"), host=ThisHost(), disk=Path())


def test_interfaces_are_built_and_the_middleware_is_ours(doctor):
    assert doctor.interfaces(bench_of("sim")).status is Status.GREEN
    assert doctor.middleware(bench_of("sim")).words == "rmw_fastrtps_cpp"


def test_a_second_robot_node_is_red_on_a_real_robot_only(doctor):
    prepare_environment()
    context = Context()
    rclpy.init(context=context)
    node = Node("robot_node", context=context)
    found = {backend: doctor.graph(bench_of(backend)) for backend in ("sim", "flexiv")}
    node.destroy_node()
    rclpy.shutdown(context=context)
    assert found["sim"].status is Status.YELLOW
    assert found["flexiv"].status is Status.RED and "/robot_node" in found["flexiv"].words
