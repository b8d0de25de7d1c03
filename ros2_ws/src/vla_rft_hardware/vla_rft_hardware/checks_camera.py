"""Checks of the camera: connected over USB 3, the size and rate of the spec, a living picture, exposure locked."""

from __future__ import annotations

from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import Found, check, green, red, yellow

MIN_RATE = 0.9
"""Of the spec's frame rate."""
MAX_MISSING = 0.05
"""Of the frames."""
MAX_AGE_S = 0.5
MAX_AHEAD_S = 0.02
DARK, BRIGHT = 8.0, 247.0
"""Mean colour values (of 255) at which nothing can be seen."""
_NO_CAMERA = yellow("not checked: no camera")


@check("camera")
def camera(bench: Bench) -> Found:
    """Connected, with the picture size of the spec."""
    name = bench.camera_spec.name
    if bench.camera is None and not bench.camera_problem:
        return _NO_CAMERA
    if bench.camera is None:
        return red(f"{name}: {bench.camera_problem}", "plug it into a USB 3 port and check --camera-serial")
    info, spec = bench.camera.info(), bench.camera_spec
    words = f"{name}: serial {info.serial or 'not said'}, {info.width}x{info.height}"
    if (info.width, info.height) != (spec.width, spec.height):
        return red(f"{words}, the spec says {spec.width}x{spec.height}", "change the cell's spec.yaml or the stream")
    return green(words)


@check("camera usb")
def usb(bench: Bench) -> Found:
    """USB 3: at USB 2 colour and depth do not fit."""
    if bench.camera is None:
        return _NO_CAMERA
    speed = bench.camera_facts.get("usb", "unknown")
    if speed[:1] in ("1", "2"):
        return red(f"USB {speed}", "use a USB 3 port (blue, or marked SS) and the cable that came with the camera")
    if not speed[:1].isdigit():
        return yellow("the camera does not say its USB speed", "look for 5000M in `lsusb -t`")
    return green(f"USB {speed}")


@check("camera rate")
def rate(bench: Bench) -> Found:
    """Frames really delivered within two seconds."""
    if bench.camera is None:
        return _NO_CAMERA
    sample, wanted = bench.camera_sample, bench.camera_spec.fps
    words = f"{sample.rate_hz:.1f} Hz of {wanted}, {sample.numbers_missing} of {sample.frames} frames missing"
    if sample.frames < 2:
        return red(f"{sample.frames} frames in two seconds", "replug the camera; try another cable and port")
    if sample.rate_hz < MIN_RATE * wanted:
        return red(words, "give the camera a USB controller of its own and close what else uses it")
    if sample.numbers_missing > MAX_MISSING * sample.frames:
        return yellow(words, "the computer reads too slowly: close other programs")
    return green(words)


@check("camera picture")
def picture(bench: Bench) -> Found:
    """The picture changes (sensor noise suffices) and is neither black nor white."""
    if bench.camera is None:
        return _NO_CAMERA
    sample = bench.camera_sample
    if sample.frames < 2:
        return red("no pictures to look at", "see the line `camera rate`")
    words = f"{sample.pictures} different pictures in {sample.frames} frames, mean brightness {sample.brightness:.0f}"
    if sample.pictures < 2:
        return red(f"frozen: {sample.frames} frames show one picture", "replug the camera, then start it again")
    if not DARK <= sample.brightness <= BRIGHT:
        return red(words, "take the lens cap off, switch the light on, and start again so that exposure settles")
    return green(words)


@check("camera exposure")
def exposure(bench: Bench) -> Found:
    """Exposure and white balance locked: a policy must not see them wander."""
    if bench.camera is None:
        return _NO_CAMERA
    locked = bench.camera_facts.get("locked", "")
    if not locked:
        return yellow("the camera's driver does not say whether exposure is locked")
    if locked == "no":
        return red("automatic", "start the camera again: its driver locks exposure once it has settled")
    return green(f"locked: {locked}")


@check("camera clock")
def clock(bench: Bench) -> Found:
    """Capture stamps in the host's time, not ahead of it and not old."""
    if bench.camera is None:
        return _NO_CAMERA
    sample = bench.camera_sample
    if sample.frames == 0:
        return yellow("not checked: no frames")
    words = f"capture to arrival at most {1e3 * sample.age_s:.0f} ms"
    if domain := bench.camera_facts.get("clock", ""):
        words += f", stamped by {domain}"
    if sample.age_s < -MAX_AHEAD_S:
        return red(
            f"{words}: stamps are ahead of this computer", "let the system's clock settle (chrony), then restart"
        )
    if sample.age_s > MAX_AGE_S:
        return red(words, "switch the camera's global time on; close what loads the computer")
    return green(words)
