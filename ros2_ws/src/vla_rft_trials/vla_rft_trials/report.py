"""The report of a study: HTML that opens from disk, Markdown, CSV and a contact sheet, made again from its records.

Prepares the numbers and words; how they look is in `templates/`. Refuses when a hash breaks. Nothing is fetched from a
network, and nothing in the folder is changed but the files made here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from vla_rft_core.files import write_atomic
from vla_rft_trials import report_tables, wording
from vla_rft_trials.analysis import Analysis, analyse
from vla_rft_trials.contact_sheet import contact_sheet
from vla_rft_trials.evidence import provenance, sessions, verify_evidence
from vla_rft_trials.figures import Named, success_curves
from vla_rft_trials.progress import counted, progress
from vla_rft_trials.ratings import agreements, read_ratings
from vla_rft_trials.records import TERMINATION_MEANING, TrialRecord
from vla_rft_trials.statistics import proportion
from vla_rft_trials.statistics.sequential import Decision
from vla_rft_trials.study import (
    CONTACT_SHEET,
    MARKDOWN,
    RATINGS,
    RECORDS,
    REPORT,
    TABLE,
    Study,
    names_of,
    open_study,
)
from vla_rft_trials.trial_log import LogContents, read_log
from vla_rft_trials.video import VideoError, trial_frames

MOMENTS = 5
_STRIP_HEIGHT = 96
_POSTER_WIDTH = 480
_JPEG_QUALITY = 72
_SHEET_ROWS = 200
"""The contact sheet shows so many trials: more make a picture that nothing opens."""
_PLAYERS = 24
"""Up to so many trials each has a player in the page; beyond, the videos are linked."""


@dataclass(frozen=True)
class _Trial:
    """One record with what the page shows beside it."""

    record: TrialRecord
    policy: str
    counts: bool
    strip: str
    """Moments of the video side by side, as a data URI; empty when there is no video to show."""
    poster: str
    video_problem: str
    """Why there is no video; empty when there is one."""
    share: float
    """Length of its bar, 0..100 %."""


def render(folder: Path) -> Path:
    """Make all parts of the report, replacing earlier ones; returns the page's path.

    StudyError, RecordError when the folder is no study, or when something is not as it was recorded.
    """
    study = open_study(folder)
    contents = read_log(study.records) if study.records.exists() else LogContents(())
    missing = verify_evidence(study, contents)
    unlocked = study.unlocked()
    names = names_of(unlocked, study.plan)
    facts = _facts(study, contents, names, missing)
    title, shown = study.protocol.title, contents.records[:_SHEET_ROWS]
    if len(shown) < len(contents.records):
        title += f": the first {len(shown)} of {len(contents.records)} trials"
    sheet = contact_sheet(folder, shown, title=title, names=names)
    page = _environment(autoescape=True).get_template("report.html.jinja").render(**facts)
    text = _environment(autoescape=False).get_template("report.md.jinja").render(**facts)
    write_atomic(folder / CONTACT_SHEET, sheet)
    write_atomic(folder / TABLE, report_tables.trials_csv(study, contents, names).encode())
    write_atomic(folder / MARKDOWN, text.encode())
    write_atomic(folder / REPORT, page.encode())
    return folder / REPORT


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("vla_rft_trials"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(wording=wording, termination_meaning=TERMINATION_MEANING)
    return environment


def _facts(study: Study, contents: LogContents, names: Mapping[str, str], missing: list[str]) -> dict[str, Any]:
    """Everything both templates use."""
    analysis = analyse(study, contents)
    records, limit_s = contents.records, study.protocol.time_limit_s
    axis_s = _time_axis(records, limit_s)
    counting = {record.index for record in counted(contents).values()}
    several = len(analysis.pairs) > 1
    ran = sessions(study)
    return {
        "study": study,
        "protocol": study.protocol,
        "plan": study.plan,
        "unlocked": study.unlocked(),
        "names": names,
        "analysis": analysis,
        "sentences": report_tables.sentences(analysis, names),
        "outcomes": report_tables.outcome_table(study, contents, names),
        "results": report_tables.result_table(analysis, names),
        "comparisons": [report_tables.comparison_table(p, names, several=several) for p in analysis.pairs],
        "failures": report_tables.failure_table(analysis, study, names),
        "latencies": report_tables.latency_table(records),
        "intervals": {p.code: _interval(p.count.successes, p.count.trials) for p in analysis.policies},
        "curves": _curves(analysis, names, limit_s),
        "trials": [_trial(study, record, names, counting, axis_s) for record in records],
        "players": len(records) <= _PLAYERS,
        "axis_s": axis_s,
        "notices": _notices(study, contents, ran) + missing,
        "amendments": contents.amendments,
        "agreements": agreements(records, read_ratings(study.folder / RATINGS)),
        "links": provenance(study),
        "sessions": ran,
        "contact_sheet": CONTACT_SHEET,
        "csv": TABLE,
        "records_name": RECORDS,
        "records_sha256": _sha256(study.records),
    }


def _interval(successes: int, trials: int) -> dict[str, Any] | None:
    if not trials:
        return None
    return {
        "wilson": proportion.wilson(successes, trials),
        "exact": proportion.clopper_pearson(successes, trials),
        "rate": successes / trials,
        "label": proportion.describe_score(successes, trials),
    }


def _curves(analysis: Analysis, names: Mapping[str, str], limit_s: float) -> str:
    named = [Named(names[p.code], p.times) for p in analysis.policies if p.times]
    return success_curves(named, limit_s) if named else ""


def _trial(study: Study, record: TrialRecord, names: Mapping[str, str], counting: set[int], axis_s: float) -> _Trial:
    share = 100 * (record.seconds or 0.0) / axis_s
    strip = poster = problem = ""
    try:
        frames = trial_frames(study.folder, record.video, [i / (MOMENTS - 1) for i in range(MOMENTS)])
        strip = _jpeg(np.concatenate([_scaled(frame, height=_STRIP_HEIGHT) for _, frame in frames], axis=1))
        last = frames[-1][1]
        poster = _jpeg(_scaled(last, height=round(last.shape[0] * _POSTER_WIDTH / last.shape[1])))
    except VideoError as error:
        problem = str(error)
    return _Trial(record, names[record.policy], record.index in counting, strip, poster, problem, share)


def _scaled(frame: NDArray[np.uint8], *, height: int) -> NDArray[np.uint8]:
    width = round(frame.shape[1] * height / frame.shape[0])
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    """As a data URI."""
    data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _time_axis(records: tuple[TrialRecord, ...], limit_s: float) -> float:
    """Right end of the seconds chart: the limit when a trial came near it, else just beyond the longest trial."""
    longest = max((record.seconds or 0.0 for record in records), default=0.0)
    if longest > limit_s / 2:
        return max(limit_s, longest)
    return 1.1 * longest or 1.0


def _notices(study: Study, contents: LogContents, ran: list[Mapping[str, object]]) -> list[str]:
    """What a reader must know before the numbers."""
    state, notices = progress(study, contents), []
    unlocked = study.unlocked()
    if not state.complete:
        notices.append(
            f"{state.settled} of {state.planned} planned trials are done; the study is not complete, and what is said "
            "of it now is a look before the end, not a result."
        )
    if state.decision is not Decision.GO_ON:
        notices.append(
            f"The stopping rule ended the study after {state.settled} of {state.planned}: {state.decision}. "
            "p values and intervals below are those of a fixed number of trials: the rule's verdict is what counts."
        )
    if study.protocol.blinded and unlocked is None:
        notices.append("The study is still sealed: policies go by their code names.")
    if unlocked is not None and unlocked.early:
        notices.append(f"The study was unlocked before it was complete: {unlocked.early}.")
    void = len(contents.original) - len(counted(contents))
    if void:
        notices.append(f"{void} void or repeated, not counted: see the reason in the table.")
    if contents.torn:
        notices.append(f"The last line of {RECORDS} was cut short and is not counted: the evaluator was killed.")
    if contents.amendments:
        notices.append(f"{len(contents.amendments)} later words about trials: see the history below.")
    return notices


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
