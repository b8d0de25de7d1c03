"""Figures by numbers, and verdicts on made-up attempts that each have one thing wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from vla_rft_core.cell import CellFolder, find_cell
from vla_rft_core.clock import NS_PER_S
from vla_rft_episodes import channels, figures
from vla_rft_episodes.figures import Motion, StillSpeeds
from vla_rft_episodes.measure import finger_yaw
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.synthetic import SyntheticConfig, SyntheticMessage, synthetic_messages, write_synthetic
from vla_rft_episodes.verdict import Quality, Threshold, Verdict, VerdictLimits, judge

MS = 1_000_000
COLOR = channels.color("front")
DEPTH = channels.depth("front")


@pytest.fixture(scope="module")
def cell() -> CellFolder:
    return find_cell("vla_rft_sim:towel_cell")


def make_motion(x: np.ndarray, *, measured_x: np.ndarray | None = None, widths: np.ndarray | None = None) -> Motion:
    """Along x at 100 Hz, tool down."""
    count = len(x)
    sent = np.zeros((count, 7))
    sent[:, 0], sent[:, 4] = x, 1.0
    measured = sent.copy()
    measured[:, 0] = x if measured_x is None else measured_x
    widths = np.full(count, 0.08) if widths is None else widths
    return Motion(np.arange(count) * 10 * MS, sent, widths, measured, widths)


# --- figures --------------------------------------------------------------------------------------------------


def test_gaps_counts_what_is_missing() -> None:
    stamps = np.array([0, 100, 200, 500, 600]) * MS
    found = figures.gaps(stamps, 10.0)
    assert found.missing == 2
    assert found.longest_s == pytest.approx(0.3)


def test_gaps_forgives_jitter_below_half_a_period() -> None:
    stamps = np.array([0, 60, 205, 290, 410]) * MS
    assert figures.gaps(stamps, 10.0).missing == 0


def test_gaps_of_one_message_are_none() -> None:
    assert figures.gaps(np.array([5]), 10.0) == figures.Gaps(0, 0.0)


def test_stamps_that_go_back_and_stamps_that_repeat_are_counted_apart() -> None:
    stamps = np.array([0, 10, 10, 5, 20])
    assert figures.backward_steps(stamps) == 1
    assert figures.repeated_stamps(stamps) == 1


def test_longest_repeat_lasts_from_the_first_showing() -> None:
    stamps = np.arange(6) * 100 * MS
    repeats = np.array([False, True, True, False, True, False])
    assert figures.longest_repeat_s(stamps, repeats) == pytest.approx(0.2)


def test_skews_are_to_the_nearest_on_either_side() -> None:
    skews = figures.skews_s(np.array([4, 96, 250]) * MS, np.array([0, 100]) * MS)
    assert skews == pytest.approx([0.004, 0.004, 0.15])


def test_skew_to_a_single_message() -> None:
    assert figures.skews_s(np.array([30 * MS]), np.array([10 * MS])) == pytest.approx([0.02])


def test_idle_needs_arm_and_fingers_to_stand() -> None:
    x = np.concatenate([np.linspace(0.0, 0.2, 200), np.full(200, 0.2)])
    widths = np.full(400, 0.08)
    widths[300:] = np.linspace(0.08, 0.0, 100)  # the last second closes the fingers
    found = figures.idle(make_motion(x, widths=widths), StillSpeeds(0.005, 0.03, 0.005), period_s=0.1)
    assert found.share == pytest.approx(0.25, abs=0.05)
    assert found.longest_s == pytest.approx(1.0, abs=0.11)


def test_turning_on_the_spot_is_not_idle() -> None:
    motion = make_motion(np.zeros(300))
    angles = np.linspace(0.0, 1.0, 300)
    motion.sent[:, 3:] = np.column_stack([np.sin(angles / 2), 0 * angles, 0 * angles, np.cos(angles / 2)])
    assert figures.idle(motion, StillSpeeds(0.005, 0.03, 0.005), period_s=0.1).share == 0.0


def test_jerk_of_a_cubic_is_its_third_derivative() -> None:
    t = np.arange(300) * 0.01
    found = figures.jerk(make_motion(0.5 * t**3), period_s=0.1)
    assert found.mean == pytest.approx(3.0)
    assert found.peak == pytest.approx(3.0)


def test_tracking_takes_the_lag_out() -> None:
    t = np.arange(500) * 0.01
    motion = make_motion(0.1 * np.sin(2 * t), measured_x=0.1 * np.sin(2 * (t - 0.12)))
    motion.measured[:, 1] += 0.004
    found = figures.tracking(motion, longest_lag_s=0.5)
    assert found.lag_s == pytest.approx(0.12, abs=0.011)
    assert found.p95_m == pytest.approx(0.004, abs=0.001)


def test_first_closing_is_a_crossing() -> None:
    widths = np.array([0.01, 0.08, 0.08, 0.02, 0.08, 0.01])
    assert figures.first_closing(make_motion(np.zeros(6), widths=widths), closed_width=0.03) == 3
    assert figures.first_closing(make_motion(np.zeros(6)), closed_width=0.03) is None


@pytest.mark.parametrize(("yaw", "expected"), [(0.3, 0.3), (0.3 + np.pi, 0.3), (-0.3 - np.pi, -0.3)])
def test_finger_yaw_is_the_same_after_half_a_turn(yaw: float, expected: float) -> None:
    quaternion = np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])
    assert finger_yaw(quaternion) == pytest.approx(expected)


# --- limits ---------------------------------------------------------------------------------------------------


def test_limits_that_ship_load() -> None:
    limits = VerdictLimits.load()
    assert limits.missing_pictures == Threshold(0.02, 0.10)
    assert limits.longest_s.bad is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("closed_width: 0.03", "closed_width: -1.0", "closed_width: must be positive"),
        ("gap_s: {suspect: 0.30, bad: 1.0}", "gap_s: {suspect: 3.0, bad: 1.0}", "gap_s: bad"),
        ("gap_s:", "gaps_s:", "did you mean 'gap_s'"),
    ],
)
def test_limits_refuse_mistakes_in_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    shipped = (Path(figures.__file__).parent / "verdict.yaml").read_text(encoding="utf-8")
    assert old in shipped
    path = tmp_path / "verdict.yaml"
    path.write_text(shipped.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        VerdictLimits.load(path)


def test_verdict_refuses_an_unknown_quality() -> None:
    with pytest.raises(ValueError, match="good, suspect, bad"):
        Verdict("fine")


# --- verdicts -------------------------------------------------------------------------------------------------


def test_a_clean_attempt_is_good(tmp_path: Path, cell: CellFolder) -> None:
    verdict = Episode.open(write_synthetic(tmp_path, cell, SyntheticConfig(depth_hz=10.0))).info.verdict
    assert verdict is not None
    assert (verdict.quality, verdict.reasons) == (Quality.GOOD, ())
    assert verdict.figures["grasp_x_m"] == pytest.approx(0.5)
    assert verdict.figures["grasp_y_m"] == pytest.approx(0.12)
    assert verdict.figures["tracking_lag_s"] == pytest.approx(0.05)
    assert all(np.isfinite(value) for value in verdict.figures.values())


Change = Callable[[list[SyntheticMessage]], Iterable[SyntheticMessage]]


def without(channel: channels.Channel, first_s: float, last_s: float) -> Change:
    """Nothing of a channel between two times."""

    def change(messages: list[SyntheticMessage]) -> Iterable[SyntheticMessage]:
        start = messages[0].stamp_ns
        low, high = start + first_s * NS_PER_S, start + last_s * NS_PER_S
        return [m for m in messages if m.channel != channel or not low <= m.stamp_ns < high]

    return change


def every_other(channel: channels.Channel) -> Change:
    """Half the rate."""

    def change(messages: list[SyntheticMessage]) -> Iterable[SyntheticMessage]:
        dropped = {id(m) for m in [m for m in messages if m.channel == channel][::2]}
        return [m for m in messages if id(m) not in dropped]

    return change


def frozen(channel: channels.Channel, first_s: float, last_s: float) -> Change:
    """The first picture of the interval again and again, with stamps that go on."""

    def change(messages: list[SyntheticMessage]) -> Iterable[SyntheticMessage]:
        start, stuck = messages[0].stamp_ns, b""
        for m in messages:
            if m.channel == channel and first_s <= (m.stamp_ns - start) / NS_PER_S < last_s:
                stuck = stuck or m.data
                yield replace(m, data=m.data[:12] + stuck[12:])
            else:
                yield m

    return change


def late_stamps(channel: channels.Channel, by_s: float) -> Change:
    """A channel's stamps shifted against the others'."""
    return lambda messages: [
        replace(m, stamp_ns=m.stamp_ns + round(by_s * NS_PER_S)) if m.channel == channel else m for m in messages
    ]


def stamp_back(channel: channels.Channel) -> Change:
    """One message with the stamp of the one before the one before."""

    def change(messages: list[SyntheticMessage]) -> Iterable[SyntheticMessage]:
        of_channel = [m for m in messages if m.channel == channel]
        return [replace(m, stamp_ns=of_channel[3].stamp_ns) if m is of_channel[5] else m for m in messages]

    return change


def stamps_in_threes(channel: channels.Channel) -> Change:
    """Three neighbours at a time with one stamp."""

    def change(messages: list[SyntheticMessage]) -> Iterable[SyntheticMessage]:
        of_channel = [m for m in messages if m.channel == channel]
        stamp = {id(m): of_channel[i - i % 3].stamp_ns for i, m in enumerate(of_channel)}
        return [replace(m, stamp_ns=stamp.get(id(m), m.stamp_ns)) for m in messages]

    return change


@pytest.mark.parametrize(
    ("change", "quality", "sentence"),
    [
        (without(COLOR, 2.0, 2.4), "suspect", "colour of front: silent for 0.50 s (limit 0.3 s)"),
        (every_other(COLOR), "bad", "colour of front: 30 of 59 messages, 49.2 % are missing (limit 10 %)"),
        (frozen(COLOR, 1.0, 1.5), "suspect", "colour of front: the picture stood still for 0.40 s (limit 0.25 s)"),
        (frozen(DEPTH, 1.0, 3.0), "bad", "depth of front: the picture stood still for 1.90 s (limit 1 s)"),
        (late_stamps(DEPTH, 0.05), "suspect", "depth of front: 50 ms from the nearest colour picture"),
        (stamp_back(COLOR), "bad", "colour of front: 1 messages are stamped earlier than the one before"),
        (
            stamps_in_threes(channels.ROBOT_STATE),
            "bad",
            "robot state: 400 messages have the stamp of the one before (limit 50 %)",
        ),
        (without(channels.ROBOT_STATE, 3.0, 4.5), "bad", "robot state: silent for 1.51 s (limit 1 s)"),
        (without(channels.ROBOT_STATE, 0.0, 9.0), "bad", "the attempt holds no robot state"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, cell: CellFolder, change: Change, quality: str, sentence: str) -> None:
    settings = SyntheticConfig(depth_hz=10.0)
    messages = change(list(synthetic_messages(cell, settings)))
    verdict = Episode.open(write_synthetic(tmp_path, cell, settings, messages=messages)).info.verdict
    assert verdict is not None
    assert verdict.quality == quality
    assert any(reason.startswith(sentence) for reason in verdict.reasons), verdict.reasons


def test_an_attempt_cut_off_before_the_grasp_is_bad(tmp_path: Path, cell: CellFolder) -> None:
    messages = list(synthetic_messages(cell))
    path = write_synthetic(tmp_path, cell, messages=messages[: len(messages) // 3])
    verdict = Episode.open(path).info.verdict
    assert verdict is not None
    assert verdict.quality == Quality.BAD
    assert "the gripper never closed: narrowest 80 mm (limit 30 mm)" in verdict.reasons
    assert "it lasted 2.0 s (at least 4 s)" in verdict.reasons


def test_a_failure_is_suspect_and_limits_can_be_others(tmp_path: Path, cell: CellFolder) -> None:
    episode = Episode.open(write_synthetic(tmp_path, cell))
    assert judge(episode, outcome="success").quality == Quality.GOOD
    assert judge(episode, outcome="failure").reasons == ("the attempt failed (outcome failure)",)
    strict = replace(VerdictLimits.load(), jerk_mean=Threshold(0.1, 0.2))
    assert judge(episode, limits=strict).reasons[0].startswith("the motion is jerky: 2 m/s³ on average (limit 0.2")


def test_every_threshold_is_used() -> None:
    """A limit in the file that nothing looks at would lull whoever sets it."""
    source = "".join((Path(figures.__file__).parent / name).read_text() for name in ("verdict.py", "measure.py"))
    for limit in fields(VerdictLimits):
        assert f"limits.{limit.name}" in source, limit.name
