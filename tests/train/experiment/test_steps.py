"""Steps and their runner: keys say what went in, what is done is not done again, what failed goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vla_rft_core.splice import SpliceMode
from vla_rft_train.experiment import page, towel
from vla_rft_train.experiment.__main__ import listing
from vla_rft_train.experiment.runner import Runner, StepFailedError
from vla_rft_train.experiment.scale import Scale, scale
from vla_rft_train.experiment.steps import Command, Given, Of, Own, Plan, State, Step, Word
from vla_rft_train.rft.presets import rft_run

MAKER = """
import sys
from pathlib import Path
out, *words = sys.argv[1:]
if "fail" in words and not Path("mended").exists():
    sys.exit(3)
with Path(out).open("a") as file:
    file.write(" ".join(words))
print("made", out)
"""

SLOW = """
import sys, time
from pathlib import Path
if Path("began").exists():
    sys.exit(0)
Path("began").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    Path(sys.argv[1]).write_text("saved")
    sys.exit(130)
"""
RUNS = """
import signal, sys
from pathlib import Path
from vla_rft_train.experiment.runner import Runner
from vla_rft_train.experiment.steps import Command, Own, Plan, Step
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    plan = Plan([Step(name="slow", commands=(Command(words=("slow", Own("made.txt"))),))], Path("out"))
    Runner(plan, jobs=1, git="abc").run(["slow"])
except KeyboardInterrupt:
    sys.exit(130)
"""


def step(name: str, *words: Word, makes: str = "") -> Step:
    return Step(name=name, commands=(Command(words=("maker", Own("made.txt"), *words), makes=makes),))


@pytest.fixture(autouse=True)
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that adds its words to a file: `python -m` finds it in the working directory."""
    (tmp_path / "maker.py").write_text(MAKER)
    monkeypatch.chdir(tmp_path)


def run(*steps: Step, jobs: int = 1) -> Plan:
    plan = Plan(steps, Path("out"))
    Runner(plan, jobs=jobs, git="abc").run(plan.needed([]))
    return plan


def test_a_step_is_made_once_and_again_when_its_words_or_inputs_change() -> None:
    first, second = step("first", "one"), step("second", Of("first", "made.txt"))
    plan = run(first, second, jobs=2)
    assert (plan.folder("first") / "made.txt").read_text() == "one"
    again = run(first, second)
    assert again.folder("second") == plan.folder("second")
    assert len(again.record("first").attempts) == 1 and again.state("second") is State.DONE
    other = run(step("first", "two"), second)
    assert other.keys["first"] != plan.keys["first"] and other.keys["second"] != plan.keys["second"]
    assert (plan.folder("first") / "made.txt").read_text() == "one"  # what was made stays
    assert (other.folder("second") / "made.txt").read_text() == str(other.folder("first") / "made.txt")
    record = json.loads((Path("out/steps") / f"{plan.label('second')}.json").read_text())[-1]
    assert record["inputs"] == {"first": plan.label("first")} and record["git"] == "abc" and len(record["output"]) == 64


def test_a_file_that_is_given_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.txt").write_text("a")
    keys = [Plan([step("only", Given(tmp_path / "given"))], tmp_path).keys["only"]]
    (tmp_path / "given" / "a.txt").write_text("b")
    keys.append(Plan([step("only", Given(tmp_path / "given"))], tmp_path).keys["only"])
    assert keys[0] != keys[1]
    with pytest.raises(ValueError, match="no such file or folder"):
        Plan([step("only", Given(tmp_path / "nowhere"))], tmp_path)


def test_a_failed_step_stops_those_that_read_it_and_goes_on_where_it_was() -> None:
    half = Step(
        name="half",
        commands=(
            Command(words=("maker", Own("first.txt"), "x"), makes="first.txt"),
            Command(words=("maker", Own("second.txt"), "fail")),
        ),
    )
    with pytest.raises(StepFailedError, match=r"step 'half' ended with exit code 3; see out/logs/half-"):
        run(half, step("after", Of("half")))
    plan = Plan([half, step("after", Of("half"))], Path("out"))
    assert (plan.state("half"), plan.state("after")) == (State.STARTED, State.MISSING)
    assert "started" in listing(plan, ["half"]) and "not run" in listing(plan, ["after"])
    Path("mended").touch()
    plan = run(half, step("after", Of("half")))
    assert (plan.folder("half") / "first.txt").read_text() == "x"  # made whole: not made again
    assert [attempt["exit_code"] for attempt in plan.record("half").attempts] == [3, 0]


def test_a_run_that_is_told_to_stop_lets_its_commands_end_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "runs.py").write_text(RUNS)
    process = subprocess.Popen([sys.executable, "runs.py"])
    deadline = time.monotonic() + 60.0
    while not Path("began").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    plan = Plan([Step(name="slow", commands=(Command(words=("slow", Own("made.txt"))),))], Path("out"))
    assert (plan.folder("slow") / "made.txt").read_text() == "saved" and plan.state("slow") is State.STARTED
    Runner(plan, jobs=1, git="abc").run(["slow"])
    assert plan.state("slow") is State.DONE


def test_a_plan_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="'late' reads 'early', which does not come before it"):
        Plan([step("late", Of("early"))], Path("out"))
    with pytest.raises(ValueError, match="no step 'frist'; did you mean 'first'"):
        Plan([step("first")], Path("out")).needed(["frist"])
    with pytest.raises(ValueError, match="no preset 'large'; known: debug, sim"):
        scale("large")
    with pytest.raises(ValueError, match="name both or neither"):
        Scale(preset="sim", tokenizer="somewhere")


def test_the_experiment_s_plan_and_its_page_before_anything_was_run() -> None:
    size = scale("sim")
    plan = towel.towel_plan(size, Path("out"))
    assert plan.needed(["bundle-rft-1"])[-3:] == ["sft-1", "rft-1", "bundle-rft-1"]
    assert "sft-0" not in plan.needed(["bundle-rft-1"])
    words = plan.argv(plan.steps["sft-4n-2"], plan.steps["sft-4n-2"].commands[0])
    assert words[words.index("--loop.steps") + 1] == str(4 * size.sft_steps)
    locked = plan.argv(plan.steps[towel.STUDY], plan.steps[towel.STUDY].commands[0])
    assert [word.split("=")[0] for word in locked if "@" in word][:3] == ["sft-0", "sft-4n-0", "rft-0"]
    assert "rft-2:sft-2" in locked
    for name in ("rft-0", "r1-0", "r3-0"):
        words = plan.argv(plan.steps[name], plan.steps[name].commands[0])
        assert rft_run(words[1]).loop.steps == size.rft_steps
    Path("out").mkdir()
    text = page.write(plan, size).with_name(page.MARKDOWN).read_text()
    assert "| paper: RFT, 20k SFT + 200 RFT | 10/10 | 54.0 | none |" in text
    assert "| ours: RFT | not run | not run | not run |" in text
    blended = replace(size, splice=SpliceMode.BLEND, development=10)
    plan_of_blended = towel.towel_plan(blended, Path("out"))
    assert plan_of_blended.keys["rft-0"] == plan.keys["rft-0"]
    assert plan_of_blended.keys["bundle-rft-0"] != plan.keys["bundle-rft-0"]
    rehearsed = plan_of_blended.steps[towel.REHEARSAL]
    words = plan_of_blended.argv(rehearsed, rehearsed.commands[0])
    assert words[words.index("--development") + 1] == str(size.development_seed)
    shipped = towel.towel_plan(Scale(preset="sim", stage_one="shipped"), Path("out"))
    assert "world-model" not in shipped.steps and shipped.keys["rft-0"] != plan.keys["rft-0"]
