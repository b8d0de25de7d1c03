"""Load a dataset with lerobot itself and compare every row and some pictures with what our reader gives.

Runs in an environment of its own (`make lerobot-check`), as every release of lerobot pins an older torch than ours.
Prints one line and ends with 0, or ends with 1 and says what differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
PICTURE_TOLERANCE = 4.0
"""Mean difference of two decoders' colours [of 255]."""


def declare_torchvision_ops() -> object:
    """Beside a CPU torch, torchvision's wheel lacks the two operators that it describes at import: declare them.

    They exist as long as what is returned does.
    """
    import torch

    try:
        torch.ops.load_library(str(Path(find_spec("torchvision").origin).with_name("_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


def use_pyav() -> None:
    """Let lerobot decode with PyAV where torchcodec does not load."""
    import av
    import torch
    from lerobot.datasets import lerobot_dataset

    def decode(video_path: Path, timestamps: list[float], tolerance_s: float, *_: object) -> torch.Tensor:
        with av.open(str(video_path)) as container:
            shown = [(float(f.pts * f.time_base), f) for f in container.decode(video=0)]
        frames = []
        for wanted in timestamps:
            time_s, frame = min(shown, key=lambda pair: abs(pair[0] - wanted))
            assert abs(time_s - wanted) < tolerance_s, f"{video_path}: no picture at {wanted} s, nearest at {time_s} s"
            frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255)
        return torch.stack(frames)

    lerobot_dataset.decode_video_frames = decode


def differences(path: Path) -> list[str]:
    """One sentence per column or picture that lerobot and we read differently."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from vla_rft_episodes.lerobot.reader import Dataset

    ours = Dataset.open(path)
    theirs = LeRobotDataset("local/dataset", root=path, video_backend="torchcodec")
    wrong = []
    if (theirs.num_episodes, theirs.num_frames, theirs.fps) != (len(ours.episodes), len(ours), ours.fps):
        wrong.append(f"lerobot counts {theirs.num_episodes} episodes, {theirs.num_frames} rows at {theirs.fps} Hz")
    table = theirs.hf_dataset.with_format(None)
    for entry in ours.episodes:
        rows = range(entry.from_index, entry.from_index + entry.length)
        part = table.select(rows)
        for name, values in ours.columns(entry.index).items():
            if not np.array_equal(np.array(part[name], dtype=values.dtype).reshape(values.shape), values):
                wrong.append(f"episode {entry.index}: column {name!r} differs")
        for row in (0, entry.length // 2, entry.length - 1):
            item = theirs[entry.from_index + row]
            if item["task"] != ours.prompts(entry.index)[row]:
                wrong.append(f"episode {entry.index}, row {row}: lerobot's task is {item['task']!r}")
            if abs(float(item["timestamp"]) - row / ours.fps) > 1e-4:
                wrong.append(f"episode {entry.index}, row {row}: lerobot's timestamp is {float(item['timestamp'])}")
            for camera, key in ours.camera_keys.items():
                picture = item[key].permute(1, 2, 0).numpy() * 255.0
                off = np.abs(picture - ours.frames(entry.index, camera, [row])[0]).mean()
                if off > PICTURE_TOLERANCE:
                    wrong.append(f"episode {entry.index}, row {row}: picture of {camera!r} differs by {off:.1f}")
    wrong += windows(path, ours)
    for name, of in ours.stats.items():
        if not np.allclose(np.asarray(theirs.meta.stats[name]["mean"]), of["mean"]):
            wrong.append(f"statistics of {name!r} differ")
    return wrong


def windows(path: Path, ours: object) -> list[str]:
    """Rows asked for by time difference, as a policy is trained: actions from now on, pictures from before."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    camera, key = next(iter(ours.camera_keys.items()))
    steps = {"action": [0.0, 1 / ours.fps, 2 / ours.fps], key: [-1 / ours.fps, 0.0]}
    theirs = LeRobotDataset("local/dataset", root=path, delta_timestamps=steps, video_backend="torchcodec")
    entry = ours.episodes[-1]
    row = min(2, entry.length - 3)
    item = theirs[entry.from_index + row]
    wrong = []
    if not np.array_equal(item["action"].numpy(), ours.columns(entry.index)["action"][row : row + 3]):
        wrong.append("a window of actions differs")
    pictures = item[key].permute(0, 2, 3, 1).numpy() * 255.0
    if np.abs(pictures - ours.frames(entry.index, camera, [row - 1, row])).mean() > PICTURE_TOLERANCE:
        wrong.append("a window of pictures differs")
    return wrong


def main() -> int:
    """Compare, and say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    path = parser.parse_args().dataset.resolve()
    declared = declare_torchvision_ops()
    try:
        import torchcodec.decoders

        decoder = f"torchcodec {version('torchcodec')}"
        assert torchcodec.decoders
    except (ImportError, OSError, RuntimeError):
        use_pyav()
        decoder = f"PyAV {version('av')}"
    wrong = differences(path)
    del declared
    for sentence in wrong:
        print(sentence)
    tools = f"lerobot {version('lerobot')}, torch {version('torch')}, {decoder}"
    print(f"{path.name}: {f'{len(wrong)} differences' if wrong else 'read alike'} ({tools})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
