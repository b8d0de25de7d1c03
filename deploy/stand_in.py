"""`python -m deploy.stand_in hold|replay BUNDLE ...`: bundles without a network, to try everything around a policy.

hold: stays where the arm is. replay: a demonstration's set-points, from an episode that the recorder wrote.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deploy.bundle import SPEC, TRAJECTORY, BundleError, BundleInfo, finish
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.spec import RobotSpec
from vla_rft_core.sync import History
from vla_rft_core.types import SetPoint


def make_hold(out: Path, spec: RobotSpec) -> None:
    """A bundle that moves nothing."""
    _make(out, spec, BundleInfo(policy="hold"), lambda folder: None)


def make_replay(out: Path, spec: RobotSpec, points: Sequence[SetPoint], *, source: str) -> None:
    """A bundle that plays set-points one control period apart; ValueError when there are none."""
    if not points:
        raise ValueError(f"{source}: has no set-points to replay")

    def add(folder: Path) -> None:
        np.savez_compressed(
            folder / TRAJECTORY,
            positions=np.array([p.T_base_tcp.position for p in points]),
            quaternions=np.array([p.T_base_tcp.quaternion for p in points]),
            widths=np.array([p.width for p in points]),
        )

    _make(out, spec, BundleInfo(policy="replay", made_from={"episode": source}), add)


def _make(out: Path, spec: RobotSpec, info: BundleInfo, add: Callable[[Path], None]) -> None:
    if out.exists():
        raise BundleError(f"{out}: exists already and is not overwritten")
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    scratch.mkdir(parents=True)
    try:
        spec.save(scratch / SPEC)
        add(scratch)
        finish(scratch, info)
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _replayed(folder: Path) -> tuple[RobotSpec, list[SetPoint]]:
    """What was sent in an episode, once per control period from its first set-point on."""
    from vla_rft_episodes.reader import Episode

    episode = Episode.open(folder)
    moving = [entry for entry in episode.servo_entries() if entry.moving]
    if not moving:
        return episode.spec, []
    sent = History.of((entry.stamp_ns, entry.sent) for entry in moving)
    period_ns = episode.spec.control_period_ns
    grid = range(moving[0].stamp_ns + period_ns, moving[-1].stamp_ns + period_ns, period_ns)
    return episode.spec, [found[1] for found in map(sent.at_or_before, grid) if found is not None]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the bundle's folder; exit code 1 with one sentence when it cannot be made."""
    parser = argparse.ArgumentParser(prog="python -m deploy.stand_in", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    hold = kinds.add_parser("hold")
    hold.add_argument("bundle", type=Path, help="new folder")
    hold.add_argument("--cell", default="vla_rft_sim:towel_cell", help="cell folder: a path, or package:folder")
    replay = kinds.add_parser("replay")
    replay.add_argument("bundle", type=Path, help="new folder")
    replay.add_argument("episode", type=Path, help="folder of a recorded episode")
    given = parser.parse_args(argv)
    try:
        if given.kind == "hold":
            make_hold(given.bundle, find_cell(given.cell).spec)
        else:
            spec, points = _replayed(given.episode)
            make_replay(given.bundle, spec, points, source=str(given.episode))
    except (ValueError, VlaRftError, OSError) as error:
        print(f"stand_in: {error}", file=sys.stderr)
        return 1
    print(given.bundle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
