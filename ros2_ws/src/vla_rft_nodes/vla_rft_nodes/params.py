"""ROS parameters from a frozen dataclass: the field's type and default are the parameter's, and a typo is refused."""

from __future__ import annotations

import array
from dataclasses import fields
from typing import TypeVar

from rclpy.node import Node

from vla_rft_core import config

T = TypeVar("T")

ROS_OWN = ("use_sim_time", "start_type_description_service")
"""Parameters every rclpy node has."""


def read_parameters(node: Node, cls: type[T]) -> T:
    """The node's parameters as `cls`; those not given are declared with the field's default.

    The node must have been made with `automatically_declare_parameters_from_overrides=True`. Raises ValueError in one
    sentence for a name that `cls` lacks, a value of the wrong type, or a missing one.
    """
    given = {
        name: _plain(parameter.value)
        for name, parameter in node.get_parameters_by_prefix("").items()
        if name not in ROS_OWN and not name.startswith("qos_overrides.")
    }
    parameters = config.from_mapping(cls, given, f"parameters of {node.get_name()}")
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name not in given:
            value = getattr(parameters, field.name)
            node.declare_parameter(field.name, list(value) if isinstance(value, tuple) else value)
    return parameters


def _plain(value: object) -> object:
    return list(value) if isinstance(value, (array.array, tuple)) else value
