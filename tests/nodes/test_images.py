"""Every frame of the camera reaches two subscribers in processes of their own: what the Fast DDS profile is for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vla_rft_nodes.bringup import Supervisor, load

pytestmark = pytest.mark.ros

SECONDS = 6.0
FPS = 15

SUBSCRIBER = """
import json, sys, time
from vla_rft_nodes.ros import prepare_environment
prepare_environment()
import rclpy
from sensor_msgs.msg import Image
from vla_rft_nodes import convert, qos, topics
rclpy.init()
node = rclpy.create_node("subscriber_" + sys.argv[1])
stamps = {"color": [], "depth": []}
for kind, topic in (("color", topics.color_image("front")), ("depth", topics.aligned_depth("front"))):
    node.create_subscription(
        Image, topic, lambda raw, k=kind: stamps[k].append(convert.raw_stamp_ns(raw)), qos.IMAGE_RECORDED, raw=True
    )
deadline = time.monotonic() + 30.0
while not (stamps["color"] and stamps["depth"]) and time.monotonic() < deadline:
    rclpy.spin_once(node, timeout_sec=0.1)
print("ready", flush=True)
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    rclpy.spin_once(node, timeout_sec=0.05)
print(json.dumps(stamps), flush=True)
rclpy.shutdown()
"""


def subscriber(name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SUBSCRIBER, name, str(SECONDS)], stdout=subprocess.PIPE, text=True)


def test_two_subscribers_get_every_frame(tmp_path: Path) -> None:
    with Supervisor(load("robot"), log_dir=tmp_path) as processes:
        processes.start("sim_world", "camera_node")
        subscribers = [subscriber("a"), subscriber("b")]
        try:
            received = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in subscribers]
        finally:
            for process in subscribers:
                process.kill()
    for kind in ("color", "depth"):
        first, second = (set(stamps[kind]) for stamps in received)
        both_listened = (max(min(first), min(second)), min(max(first), max(second)))
        common = {stamp for stamp in first | second if both_listened[0] <= stamp <= both_listened[1]}
        assert len(common) > 0.5 * SECONDS * FPS, f"{len(common)} {kind} frames while both listened"
        missed = [len(common - first), len(common - second)]
        assert missed == [0, 0], f"of {len(common)} {kind} frames the subscribers missed {missed}"
