"""Trials through ROS for hours on end: `python tests/soak/soak.py --hours 1 --out runs/soak`.

An unattended study of the scripted expert, each trial recorded, in the processes of `evaluate.launch.yaml`. Every ten
seconds the memory and the open files of each process are noted; what the nodes say of missed deadlines is listened to.
At the end: a table and a picture, one JSON line, and exit code 1 when a limit was broken. Limits: memory grows by less
than 2 % after the warm-up, no file handle or process is left, few late servo ticks, nothing recorded is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from diagnostic_msgs.msg import DiagnosticArray
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from vla_rft_episodes.collection import Collection
from vla_rft_episodes.fsck import fsck
from vla_rft_nodes import qos, topics
from vla_rft_nodes.operate import spinning
from vla_rft_trials.trial_log import read_log

PROTOCOL = Path(__file__).parents[2] / "launch" / "protocols" / "demo.yaml"
EVERY_S = 10.0
SECONDS_PER_TRIAL = 12.0
"""At most as many trials as could follow each other this closely are laid out."""
WARM_UP = 0.2
"""Part of the time that is not compared: caches fill."""
GROWTH = 0.02
OVERRUNS = 0.01
"""Of all servo ticks."""


@dataclass
class Watched:
    """What was noted of one process."""

    at_s: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Resident, without what is shared with others [bytes]."""
    files: list[int] = field(default_factory=list)

    def growth(self, total_s: float) -> float:
        """Of the memory's mean: last fifth of the time against the fifth that follows the warm-up."""
        early, late = _fifths(self.at_s, self.memory, total_s)
        return (sum(late) / len(late)) / (sum(early) / len(early)) - 1.0 if early and late else 0.0

    def fewest_files(self, total_s: float) -> tuple[int, int]:
        """(in the fifth after the warm-up, in the last fifth): some are open for a moment only, lost ones stay."""
        early, late = _fifths(self.at_s, self.files, total_s)
        return min(early, default=0), min(late, default=0)


def _fifths(at_s: list[float], values: list[int], total_s: float) -> tuple[list[int], list[int]]:
    """The values noted in the fifth of the time that follows the warm-up, and in the last fifth."""
    noted = [(t / total_s, value) for t, value in zip(at_s, values, strict=True)]
    early = [value for share, value in noted if WARM_UP <= share < 2 * WARM_UP]
    return early, [value for share, value in noted if share >= 1.0 - WARM_UP]


def processes(run: int) -> dict[str, int]:
    """Node name -> pid of the descendants of process `run` that are nodes."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            continue
        name = next((word.removeprefix("__node:=") for word in words if word.startswith("__node:=")), "")
        names[int(entry.name)] = name or ("sim_world" if any(word.endswith("sim_world") for word in words) else "")
    return {name: pid for pid, name in names.items() if name and parents[pid] == run}


def note(watched: dict[str, Watched], run: int, now_s: float) -> None:
    for name, pid in processes(run).items():
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            kilobytes = int(fields["RssAnon"].split()[0])
            files = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:  # it has ended meanwhile
            continue
        watched[name].at_s.append(now_s)
        watched[name].memory.append(1024 * kilobytes)
        watched[name].files.append(files)


class Deadlines:
    """What robot_node says of its servo ticks."""

    def __init__(self) -> None:
        self.ticks = self.overruns = 0

    def hear(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if "servo_ticks" in values:
                self.ticks, self.overruns = int(values["servo_ticks"]), int(values["servo_overruns"])


def write_protocol(folder: Path, hours: float) -> Path:
    """The demo's, with more trials than fit in the time."""
    content = yaml.safe_load(PROTOCOL.read_text())
    count = max(2, round(3600.0 * hours / SECONDS_PER_TRIAL))
    content["title"], content["trials_per_policy"] = f"Soak, {hours:g} h", count
    content["placements"]["count"] = count
    folder.mkdir(parents=True)
    path = folder / "protocol.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run(out: Path, hours: float) -> tuple[dict[str, Watched], Deadlines, float, set[int]]:
    """Until the time is up, then Ctrl-C: what was noted, how long it ran [s], and processes that are left."""
    protocol = write_protocol(out, hours)
    arguments = [f"protocol:={protocol}", f"study:={out / 'study'}", f"episodes:={out / 'episodes'}"]
    command = [
        sys.executable,
        "-m",
        "vla_rft_nodes.bringup",
        "evaluate",
        "unattended:=true",
        "record:=true",
        *arguments,
    ]
    watched: dict[str, Watched] = defaultdict(Watched)
    deadlines, began, seen = Deadlines(), time.monotonic(), set[int]()
    with spinning("soak") as node:
        node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, deadlines.hear, qos.EVENT)
        with (out / "output.txt").open("w") as output:
            running = subprocess.Popen(command, stdout=output, stderr=output)
            try:
                while running.poll() is None and (now_s := time.monotonic() - began) < 3600.0 * hours:
                    note(watched, running.pid, now_s)
                    seen |= set(processes(running.pid).values())
                    time.sleep(EVERY_S)
            finally:
                running.send_signal(signal.SIGINT)
                running.wait(60.0)
    left = {pid for pid in seen if Path(f"/proc/{pid}").exists()}
    return watched, deadlines, time.monotonic() - began, left


def problems_of(
    out: Path, watched: dict[str, Watched], deadlines: Deadlines, total_s: float, left: set[int]
) -> tuple[list[str], dict[str, object]]:
    """(limits that were broken, figures)."""
    records = read_log(out / "study" / "records.jsonl").records
    episodes = Collection(out / "episodes").episodes()
    recorded = {record.episode for record in records if record.episode}
    kept = {ref.path.name for ref in episodes}
    found = [
        f"{name} grew by {100 * p.growth(total_s):.1f} %" for name, p in watched.items() if p.growth(total_s) > GROWTH
    ]
    for name, process in watched.items():
        early, late = process.fewest_files(total_s)
        if late > early:
            found.append(f"{name} never holds less than {late} files, {early} after the warm-up")
    if deadlines.overruns > OVERRUNS * max(1, deadlines.ticks):
        found.append(f"{deadlines.overruns} of {deadlines.ticks} servo ticks were late")
    if left:
        found.append(f"processes left: {sorted(left)}")
    if recorded - kept:
        found.append(f"episodes named in records and not there: {sorted(recorded - kept)}")
    found += [f"fsck: {finding.sentence}" for finding in fsck(out / "episodes").findings if finding.wrong]
    outcomes = [str(record.outcome) for record in records]
    figures: dict[str, object] = {
        "seconds": round(total_s), "trials": len(records),
        "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "episodes": len(episodes), "servo_ticks": deadlines.ticks, "servo_overruns": deadlines.overruns,
        "growth": {name: round(process.growth(total_s), 4) for name, process in watched.items()},
        "files": {name: process.files[-1] for name, process in watched.items()},
    }  # fmt: skip
    return found, figures


def show(out: Path, watched: dict[str, Watched], total_s: float) -> None:
    """Table and picture of memory over time."""
    table = Table("process", "MB after warm-up", "MB at the end", "growth", "files")
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="minutes", ylabel="own memory [MB]")
    for name, process in sorted(watched.items()):
        after = next((m for t, m in zip(process.at_s, process.memory, strict=True) if t / total_s >= WARM_UP), 0)
        growth = f"{100 * process.growth(total_s):+.2f} %"
        table.add_row(name, f"{after / 1e6:.1f}", f"{process.memory[-1] / 1e6:.1f}", growth, str(process.files[-1]))
        axes.plot([t / 60.0 for t in process.at_s], [m / 1e6 for m in process.memory], label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(out / "memory.png", dpi=120)
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    given = parser.parse_args()
    if given.out.exists() or not given.hours > 0.0:
        print(f"soak: --out must be new and --hours positive, got {given.out} and {given.hours:g}", file=sys.stderr)
        return 1
    watched, deadlines, total_s, left = run(given.out, given.hours)
    show(given.out, watched, total_s)
    found, figures = problems_of(given.out, watched, deadlines, total_s, left)
    print("\n".join(found) or "within the limits")
    (given.out / "soak.json").write_text(json.dumps({**figures, "problems": found}, indent=2))
    print(json.dumps(figures))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
