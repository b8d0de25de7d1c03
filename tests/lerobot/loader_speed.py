"""LeRobot's own loader against ours: windows of one start frame and eight later ones, in random order.

Runs in lerobot's environment, which is given our figures (`make loader-benchmark`); prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from check_with_lerobot import declare_torchvision_ops


def samples_per_s(path: Path, *, samples: int, frames: int, seed: int) -> float:
    """Of `LeRobotDataset` with our windows' frames and actions as delta_timestamps."""
    try:
        import torchcodec  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        sys.exit(f"loader_speed: lerobot's decoder, torchcodec, does not load; it needs FFmpeg's libraries ({error})")
    from lerobot.datasets import lerobot_dataset

    meta = lerobot_dataset.LeRobotDatasetMetadata(path.name, root=path)
    every = 2.0 / meta.fps
    cameras = {key: [i * every for i in range(frames)] for key in meta.camera_keys}
    actions = {"action": [i / meta.fps for i in range(2 * (frames - 1))]}
    data = lerobot_dataset.LeRobotDataset(path.name, root=path, delta_timestamps=cameras | actions)
    order = np.random.default_rng(seed).integers(len(data), size=samples)
    data[int(order[0])]
    began = time.perf_counter()
    for index in order:
        data[int(index)]
    return samples / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--ours", type=json.loads, required=True, help="the line of vla_rft_train.benchmark loader")
    parser.add_argument("--samples", type=int, default=60)
    arguments = parser.parse_args()
    kept = declare_torchvision_ops()
    ours = arguments.ours
    theirs = samples_per_s(
        arguments.dataset.resolve(), samples=arguments.samples, frames=ours["frames_per_sample"], seed=0
    )
    del kept
    line = {
        "lerobot": version("lerobot"),
        "lerobot_decoder": f"torchcodec {version('torchcodec')}",
        "lerobot_samples_per_s": round(theirs, 2),
        "ratio_first": round(ours["samples_per_s_first"] / theirs, 2),
        "ratio_kept": round(ours["samples_per_s_kept"] / theirs, 2),
    }
    print(json.dumps(ours | line))


if __name__ == "__main__":
    main()
