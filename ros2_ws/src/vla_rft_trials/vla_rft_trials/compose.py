"""A protocol from a template: whose policies, on how many placements, which comparisons count. Seed drawn anew.

The template says what success is and what becomes of a trial; this adds what an experiment has just made. The seed of
the placements comes from the system's randomness, far from the small ones that are used while something is developed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from vla_rft_core import config
from vla_rft_core.files import write_atomic
from vla_rft_trials.protocol import PolicyEntry, Protocol

FRESH_SEEDS = range(10**6, 10**9)
"""A composed protocol's placements begin in here; what is developed uses seeds below."""


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What replaces the template's own."""

    policies: tuple[PolicyEntry, ...]
    comparisons: tuple[tuple[str, str], ...] = ()
    title: str = ""
    count: int = 0
    """Placements, one trial of each policy at each; 0: as the template says."""
    draw: str = ""
    """Factory of the placements; empty: the template's."""
    time_limit_s: float = 0.0
    """0: the template's."""
    development: int | None = None
    """Seed of the first placement, below `FRESH_SEEDS`: what is found there may be looked at, and is no result. None:
    drawn anew."""


def compose(template: Protocol, wanted: Composition) -> Protocol:
    """The protocol; ValueError for one that is none."""
    rule = template.placements
    count = wanted.count or rule.count
    seed = FRESH_SEEDS.start + secrets.randbelow(len(FRESH_SEEDS))
    if wanted.development is not None:
        seed = wanted.development
        if not 0 <= seed <= FRESH_SEEDS.start - count:
            raise ValueError(
                f"development: the seeds of {count} placements lie within 0 and {FRESH_SEEDS.start - 1}, "
                f"got {seed} for the first"
            )
    return replace(
        template,
        title=wanted.title or template.title,
        policies=wanted.policies,
        comparisons=wanted.comparisons,
        placements=replace(rule, count=count, seed=seed, draw=wanted.draw or rule.draw),
        trials_per_policy=count,
        time_limit_s=wanted.time_limit_s or template.time_limit_s,
    )


def policy_entry(text: str) -> PolicyEntry:
    """ "RFT-0=bundles/rft-0@RFT": name, bundle, and the method whose training seed it is; ValueError otherwise."""
    name, equals, rest = text.partition("=")
    bundle, _, method = rest.partition("@")
    if not name or not equals or not bundle:
        raise ValueError(f"policy {text!r}: expected NAME=BUNDLE or NAME=BUNDLE@METHOD")
    return PolicyEntry(name=name, bundle=bundle, method=method)


def comparison(text: str) -> tuple[str, str]:
    """ "RFT-0:SFT-0"; ValueError otherwise."""
    first, colon, second = text.partition(":")
    if not first or not colon or not second:
        raise ValueError(f"comparison {text!r}: expected NAME:NAME")
    return first, second


def write(protocol: Protocol, path: Path) -> None:
    """As YAML."""
    text = yaml.safe_dump(config.to_mapping(protocol), sort_keys=False, allow_unicode=True)
    write_atomic(path, text.encode())
