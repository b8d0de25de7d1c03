"""A parameter file with a typo, for every node that has one: refused in one sentence that names the right word."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from fault_rows import SEEN, TYPO, Seen

PARAMS = Path(__file__).parents[3] / "launch" / "params"
QUICK = "watchdog_node"


def files() -> list[tuple[str, str]]:
    """(file, node), each node once."""
    found: dict[str, str] = {}
    for path in sorted(PARAMS.glob("*.yaml")):
        if path.stem != "flexiv":  # the same nodes as in sim, with the vendor's library
            found |= {node: path.name for node in yaml.safe_load(path.read_text())}
    return [(file, node) for node, file in found.items()]


def misspelt(name: str) -> str:
    """Two letters the wrong way round."""
    return name[:1] + name[2] + name[1] + name[3:]


@pytest.mark.ros
@pytest.mark.parametrize(
    ("file", "node"),
    [pytest.param(file, node, id=node, marks=[] if node == QUICK else [pytest.mark.faults]) for file, node in files()],
)
def test_a_typo_is_refused_in_one_sentence(file: str, node: str, tmp_path: Path) -> None:
    content = yaml.safe_load((PARAMS / file).read_text())
    parameters = content[node]["ros__parameters"]
    right = next(name for name in parameters if len(name) > 3)
    wrong = misspelt(right)
    parameters[wrong] = parameters.pop(right)
    spoilt = tmp_path / file
    spoilt.write_text(yaml.safe_dump({node: content[node]}))
    command = [sys.executable, "-m", f"vla_rft_nodes.{node}", "--ros-args", "-r", f"__node:={node}"]
    began = time.monotonic()
    ended = subprocess.run(
        [*command, "--params-file", str(spoilt)], capture_output=True, text=True, timeout=60, check=False
    )
    took_s = time.monotonic() - began
    assert ended.returncode == 1, ended.stderr
    (sentence,) = ended.stderr.strip().splitlines()
    assert f"'{wrong}'" in sentence and f"did you mean '{right}'" in sentence, sentence
    slowest = SEEN.get(TYPO.fault)
    if slowest is None or took_s > slowest.end_s:
        SEEN[TYPO.fault] = Seen(end_s=took_s, rest_s=0.0, told=sentence)
