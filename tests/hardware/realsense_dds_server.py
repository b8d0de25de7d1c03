"""A D435i on the vendor's own network transport: `python realsense_dds_server.py DOMAIN` in a process of its own.

It takes one word a line on stdin (`disconnect`, `connect`, `quit`) and answers with the word when it is done. The
client discovers it through `rs.context().query_devices()`, as it does a camera on the bus.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from vla_rft_hardware.realsense_library import load_realsense

SERIAL, SIZE, FPS = "DDS0001", (320, 240), 15
TOPIC = "realsense/D435I_" + SERIAL  # a stream's writer would replace a second slash, its reader not


class Server:
    """The device, its two streams and the thread that publishes while somebody listens."""

    def __init__(self, domain: int) -> None:
        load_realsense()
        from pyrealsense2 import pyrealdds as dds

        self._dds = dds
        self._wanted: set[str] = set()
        self._participant = dds.participant()
        self._participant.init(domain, "camera", {"udp": {"whitelist": ["127.0.0.1"]}})
        self._streams = {
            "Color": (dds.color_stream_server("Color", "RGB Camera"), dds.video_encoding.yuyv),
            "Depth": (dds.depth_stream_server("Depth", "Stereo Module"), dds.video_encoding.z16),
        }
        for name, (stream, encoding) in self._streams.items():
            stream.init_profiles([dds.video_stream_profile(FPS, encoding, *SIZE)], 0)
            stream.init_options([dds.option.from_json(option) for option in OPTIONS[name]])
            stream.set_intrinsics({self._intrinsics()})
        self._device = dds.device_server(self._participant, TOPIC)
        self._device.on_set_option(lambda server, option, value: None)
        self._device.on_control(self._open_streams)
        self._device.init([stream for stream, _ in self._streams.values()], [], self._extrinsics())
        self._info = dds.message.device_info.from_json(
            {"name": "Intel RealSense D435I", "serial": SERIAL, "product-line": "D400", "topic-root": TOPIC}
        )
        threading.Thread(target=self._publish, daemon=True).start()

    def connect(self) -> None:
        self._device.broadcast(self._info)

    def disconnect(self) -> None:
        for name in list(self._wanted):
            self._wanted.discard(name)
            self._streams[name][0].stop_streaming()
        self._device.broadcast_disconnect(self._dds.time(2.0))

    def _open_streams(self, device: object, name: str, control: dict[str, Any], reply: object) -> bool:
        """The client says which streams it wants from now on; `reset` closes the others. Says whether it was that."""
        if name != "open-streams":
            return False
        wanted = set(control.get("stream-profiles", {}))
        for name, (stream, encoding) in self._streams.items():
            if name in wanted and name not in self._wanted:
                stream.start_streaming(encoding, *SIZE)
                self._wanted.add(name)
            elif name in self._wanted and name not in wanted and control.get("reset", True):
                self._wanted.discard(name)
                stream.stop_streaming()
        return True

    def _publish(self) -> None:
        number = 0
        while True:
            time.sleep(1.0 / FPS)
            number += 1
            for name in list(self._wanted):
                image = self._dds.message.image()
                image.width, image.height, image.step = SIZE[0], SIZE[1], SIZE[0] * 2
                image.data = self._pixels(name, number)
                image.frame_id = str(number)
                image.timestamp = self._dds.now()
                try:
                    self._streams[name][0].publish_image(image)
                except RuntimeError:  # stopped meanwhile
                    continue

    @staticmethod
    def _pixels(name: str, number: int) -> bytearray:
        if name == "Depth":
            return bytearray((700).to_bytes(2, "little") * (SIZE[0] * SIZE[1]))
        return bytearray(bytes((64 + number % 64, 128)) * (SIZE[0] * SIZE[1]))

    def _intrinsics(self) -> object:
        intrinsics = self._dds.video_intrinsics()
        intrinsics.width, intrinsics.height = SIZE
        intrinsics.principal_point.x, intrinsics.principal_point.y = SIZE[0] / 2, SIZE[1] / 2
        intrinsics.focal_length.x = intrinsics.focal_length.y = 300.0
        intrinsics.distortion.model = self._dds.distortion_model.brown
        return intrinsics

    def _extrinsics(self) -> dict[tuple[str, str], object]:
        extrinsics = self._dds.extrinsics()
        extrinsics.rotation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
        extrinsics.translation = (0.015, 0.0, 0.0)
        back = self._dds.extrinsics()
        back.rotation, back.translation = extrinsics.rotation, (-0.015, 0.0, 0.0)
        return {("Depth", "Color"): extrinsics, ("Color", "Depth"): back}


OPTIONS = {
    "Color": [
        ["Exposure", 156.0, 1.0, 10000.0, 1.0, 156.0, "in units of 100 us"],
        ["Gain", 64.0, 0.0, 128.0, 1.0, 64.0, "of the image"],
        ["White Balance", 4600.0, 2800.0, 6500.0, 10.0, 4600.0, "in kelvin"],
        ["Enable Auto Exposure", 1.0, 0.0, 1.0, 1.0, 1.0, "0 or 1"],
        ["Enable Auto White Balance", 1.0, 0.0, 1.0, 1.0, 1.0, "0 or 1"],
    ],
    "Depth": [["Depth Units", 0.001, 0.001, 0.001, 0.0, 0.001, "metres per unit"]],
}


def main() -> None:
    server = Server(int(sys.argv[1]))
    server.connect()
    print("ready", flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "quit":
            return
        getattr(server, word)()
        print(word, flush=True)


if __name__ == "__main__":
    main()
