"""A policy from its configuration: which kind it is, its configuration's type says."""

from __future__ import annotations

from collections.abc import Mapping

from vla_rft_train.data.normalize import NormStats
from vla_rft_train.models.policy import ConvPolicy, ConvPolicyConfig, Policy, Shapes
from vla_rft_train.models.vla import VlaConfig, VlaPolicy


def make_policy(config: ConvPolicyConfig | VlaConfig, shapes: Shapes) -> Policy:
    """The policy with weights as they are before training."""
    return VlaPolicy(config, shapes) if isinstance(config, VlaConfig) else ConvPolicy(config, shapes)


def shapes_of(horizon: int, stats: Mapping[str, NormStats]) -> Shapes:
    """What the data says of a policy's vectors."""
    return Shapes(horizon=horizon, action_dim=len(stats["action"].names), state_dim=len(stats["state"].names))
