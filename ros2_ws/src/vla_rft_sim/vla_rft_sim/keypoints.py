"""`python -m vla_rft_sim.keypoints DEMOS DATASET --out FILE`: the truth behind a dataset's pictures, in pixels.

The four corners of the towel and the tcp, projected by the camera as it stood in that episode. Datasets hold no truth,
by design: this file lies beside one, is simulation only, and serves the optional auxiliary loss of `train_policy`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vla_rft_core.calibration import CameraMount
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.geometry import Array, quaternion_multiply, quaternion_to_matrix, rotvec_to_quaternion
from vla_rft_episodes import channels, codec
from vla_rft_episodes.collection import Collection, EpisodeRef
from vla_rft_episodes.errors import EpisodeError
from vla_rft_episodes.lerobot.layout import PROVENANCE
from vla_rft_episodes.lerobot.reader import Dataset
from vla_rft_episodes.reader import Episode
from vla_rft_hardware.protocols import CameraInfo
from vla_rft_sim.cell import SIM_CELL
from vla_rft_sim.intrinsics import color_camera_info
from vla_rft_sim.randomize import Randomization

NAMES = ("corner.0", "corner.1", "corner.2", "corner.3", "tcp")


def project(points: Array, info: CameraInfo, mount: CameraMount, drawn: Randomization) -> Array:
    """Points (n, 3) in base [m] -> pixels (n, 2), u right and v down; a pixel's middle has whole numbers."""
    quaternion = quaternion_multiply(rotvec_to_quaternion(drawn.camera_turn), mount.quaternion)
    position = np.array(mount.position) + np.array(drawn.camera_shift)
    x, y, z = ((points - position) @ quaternion_to_matrix(quaternion)).T
    return np.stack([info.fx * x / z + info.cx, info.fy * y / z + info.cy], axis=-1)


def keypoints(ref: EpisodeRef, columns: dict[str, NDArray], camera: str) -> NDArray[np.float32]:
    """Pixels [rows, 5, 2] of an episode's rows in a dataset (`columns`); EpisodeError where there is no truth."""
    (mount,) = (m for m in find_cell(SIM_CELL).calibration.cameras if m.name == camera)
    size = next(c for c in ref.info.robot_spec.cameras if c.name == camera)
    info = color_camera_info(camera, size.width, size.height)
    drawn = Randomization.from_extra(ref.info.extra)
    truths = [codec.decode_sim_truth(m.data) for m in Episode.open(ref.path).messages([channels.SIM_TRUTH.topic])]
    corners = {truth.stamp_ns: truth.corners for truth in truths}
    rows = []
    for stamp_ns, state in zip(columns[f"observation.{camera}.stamp_ns"], columns["observation.state"], strict=True):
        if int(stamp_ns) not in corners:
            raise EpisodeError(f"{ref.path}: no truth was recorded with the picture of {int(stamp_ns)}")
        points = np.concatenate([corners[int(stamp_ns)], state[None, :3].astype(float)])
        rows.append(project(points, info, mount, drawn))
    return np.array(rows, dtype=np.float32)


def write(demos: Path, dataset: Path, out: Path) -> int:
    """Make the file; returns how many episodes it covers."""
    data = Dataset.open(dataset)
    (camera,) = data.cameras
    provenance = json.loads((dataset / PROVENANCE).read_text(encoding="utf-8"))
    refs = {ref.id: ref for ref in Collection(demos).episodes()}
    found: dict[str, NDArray] = {}
    for entry in tqdm(provenance["episodes"], desc="keypoints", unit="episode", file=sys.stderr):
        if entry["id"] not in refs:
            raise EpisodeError(f"{demos}: has no episode {entry['id']} of {dataset}")
        found[entry["id"]] = keypoints(refs[entry["id"]], data.columns(entry["index"]), camera)
    size = data.features[data.camera_keys[camera]].shape
    np.savez_compressed(out, names=np.array(NAMES), image_size=np.array([size[1], size[0]]), **found)  # type: ignore[arg-type]
    return len(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 with one sentence when demonstrations and dataset do not belong together."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim.keypoints", description=__doc__)
    parser.add_argument("demos", type=Path, help="the collection that the dataset was exported from")
    parser.add_argument("dataset", type=Path, help="folder of the dataset")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to make, .npz")
    arguments = parser.parse_args(argv)
    if arguments.out.exists():
        print(f"keypoints: {arguments.out} exists already and is not overwritten", file=sys.stderr)
        return 1
    try:
        count = write(arguments.demos, arguments.dataset, arguments.out)
    except (ValueError, OSError, VlaRftError) as error:
        print(f"keypoints: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {len(NAMES)} keypoints in every row of {count} episodes (simulation only)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
