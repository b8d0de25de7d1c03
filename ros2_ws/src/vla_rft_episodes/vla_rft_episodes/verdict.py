"""Is this attempt worth keeping? good, suspect or bad, with reasons an operator can act on, seconds after it ended.

Limits come from YAML, figures from `measure`; pictures are compared as they were compressed and never decoded. It does
not know whether the towel was folded: an outcome is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from vla_rft_core import config
from vla_rft_episodes.channels import in_words, is_picture

if TYPE_CHECKING:
    from vla_rft_episodes.measure import Measurement
    from vla_rft_episodes.reader import Episode


class Quality(StrEnum):
    """What an attempt is worth, worst last."""

    GOOD = "good"
    SUSPECT = "suspect"
    BAD = "bad"


_ORDER = list(Quality)


@dataclass(frozen=True)
class Verdict:
    """How good an attempt is.

    Example: Verdict("suspect", ("the gripper never closed: ...",), {"duration_s": 31.2, ...})
    """

    quality: str
    """One of `Quality`."""
    reasons: tuple[str, ...] = ()
    """One sentence per thing wrong, each with its number and limit, worst first; none when good."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Everything that was measured, finite numbers; the unit is in the name."""

    def __post_init__(self) -> None:
        if self.quality not in _ORDER:
            raise ValueError(f"quality must be one of {', '.join(_ORDER)}, got {self.quality!r}")


@dataclass(frozen=True)
class Threshold:
    """Beyond `suspect` a figure is said, beyond `bad` (None = never) it makes the attempt bad."""

    suspect: float
    bad: float | None = None


@dataclass(frozen=True, kw_only=True)
class VerdictLimits:
    """When an attempt is suspect or bad; `verdict.yaml` beside this file says what each limit means, with its unit."""

    shortest_s: Threshold
    longest_s: Threshold
    missing_share: Threshold
    missing_pictures: Threshold
    repeated_share: Threshold
    dropped_share: Threshold
    gap_s: Threshold
    state_skew_s: Threshold
    depth_skew_s: Threshold
    frozen_s: Threshold
    idle_share: Threshold
    idle_s: Threshold
    jerk_mean: Threshold
    jerk_peak: Threshold
    tracking_m: Threshold
    altered_share: Threshold
    closed_width: float
    still_linear: float
    still_angular: float
    still_width: float
    longest_lag_s: float
    abnormal_endings: tuple[str, ...]

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if isinstance(value, float) and value <= 0.0:
                raise ValueError(f"{limit.name}: must be positive, got {value}")
            if isinstance(value, Threshold) and value.bad is not None:
                ordered = (value.bad, value.suspect) if limit.name == "shortest_s" else (value.suspect, value.bad)
                if ordered[0] > ordered[1]:
                    raise ValueError(f"{limit.name}: bad ({value.bad}) must lie beyond suspect ({value.suspect})")

    @classmethod
    def load(cls, path: Path | None = None) -> VerdictLimits:
        """From YAML, by default the limits that ship; ValueError names the file and the field."""
        return config.load(cls, path or Path(str(resources.files(__package__).joinpath("verdict.yaml"))))


def judge(episode: Episode, *, limits: VerdictLimits | None = None, outcome: str | None = None) -> Verdict:
    """Measure and judge an attempt; `outcome` is success, failure, unknown, or None while nobody has said."""
    from vla_rft_episodes.measure import measure  # the reader's types need a Verdict before there is a reader

    limits = limits or VerdictLimits.load()
    return assess(measure(episode, limits), limits, outcome=outcome)


def assess(measurement: Measurement, limits: VerdictLimits, *, outcome: str | None = None) -> Verdict:
    """The verdict on figures that were measured already."""
    if not measurement.figures.get("states"):
        return Verdict(Quality.BAD, ("the attempt holds no robot state",), dict(measurement.figures))
    findings = _Findings()
    _judge_streams(findings, measurement, limits)
    _judge_pictures(findings, measurement, limits)
    _judge_motion(findings, measurement.figures, limits)
    if outcome == "failure":
        findings.add(Quality.SUSPECT, "the attempt failed (outcome failure)")
    for reason in measurement.holds:
        findings.add(Quality.SUSPECT, f"a hold was latched: {reason}")
    if measurement.ending.startswith(limits.abnormal_endings):
        findings.add(Quality.SUSPECT, f"it did not end as usual: {measurement.ending}")
    return Verdict(findings.worst(), findings.sentences(), dict(measurement.figures))


class _Findings:
    """Sentences with their severity."""

    def __init__(self) -> None:
        self._found: list[tuple[Quality, str]] = []

    def add(self, quality: Quality, sentence: str) -> None:
        self._found.append((quality, sentence))

    def above(self, value: float | None, limit: Threshold, sentence: str, *, unit: str = "") -> None:
        """Add `sentence` with the limit that `value` exceeds; the number is in the sentence already."""
        if value is None or value <= limit.suspect:
            return
        bad = limit.bad is not None and value > limit.bad
        passed = limit.bad if bad else limit.suspect
        self.add(Quality.BAD if bad else Quality.SUSPECT, f"{sentence} (limit {_number(passed, unit)})")

    def worst(self) -> Quality:
        return max((quality for quality, _ in self._found), key=_ORDER.index, default=Quality.GOOD)

    def sentences(self) -> tuple[str, ...]:
        return tuple(s for _, s in sorted(self._found, key=lambda found: -_ORDER.index(found[0])))


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    scaled = {"%": 100.0, "ms": 1e3, "mm": 1e3}.get(unit, 1.0) * value
    return f"{scaled:g} {unit}".strip()


def _judge_streams(findings: _Findings, measurement: Measurement, limits: VerdictLimits) -> None:
    for stream in measurement.streams:
        name = in_words(stream.topic)
        findings.above(
            stream.missing_share,
            limits.missing_pictures if is_picture(stream.topic) else limits.missing_share,
            f"{name}: {stream.count} of {stream.expected} messages, {100 * stream.missing_share:.1f} % are missing",
            unit="%",
        )
        findings.above(
            stream.dropped_share,
            limits.dropped_share,
            f"{name}: the recorder dropped {stream.dropped} messages, {100 * stream.dropped_share:.1f} %",
            unit="%",
        )
        findings.above(stream.gap_s, limits.gap_s, f"{name}: silent for {stream.gap_s:.2f} s", unit="s")
        share, sentence = stream.repeated_share, f"{name}: {stream.repeated} messages have the stamp of the one before"
        findings.above(share, limits.repeated_share, sentence, unit="%")
        if stream.backward:
            findings.add(Quality.BAD, f"{name}: {stream.backward} messages are stamped earlier than the one before")


def _judge_pictures(findings: _Findings, measurement: Measurement, limits: VerdictLimits) -> None:
    for stream in measurement.pictures:
        name, frozen = in_words(stream.topic), stream.frozen_s
        findings.above(frozen, limits.frozen_s, f"{name}: the picture stood still for {frozen:.2f} s", unit="s")
        for other, skew, limit in (
            ("robot state", stream.state_skew_s, limits.state_skew_s),
            ("colour picture", stream.depth_skew_s, limits.depth_skew_s),
        ):
            if skew is not None:
                sentence = f"{name}: {1e3 * skew:.0f} ms from the nearest {other} (90th percentile)"
                findings.above(skew, limit, sentence, unit="ms")


def _judge_motion(findings: _Findings, figures: Mapping[str, float], limits: VerdictLimits) -> None:
    duration = figures["duration_s"]
    if duration < limits.shortest_s.suspect:
        bad = limits.shortest_s.bad is not None and duration < limits.shortest_s.bad
        limit = limits.shortest_s.bad if bad else limits.shortest_s.suspect
        findings.add(Quality.BAD if bad else Quality.SUSPECT, f"it lasted {duration:.1f} s (at least {limit:g} s)")
    findings.above(duration, limits.longest_s, f"it lasted {duration:.1f} s", unit="s")
    if "grasp_x_m" not in figures:
        width = 1e3 * figures["width_min_m"]
        limit = 1e3 * limits.closed_width
        findings.add(Quality.BAD, f"the gripper never closed: narrowest {width:.0f} mm (limit {limit:.0f} mm)")
    share, pause = figures["idle_share"], figures["idle_longest_s"]
    findings.above(share, limits.idle_share, f"idle for {100 * share:.0f} % of the time", unit="%")
    findings.above(pause, limits.idle_s, f"the longest pause took {pause:.1f} s", unit="s")
    mean, peak = figures["jerk_mean_m_s3"], figures["jerk_peak_m_s3"]
    findings.above(mean, limits.jerk_mean, f"the motion is jerky: {mean:.0f} m/s³ on average", unit="m/s³")
    findings.above(peak, limits.jerk_peak, f"the motion has a jolt of {peak:.0f} m/s³", unit="m/s³")
    error = figures["tracking_p95_m"]
    sentence = f"the arm was {1e3 * error:.0f} mm from where it was sent (95th percentile, lag taken out)"
    findings.above(error, limits.tracking_m, sentence, unit="mm")
    altered = figures.get("altered_share")
    if altered is not None:
        sentence = f"{100 * altered:.0f} % of the servo ticks sent something else than was requested"
        findings.above(altered, limits.altered_share, sentence, unit="%")
