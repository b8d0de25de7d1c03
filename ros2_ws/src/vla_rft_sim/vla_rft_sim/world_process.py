"""The `sim_world` process: a towel cell in real time behind a Unix socket, with its camera in shared memory. No ROS.

It plays the controller box: clients come and go, be it by SIGKILL, and the arm finishes its last target. It ends on
SIGTERM or SIGINT, with its parent when asked to, or when its physics or camera fail; then nothing of it is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vla_rft_core.errors import DeviceError, VlaRftError
from vla_rft_core.priority import go_first
from vla_rft_sim.box import ControllerBox
from vla_rft_sim.camera_feed import CameraFeed
from vla_rft_sim.frames import FrameWriter, default_frames_path, frames_directory, remove_stale_frames
from vla_rft_sim.protocol import default_address
from vla_rft_sim.realtime import RealTimeLoop
from vla_rft_sim.server import WorldServer
from vla_rft_sim.service import WorldService
from vla_rft_sim.world_protocol import World

_SWITCH_INTERVAL_S = 0.0005
"""How long a thread that only computes may keep the others waiting; Python's default of 5 ms is a whole step."""
_PARENT_POLL_S = 0.2
_NICENESS = -10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one world until told to end; the exit code."""
    parent = os.getppid()
    options = _parser().parse_args(arguments)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with contextlib.closing(_make_world(options)) as world:
            _serve(world, options, parent=parent if options.exit_with_parent else None)
    except KeyboardInterrupt:
        return 130
    except (VlaRftError, ValueError) as error:
        print(f"sim_world: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sim_world", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--socket", metavar="PATH", help="where clients connect (one per user and ROS domain)")
    parser.add_argument("--frames", metavar="PATH", type=Path, help="file of the camera's frames (in /dev/shm)")
    parser.add_argument("--world", choices=("towel", "kinematic"), default="towel")
    parser.add_argument("--seed", type=_whole, default=0, help="the towel's first placement")
    parser.add_argument("--camera", default="front", help="name of the camera")
    parser.add_argument("--fps", type=_positive, default=15.0, help="camera frames per real second")
    parser.add_argument("--width", type=_pixels, default=640, help="of the picture in pixels")
    parser.add_argument("--height", type=_pixels, default=480)
    parser.add_argument("--time-factor", type=_positive, default=1.0, help="simulated per real second")
    parser.add_argument(
        "--durations", type=_positive, default=1.0, help="what the controller box takes seconds for, times this"
    )
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the process that started it ends")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0.0):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


def _pixels(text: str) -> int:
    value = int(text)
    if not 16 <= value <= 4096:
        raise argparse.ArgumentTypeError(f"must be 16 to 4096 pixels, got {text}")
    return value


def _make_world(options: argparse.Namespace) -> World:
    """The world asked for; only the towel's needs MuJoCo and OpenGL, so only it imports them."""
    world: World
    if options.world == "kinematic":
        from vla_rft_sim.kinematic_world import KinematicWorld

        world = KinematicWorld(width=options.width, height=options.height)
    else:
        try:
            from vla_rft_sim.gl import require_rendering
            from vla_rft_sim.world import TowelWorld, TowelWorldConfig
        except ImportError as error:
            raise DeviceError(f"the towel world needs MuJoCo, the extra `sim` of this package: {error}") from None
        require_rendering()
        world = TowelWorld(TowelWorldConfig(width=options.width, height=options.height))
    world.reset(options.seed)
    return world


def _serve(world: World, options: argparse.Namespace, *, parent: int | None) -> None:
    """Run the loop on this thread until a signal or a failure; clients and camera have their own threads."""
    loop = RealTimeLoop(world, time_factor=options.time_factor)
    info = world.camera_info(options.camera)
    address = options.socket or default_address()
    remove_stale_frames(frames_directory())
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ending_on_signals(loop))
        stack.enter_context(_going_first())
        writer = stack.enter_context(contextlib.closing(FrameWriter(options.frames or default_frames_path(), info)))
        feed = CameraFeed(loop, writer, info=info, fps=options.fps)
        service = WorldService(loop, feed, box=ControllerBox(world, durations=options.durations))
        server = stack.enter_context(contextlib.closing(WorldServer(address, service.answer)))
        service.count_clients = lambda: server.clients
        camera = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="camera"))
        stack.callback(feed.end)
        camera.submit(feed.warm_up).result()
        running = camera.submit(feed.run)
        running.add_done_callback(lambda _: loop.end())
        server.start()
        if parent is not None:
            threading.Thread(target=_end_with_parent, args=(loop, parent), name="parent", daemon=True).start()
        print(f"sim_world ready {address}", flush=True)
        loop.run()
        feed.end()
        running.result()


@contextlib.contextmanager
def _ending_on_signals(loop: RealTimeLoop) -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: loop.end()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _going_first() -> Iterator[None]:
    """A real controller box has a computer of its own; this one goes before other processes where that is allowed."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    go_first(min(before, _NICENESS))
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def _end_with_parent(loop: RealTimeLoop, parent: int) -> None:
    """Polled, because the kernel's parent-death signal fires when the parent's starting *thread* ends."""
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    loop.end()


if __name__ == "__main__":
    sys.exit(main())
