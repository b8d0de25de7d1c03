"""Kill a recording process again and again, and see what is left: `python tests/episodes/kill_sweep.py --kills 200`.

Each round forks a process that records attempts at a cell's rates through the real `Attempt` and `EpisodeWriter`, and
ends it: by SIGKILL at a random moment, half-way through writing a chunk, or at a chosen step of finishing; by SIGTERM;
or by a full disk (RLIMIT_FSIZE). Then every finished episode must be intact, the open one must have lost a second at
most, `fsck` must report exactly what is there, and `repair` must mend it. Prints one JSON line; exit 1 on any failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from vla_rft_core import manifest
from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.types import ArmState, GripperState, RobotState, SetPoint
from vla_rft_episodes import channels, codec, messages
from vla_rft_episodes import writer as writer_module
from vla_rft_episodes.fsck import Kind, fsck
from vla_rft_episodes.output import OutputFile
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.repair import repair_attempt
from vla_rft_episodes.synthetic import synthetic_info
from vla_rft_episodes.verdict import judge
from vla_rft_episodes.writer import EpisodeWriter
from vla_rft_nodes.recorder import SIGNAL, Attempt, RecorderLimits, Sample, color_encoder, depth_encoder

CAMERA, STATE_HZ, FPS = "front", 100, 15
ATTEMPT_S = 0.8
LIMIT_BYTES = 150_000
HUNG_S = 30
MAX_LOSS_NS = 1_000_000_000
CHUNK = 0x06
"""Opcode of a chunk of messages."""
MAGIC = b"\x89MCAP0\r\n"
STEPS = ("mcap closed", "judged", "manifest written", "renamed")
"""Of finishing an attempt; the process dies just after."""
LIMITS = RecorderLimits(disk_reserve_bytes=1)


# --- the process that is killed -----------------------------------------------------------------------------------


def raw_images() -> tuple[list[bytearray], list[bytearray]]:
    """Serialised colour and depth pictures, 640x480, as a camera node publishes them."""
    random_values = np.random.default_rng(0)
    colors, depths = [], []
    for _ in range(4):
        scene = np.kron(random_values.integers(0, 255, (24, 32, 3)), np.ones((20, 20, 1))).astype(np.uint8)
        distance = np.kron(random_values.integers(400, 900, (24, 32)), np.ones((20, 20))).astype(np.uint16)
        colors.append(bytearray(_image("rgb8", scene, 3)))
        depths.append(bytearray(_image("16UC1", distance, 2)))
    return colors, depths


def _image(encoding: str, pixels: np.ndarray, size: int) -> bytes:
    types = messages.typestore().types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "front_color_optical_frame")
    height, width = pixels.shape[:2]
    data = pixels.reshape(-1).view(np.uint8)
    image = types["sensor_msgs/msg/Image"](header, height, width, encoding, 0, width * size, data)
    return messages.serialize("sensor_msgs/msg/Image", image)


def stamped(raw: bytearray, stamp_ns: int) -> bytes:
    """The same message with another stamp in its header."""
    struct.pack_into("<iI", raw, 4, *divmod(stamp_ns, 1_000_000_000))
    return bytes(raw)


def state_at(stamp_ns: int, cell: CellFolder) -> RobotState:
    """Some state of the arm."""
    pose = cell.spec.home.T_base_tcp.moved((0.05 * np.sin(stamp_ns / 1e9), 0.0, 0.0), (0.0, 0.0, 0.0))
    zeros = np.zeros(7)
    arm = ArmState(stamp_ns, np.array(cell.spec.home.q), zeros, zeros, pose, np.zeros(6), np.zeros(6))
    return RobotState(arm, GripperState(stamp_ns, 0.08, 0.0, False), SetPoint(pose, 0.08))


class Child:
    """Records attempt after attempt until it is ended; tells its parent over a pipe what it did."""

    def __init__(self, collection: Path, cell: CellFolder, pipe: int, images: tuple[list[bytearray], ...]) -> None:
        self._collection, self._cell, self._pipe = collection, cell, pipe
        self._colors, self._depths = images
        self._ended = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def run(self) -> None:
        while not self._ended:
            self._record()

    def tell(self, *words: object) -> None:
        os.write(self._pipe, (" ".join(map(str, words)) + "\n").encode())

    def _record(self) -> None:
        now_ns, cell = time.time_ns(), self._cell
        info = replace(synthetic_info(cell, started_ns=now_ns), expected_hz={})
        self.tell("began", info.id, now_ns)
        done = threading.Event()

        def on_end(result) -> None:
            self.tell("full" if result.disk_full else "finished", result.episode)
            self._ended |= result.disk_full
            done.set()

        create = partial(EpisodeWriter.create, self._collection, info, cell=cell)
        attempt = Attempt(info, create, limits=LIMITS, judge=lambda path: judge(Episode.open(path)), on_end=on_end)
        self._play(attempt, until_s=time.monotonic() + random.uniform(0.3, 1.0) * 2.0 * ATTEMPT_S)
        attempt.stop(SIGNAL if self._ended else "operator stop")
        done.wait()

    def _play(self, attempt: Attempt, *, until_s: float) -> None:
        tick, due_s = 0, time.monotonic()
        while time.monotonic() < until_s and attempt.recording and not self._ended:
            now_ns = time.time_ns()
            state = codec.encode_robot_state(state_at(now_ns, self._cell))
            attempt.offer(Sample(channels.ROBOT_STATE, state, now_ns, now_ns, now_ns))
            self.tell("offered", now_ns)
            if tick % (STATE_HZ // FPS) == 0:
                for raws, channel, encoder in (
                    (self._colors, channels.color(CAMERA), color_encoder(CAMERA)),
                    (self._depths, channels.depth(CAMERA), depth_encoder(CAMERA)),
                ):
                    raw = stamped(raws[tick % len(raws)], now_ns)
                    attempt.offer(Sample(channel, raw, now_ns, now_ns, now_ns, encoder))
            tick, due_s = tick + 1, max(due_s + 1.0 / STATE_HZ, time.monotonic() - 0.1)
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _on_signal(self, *_: object) -> None:
        self._ended = True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_chunk(number: int) -> None:
    """Half of the n-th large piece reaches the file."""
    write, seen = OutputFile.write, Counter[str]()

    def half(self: OutputFile, data: bytes) -> int:
        seen["chunks"] += len(data) > 10_000
        if seen["chunks"] == number:
            write(self, memoryview(data)[: len(data) // 2])
            die()
        return write(self, data)

    OutputFile.write = half  # type: ignore[method-assign]


def die_after(step: str) -> None:
    """At a step of finishing the second attempt: one is finished, one open."""
    names = {
        "mcap closed": (EpisodeWriter, EpisodeWriter._end.__name__),
        "judged": (writer_module, writer_module.judged.__name__),
        "manifest written": (writer_module, writer_module.write_manifest.__name__),
        "renamed": (Path, "rename"),
    }
    owner, name = names[step]
    original, seen = getattr(owner, name), Counter[str]()

    def then_die(*arguments, **keywords):
        result = original(*arguments, **keywords)
        # A manifest is renamed into place, too: the folder's own rename is every second one.
        seen["calls"] += step != "renamed" or arguments[0].name.startswith(".open-")
        if seen["calls"] == 2:
            die()
        return result

    setattr(owner, name, then_die)


# --- the process that kills ---------------------------------------------------------------------------------------


@dataclass
class Told:
    """What the process that died had told."""

    began: dict[str, int] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    offered_ns: int = 0
    """Of the last sample of the last attempt; 0 = none."""

    @classmethod
    def parse(cls, text: str) -> Told:
        told = cls()
        for line in text.split("\n")[:-1]:
            word, value, *more = line.split()
            if word == "began":
                told.began[value], told.offered_ns = int(more[0]), 0
            elif word == "offered":
                told.offered_ns = int(value)
            else:
                getattr(told, word).append(value)
        return told


def run_round(kind: str, collection: Path, cell: CellFolder, images, chance: random.Random) -> Told:
    """Fork a recorder, end it, and return what it had told."""
    reading, writing = os.pipe()
    number, step = chance.randint(1, 6), chance.choice(STEPS)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        random.seed(chance.random())
        signal.alarm(HUNG_S)
        if kind == "chunk":
            die_in_chunk(number)
        elif kind == "finish":
            die_after(step)
        elif kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
        try:
            Child(collection, cell, writing, images).run()
        finally:
            os._exit(0)
    os.close(writing)
    if kind in ("random", "sigterm"):
        time.sleep(chance.uniform(0.1, 3.0))
        os.kill(pid, signal.SIGKILL if kind == "random" else signal.SIGTERM)
    text = b""
    while piece := os.read(reading, 1 << 16):
        text += piece
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed == (kind not in ("sigterm", "full")), f"ended with status {status}"
    return Told.parse(text.decode())


def check(kind: str, collection: Path, told: Told) -> float:
    """Everything that must hold; AssertionError says what does not. Returns the seconds lost of the open attempt."""
    finished = sorted(path.name for path in collection.iterdir() if not path.name.startswith("."))
    for name in finished:
        manifest.verify(collection / name, kind="episode")
    assert set(told.finished) <= set(finished), f"told as finished, but it is not: {told.finished}"
    opened = [path for path in collection.iterdir() if path.name.startswith(".")]
    report = fsck(collection)
    assert sorted(report.intact) == finished, report
    truth = [truth_about(path) for path in opened]
    found = [finding.kind for finding in report.findings]
    told_truly = len(found) == len(truth) and all(kind in kinds for kind, kinds in zip(found, truth, strict=True))
    assert told_truly, f"{report.findings}, expected {truth}"
    if kind == "sigterm":
        assert not opened and (
            not finished or Episode.open(collection / finished[-1]).info.termination_reason == SIGNAL
        )
    if kind == "full":
        assert len(told.full) == len(opened) == 1, told
    assert len(opened) <= 1, opened
    lost_s = 0.0
    for folder in opened:
        repaired = repair_attempt(folder)
        name = folder.name.removeprefix(".open-")
        last_ns = told.began.get(name, 0)
        if repaired.path is not None:
            manifest.verify(repaired.path, kind="episode")
            last_ns = max(m.received_ns for m in Episode.open(repaired.path).messages([channels.ROBOT_STATE.topic]))
        lost_ns = told.offered_ns - last_ns if told.offered_ns else 0
        assert kind == "full" or lost_ns <= MAX_LOSS_NS, f"{name} lost {lost_ns / 1e9:.2f} s"
        lost_s = lost_ns / 1e9
    assert fsck(collection).clean, fsck(collection)
    return lost_s


def truth_about(folder: Path) -> set[Kind]:
    """What fsck may say, found out in another way: from the framing of the file alone."""
    path = folder / "episode.mcap"
    data = path.read_bytes() if path.exists() else b""
    if data.endswith(MAGIC) and len(data) > 2 * len(MAGIC):
        return {Kind.UNFINISHED}
    at, chunks = len(MAGIC), []
    while at + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        at += 9 + length
        if opcode == CHUNK:
            chunks.append(at <= len(data))
    if any(chunks):
        return {Kind.TRUNCATED}
    return {Kind.TRUNCATED, Kind.EMPTY} if chunks else {Kind.EMPTY}  # of half a chunk something may be recovered


def sweep(kinds: list[str], *, seed: int) -> dict[str, object]:
    """All rounds; each in a folder of its own, which stays when something is wrong with it."""
    cell, images, chance = find_cell("vla_rft_sim:towel_cell"), raw_images(), random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="kill-sweep-"))
    failures, losses, left = [], [], Counter[str]()
    for number, kind in enumerate(kinds):
        collection = root / f"{number:03d}-{kind}"
        collection.mkdir()
        try:
            told = run_round(kind, collection, cell, images, chance)
            left["open"] += any(path.name.startswith(".") for path in collection.iterdir())
            left["finished"] += sum(not path.name.startswith(".") for path in collection.iterdir())
            losses.append(check(kind, collection, told))
        except AssertionError as error:
            failures.append(f"{collection}: {error}")
        else:
            shutil.rmtree(collection)
    if not failures:
        root.rmdir()
    return {
        "rounds": dict(Counter(kinds)),
        "finished_episodes": left["finished"],
        "open_attempts": left["open"],
        "largest_loss_s": round(max(losses, default=0.0), 3),
        "failures": failures,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--others", type=int, default=2, help="rounds of SIGTERM and of a full disk, each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pattern = ("random", "chunk", "random", "finish")
    kinds = [pattern[i % len(pattern)] for i in range(arguments.kills)]
    kinds += ["sigterm", "full"] * arguments.others
    outcome = sweep(kinds, seed=arguments.seed)
    print(json.dumps(outcome))
    return 1 if outcome["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
