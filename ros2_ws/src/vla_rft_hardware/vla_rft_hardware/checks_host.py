"""Checks of cell folder and computer: profiles, Python, vendor libraries, network, disk, GPU, ROS's environment."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from vla_rft_hardware.bench import Bench
from vla_rft_hardware.checks import Found, check, green, red, yellow
from vla_rft_hardware.flexiv_link import RDK_VERSION
from vla_rft_hardware.host import NetworkInterface

PYTHONS = ((3, 11), (3, 12))
RDK_PYTHONS = ((3, 12),)
"""Of ours, those for which the vendor publishes a wheel of the RDK version that we drive."""
SIMULATED = "sim-"
"""How the names of the simulated cell's profiles begin."""
USUAL_MTU = 1500
SEGMENT_BYTES = 32 * 2**20
MESSAGE_BYTES = 4 * 2**20
PROCESSES = 8
"""Each of our processes takes one shared-memory segment."""
DISK_MINUTES_RED, DISK_MINUTES_YELLOW = 10.0, 60.0
COLOR_AND_DEPTH_BYTES = 5
"""Per pixel, as recorded at worst: nothing compressed."""


@check("cell")
def cell(bench: Bench) -> Found:
    """The folder's parts by name, with the speeds that are in force."""
    folder, motion, safety = bench.cell, bench.cell.motion, bench.cell.safety
    if motion is None:
        return red(f"{folder.path} has no motion.yaml", "copy the simulated cell's and set your speeds and stiffness")
    words = (
        f"{folder.spec.name}, calibration {folder.calibration.id}, safety {safety.name}, motion {motion.name}: "
        f"set-points up to {safety.max_speed:g} m/s, controller up to {motion.max_linear_velocity:g} m/s"
    )
    simulated = [name for name in (folder.calibration.id, safety.name, motion.name) if name.startswith(SIMULATED)]
    if simulated and not bench.simulated:
        return yellow(
            words, f"{', '.join(sorted(set(simulated)))} is the simulated cell's: measure yours and rename it"
        )
    return green(words)


@check("python")
def python(bench: Bench) -> Found:
    """A Python for which every library we need exists."""
    version = bench.host.python()
    allowed = PYTHONS if bench.simulated else RDK_PYTHONS
    words = ".".join(map(str, version))
    if version[:2] in allowed:
        return green(words)
    wanted = " or ".join(f"{major}.{minor}" for major, minor in allowed)
    why = "" if bench.simulated else f" (the wheel of flexivrdk {RDK_VERSION})"
    return red(words, f"make the environment with Python {wanted}{why}")


@check("rdk")
def rdk(bench: Bench) -> Found:
    """The vendor's library of the arm, in the one version that fits."""
    version = bench.host.package_version("flexivrdk")
    if bench.simulated:
        return green(f"the stand-in for flexivrdk {RDK_VERSION} answers; no wheel is needed")
    if version is None:
        return red("flexivrdk is not installed", f"pip install flexivrdk=={RDK_VERSION} (Python 3.12)")
    if version != RDK_VERSION:
        return red(f"flexivrdk {version}", f"pip install flexivrdk=={RDK_VERSION}: other versions refuse or crash")
    return green(f"flexivrdk {version}")


@check("realsense library")
def realsense_library(bench: Bench) -> Found:
    """The vendor's library of the camera; the simulated camera goes through it too."""
    version = bench.host.package_version("pyrealsense2")
    if version is None:
        return red("pyrealsense2 is not installed", "pip install 'vla-rft[robot]'")
    return green(f"pyrealsense2 {version}")


@check("network")
def network(bench: Bench) -> Found:
    """The interface to the controller: there, up, with an address and the usual MTU."""
    if bench.simulated:
        return green("not used: the simulated controller answers on a local socket")
    interfaces = bench.host.interfaces()
    known = ", ".join(f"{i.name} ({i.address or 'no address'})" for i in interfaces) or "none"
    if not bench.interface:
        return yellow(f"every interface is searched: {known}", "name the robot's with --interface")
    found = next((i for i in interfaces if bench.interface in (i.name, i.address)), None)
    if found is None:
        return red(f"there is no interface {bench.interface!r}", f"choose one of: {known}")
    return _judge_interface(found)


def _judge_interface(interface: NetworkInterface) -> Found:
    words = f"{interface.name}, {interface.address or 'no IPv4 address'}, MTU {interface.mtu}"
    if not interface.up:
        return red(f"{words}, down", "plug the controller's cable in and bring the interface up")
    if not interface.address:
        return red(words, "give it an address in the controller's subnet; discovery does not cross subnets")
    if interface.mtu != USUAL_MTU:
        return yellow(words, f"set the MTU to {USUAL_MTU} if the robot is not found: others have broken discovery")
    return green(words)


@check("ros domain")
def ros_domain(bench: Bench) -> Found:
    """Domain number and how far discovery reaches: the RDK's own DDS shares the wire with ours."""
    environment = bench.host.environment
    domain = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not domain.isdecimal() or int(domain) > 101:
        return red(f"ROS_DOMAIN_ID={domain}", "set it to a number from 0 to 101, the same in every terminal")
    distance = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "LOCALHOST"
    words = f"domain {domain}, discovery {distance}"
    if environment.get("ROS_LOCALHOST_ONLY") == "1" or distance in ("LOCALHOST", "OFF"):
        return green(words)
    return yellow(words, "unset ROS_AUTOMATIC_DISCOVERY_RANGE unless other computers must see the topics")


@check("fast dds profile")
def fast_dds_profile(bench: Bench) -> Found:
    """Ours, or one with shared-memory segments as large as ours: with the default, images are lost."""
    given = bench.host.environment.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")
    if not given:
        return green("each process loads the package's own")
    remedy = "unset FASTRTPS_DEFAULT_PROFILES_FILE: the package's own is then loaded"
    try:
        tree = ET.fromstring(Path(given).read_bytes())
    except (OSError, ET.ParseError) as error:
        return red(f"{given} cannot be used: {error}", remedy)
    segment, message = (_largest(tree, name) for name in ("segment_size", "maxMessageSize"))
    words = f"{given}: segments of {segment / 2**20:.0f} MiB, messages of {message / 2**20:.0f} MiB"
    if segment < SEGMENT_BYTES or message < MESSAGE_BYTES:
        return red(f"{words}; images of 640x480 get lost below 32 and 4", remedy)
    return green(words)


def _largest(tree: ET.Element, name: str) -> int:
    texts = [(element.text or "").strip() for element in tree.iter() if element.tag.rpartition("}")[2] == name]
    return max((int(text) for text in texts if text.isdecimal()), default=0)


@check("shared memory")
def shared_memory(bench: Bench) -> Found:
    """Room in /dev/shm for a segment of each process."""
    needed = PROCESSES * SEGMENT_BYTES
    try:
        total, free = bench.host.space(Path("/dev/shm"))
    except OSError as error:
        return red(f"/dev/shm: {error.strerror}", "mount a tmpfs there; images travel through it")
    words = f"/dev/shm has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed"
    if free < needed:
        return red(words, "remove left-over files, or run the container with --shm-size=1g or --ipc=host")
    return green(words)


@check("disk")
def disk(bench: Bench) -> Found:
    """Minutes of recording that fit, if every picture were stored uncompressed."""
    rate = sum(c.width * c.height * c.fps * COLOR_AND_DEPTH_BYTES for c in bench.cell.spec.cameras) * 60
    try:
        _, free = bench.host.space(bench.disk)
    except OSError as error:
        return red(f"{bench.disk}: {error.strerror}", "name the folder for recordings with --disk")
    minutes = free / rate
    words = f"{minutes:.0f} min at {bench.disk} ({rate / 1e6:.0f} MB/min assumed: colour and depth uncompressed)"
    if minutes < DISK_MINUTES_RED:
        return red(words, "free some space, or record elsewhere (--disk)")
    if minutes < DISK_MINUTES_YELLOW:
        return yellow(words, "free some space before a long session")
    return green(words)


@check("gpu")
def gpu(bench: Bench) -> Found:
    """An NVIDIA GPU with its driver; only the policy needs it."""
    gpus = bench.host.gpus()
    if gpus:
        return green("; ".join(f"{name}, driver {driver}" for name, _, driver in (g.rpartition(", ") for g in gpus)))
    remedy = "install the NVIDIA driver until nvidia-smi lists the GPU; without a policy, --skip gpu"
    if bench.simulated:
        return yellow("nvidia-smi lists none; the simulated cell runs without")
    return red("nvidia-smi lists none", remedy)
