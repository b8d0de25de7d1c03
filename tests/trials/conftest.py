"""Small studies: a protocol of two policies, a stage that needs no robot, a finished study to report on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from vla_rft_core.clock import ManualClock, nanoseconds
from vla_rft_trials.progress import video_name
from vla_rft_trials.protocol import Protocol
from vla_rft_trials.records import Outcome, Termination, TrialRecord, TrialStart
from vla_rft_trials.running import Ending, Run, Scene
from vla_rft_trials.schedule import Slot
from vla_rft_trials.study import Study, lock
from vla_rft_trials.video import VideoWriter

FRAME_NS = 66_666_667

PROTOCOL = {
    "title": "Towel & noise",
    "task": "fold_towel",
    "prompt": "fold the towel in half",
    "spec": "towel",
    "success": {"edge gap": "below 4.5 cm"},
    "policies": [
        {"name": "steady", "factory": "somewhere:steady"},
        {"name": "shaky", "factory": "somewhere:steady", "options": {"noise_m": 0.02}},
    ],
    "placements": {"count": 4, "seed": 7, "region": {"x": [0.4, 0.6], "y": [-0.1, 0.1], "yaw_deg": [75.0, 105.0]}},
    "trials_per_policy": 4,
    "time_limit_s": 30.0,
}


def make_moving_square(i: int, *, height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """Frame i: a red square that moves right over grey."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[30:50, 2 * i % (width - 20) : 2 * i % (width - 20) + 20] = (220, 40, 30)
    return image


def make_trial(index: int, **changes: object) -> TrialStart:
    """A started trial."""
    base = {
        "index": index,
        "slot": index,
        "study": "0" * 64,
        "seed": 40 + index,
        "placement_id": "P01",
        "placement": "x +2 cm, <yaw> 86 deg",
        "policy": "A",
        "policy_stamp": "1" * 64,
        "started_ns": (1_700_000_000 + index) * 10**9,
        "video": video_name(index),
    }
    return TrialStart(**{**base, **changes})


def make_success(start: TrialStart) -> TrialRecord:
    """`start` ended well."""
    return TrialRecord.of(
        start,
        outcome=Outcome.SUCCESS,
        termination_reason=Termination.SUCCESS_HELD,
        ended_ns=start.started_ns + 6 * 10**9,
        seconds=6.0,
        edge_gap=0.021,
        metrics={"area_ratio": 0.5},
    )


def make_failure(start: TrialStart) -> TrialRecord:
    """`start` ended at the time limit."""
    return TrialRecord.of(
        start,
        outcome=Outcome.FAILURE,
        termination_reason=Termination.TIME_LIMIT,
        ended_ns=start.started_ns + 30 * 10**9,
        seconds=30.0,
        edge_gap=0.093,
        failure_mode="no grasp",
        frames_dropped=3,
    )


class FakeStage:
    """Performs trials of `study` on a manual clock; `ending` says how each goes. Writes a video where `film` is set."""

    def __init__(self, study: Study, *, film: bool = False) -> None:
        self.study, self.clock, self.film = study, ManualClock(realtime_offset_ns=1_700_000_000 * 10**9), film
        self.mapping = study.mapping()
        self.performed: list[TrialStart] = []
        self.ending: Callable[[TrialStart], Ending] = self.by_policy
        self.before: Callable[[Slot], None] = lambda slot: None

    def prepare(self, slot: Slot, index: int) -> Scene:
        self.before(slot)
        _, stamp = self.mapping.checked(slot.code, self.study.protocol.policies)
        return Scene(policy_stamp=stamp, preflight={"camera": "fresh"})

    def perform(self, start: TrialStart) -> Ending:
        self.performed.append(start)
        if self.film:
            with VideoWriter(self.study.folder / start.video, queue_frames=1000) as video:
                for i in range(20):
                    video.write(make_moving_square(i), start.started_ns + i * FRAME_NS)
        ending = self.ending(start)
        self.clock.advance(nanoseconds(ending.seconds))
        return ending

    def by_policy(self, start: TrialStart) -> Ending:
        """The steady one succeeds, the shaky one does not."""
        if self.mapping.codes[start.policy].name == "steady":
            return Ending(outcome=Outcome.SUCCESS, termination=Termination.SUCCESS_HELD, seconds=5.0 + start.slot)
        return Ending(
            outcome=Outcome.FAILURE, termination=Termination.SOURCE_DONE, seconds=9.0, failure_mode="no grasp"
        )

    def open(self) -> Run:
        return Run(self.study, clock=self.clock, operator="ada")


def write_protocol(folder: Path, **changes: object) -> Path:
    """A protocol file; `changes` replace its top-level fields."""
    path = folder / "protocol.yaml"
    path.write_text(yaml.safe_dump({**PROTOCOL, **changes}, sort_keys=False))
    return path


@pytest.fixture(autouse=True)
def keeper(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keeper's folder, away from the study."""
    folder = tmp_path_factory.mktemp("keeper")
    monkeypatch.setenv("VLA_RFT_KEEPER", str(folder))
    return folder


@pytest.fixture
def protocol_file() -> Callable[..., Path]:
    """`write_protocol`, for tests."""
    return write_protocol


@pytest.fixture
def protocol() -> Protocol:
    """The protocol itself."""
    from vla_rft_core.config import from_mapping

    return from_mapping(Protocol, PROTOCOL, "protocol")


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """Locks a study; arguments replace the protocol's fields."""
    count = iter(range(100))

    def make(**changes: object) -> Study:
        folder = tmp_path / f"given-{next(count)}"
        folder.mkdir()
        return lock(write_protocol(folder, **changes), folder / "study")

    return make


@pytest.fixture
def study(make_study: Callable[..., Study]) -> Study:
    """Locked, not begun."""
    return make_study()


@pytest.fixture
def make_stage() -> type[FakeStage]:
    """`FakeStage`, for tests."""
    return FakeStage


@pytest.fixture
def moving_square() -> Callable[..., NDArray[np.uint8]]:
    """`make_moving_square`, for tests."""
    return make_moving_square


@pytest.fixture
def trial() -> Callable[..., TrialStart]:
    """`make_trial`, for tests."""
    return make_trial


@pytest.fixture
def success() -> Callable[..., TrialRecord]:
    """`make_success`, for tests."""
    return make_success


@pytest.fixture
def failure() -> Callable[..., TrialRecord]:
    """`make_failure`, for tests."""
    return make_failure
