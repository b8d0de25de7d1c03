"""All that goes over DDS is cut in mid-motion, and comes back: for a moment, and for longer than a participant's lease.

In a network namespace of its own and over UDP alone, so that there is something to cut. The world is reached over its
Unix socket.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from arm_watch import LATCHED, Watch, comes_to_rest, leave_hold
from fault_rows import NETWORK, SEEN, GraphRow, Seen, skip
from moments import moment_s
from own_network import OwnNetwork
from running_graph import Graph, with_words
from running_trial import said_in

from vla_rft_core.cell import find_cell
from vla_rft_nodes.bringup import load

pytestmark = [pytest.mark.ros, pytest.mark.realtime, pytest.mark.faults]

WIDTH, HEIGHT = 160, 120
PROFILE = Path(__file__).with_name("udp_only.xml")


def small_cell(folder: Path) -> Path:
    """The simulated cell with a camera whose pictures UDP carries without loss, whatever this host's buffers are."""
    shutil.copytree(find_cell("vla_rft_sim:towel_cell").path, folder, dirs_exist_ok=True)
    spec = folder / "spec.yaml"
    content = yaml.safe_load(spec.read_text())
    content["cameras"][0] |= {"width": WIDTH, "height": HEIGHT, "policy_size": HEIGHT}
    spec.write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="module")
def network() -> Iterator[OwnNetwork | None]:
    """None where the privilege is missing."""
    try:
        with OwnNetwork() as own:
            yield own
    except PermissionError:
        yield None


@pytest.fixture(scope="module")
def cell(network: OwnNetwork | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Graph, Path] | None]:
    """The expert as teleoperation device, in that network; and the folder of its logs."""
    if network is None:
        yield None
        return
    log_dir = tmp_path_factory.mktemp("log")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE))
        patched.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")  # LOCALHOST would add shared memory
        patched.setenv("ROS_STATIC_PEERS", "127.0.0.1")
        plan = load("teleop", {"device": "expert", "cell": str(small_cell(tmp_path_factory.mktemp("cell")))})
        plan = with_words(plan, "sim_world", "--width", str(WIDTH), "--height", str(HEIGHT))
        running = Graph(log_dir, plan=plan)
        yield running, log_dir
        running.close()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in NETWORK])
def test_the_arm_is_held_and_stays(network: OwnNetwork | None, cell: tuple[Graph, Path] | None, row: GraphRow) -> None:
    if network is None or cell is None:
        skip(row, "no network namespace of its own may be made here (it takes root)")
    graph, log_dir = cell
    network.restore()
    (lasting_s,) = (float(number) for number in re.findall(r"(\d+) s", row.fault))
    graph.start_folding()
    time.sleep(moment_s(row.fault) / 4)
    assert graph.status.mode == "ACTIVE", graph.status.reason
    stops = graph.world.status().stop_count
    watch = Watch(graph)
    network.cut()
    watch.until(lambda: watch.newest.stop_count > stops, row.limit_s, "the arm is not stopped")
    end_s = watch.real_s
    where = comes_to_rest(watch)
    watch.look_for(lasting_s - end_s)
    network.restore()
    graph.until(lambda: graph.status.mode == LATCHED, 60.0, "nothing is heard of robot_node")
    told = f"{said_in(log_dir, 'watchdog_node', 'robot_node is silent')}; then {graph.status.reason}"
    assert re.search(row.word, told), told
    graph.cell.connect(60.0)
    leave_hold(graph, where)
    SEEN[row.fault] = Seen(end_s=end_s, rest_s=watch.last_moving_s, told=told)
