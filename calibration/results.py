"""Measurements in the cell folder: kept whole with their hash, and put in force by one rename.

    calibration.yaml                        in force; names the measurements below, each with its hash
    calibration/20261128T071500-hand_eye-front/   result.yaml, pictures, views, manifest.json
    calibration/history/ID.yaml             calibrations that were in force before

Nothing is overwritten or deleted; while anything is refused, the old calibration stays in force.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from calibration.errors import CalibrationError
from vla_rft_core import config
from vla_rft_core.calibration import FILE, FOLDER, KIND, Calibration, CameraMount, ResultEntry
from vla_rft_core.files import sync, write_atomic
from vla_rft_core.manifest import Manifest, write_manifest

RESULT_FILE = "result.yaml"
HISTORY = "history"
ROBOT = "robot"
SIMULATED, SIMULATED_CAMERA = "sim-", "SIM-"
"""How the names of simulated calibrations, and the serial numbers of simulated cameras, begin."""


class Verdict(StrEnum):
    """Whether to use a measurement."""

    TRUST = "trust"
    DOUBTFUL = "doubtful"
    """Usable when a person says so."""
    REJECT = "reject"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured, and what to think of it."""

    kind: str
    verdict: Verdict
    reasons: tuple[str, ...]
    """What the verdict is founded on, a sentence each."""
    values: Mapping[str, Any]
    """What was measured: plain data."""
    residuals: Mapping[str, float]
    """How well it fits, by name with unit."""
    serials: Mapping[str, str] = field(default_factory=dict)
    """Device -> serial number."""
    camera: str = ""
    """Whose measurement it is; empty: nobody's in particular."""

    @property
    def slot(self) -> str:
        """Under which it is in force: a later one of the same slot replaces it."""
        return f"{self.kind}-{self.camera}" if self.camera else self.kind


def keep(cell: Path, measurement: Measurement, write: Callable[[Path], None]) -> ResultEntry:
    """Store a measurement in the cell folder; `write` adds pictures and data to its folder. Puts nothing in force."""
    parent = cell / FOLDER
    parent.mkdir(exist_ok=True)
    date = _now()
    name = _free_name(parent, f"{date:%Y%m%dT%H%M%S}-{measurement.slot}")
    opened = parent / f".open-{name}-{os.getpid()}"
    opened.mkdir()
    try:
        manifest = _fill(opened, measurement, write, date)
        opened.rename(parent / name)
    except BaseException:
        shutil.rmtree(opened, ignore_errors=True)
        raise
    sync(parent)
    return ResultEntry(kind=measurement.slot, folder=name, sha256=manifest.digest(), verdict=str(measurement.verdict))


def _fill(folder: Path, measurement: Measurement, write: Callable[[Path], None], date: datetime.datetime) -> Manifest:
    write(folder)
    plain = _plain({**config.to_mapping(measurement), "date": f"{date:%Y-%m-%dT%H:%M:%SZ}"})
    (folder / RESULT_FILE).write_text(yaml.safe_dump(plain, sort_keys=False, default_flow_style=None), encoding="utf-8")
    metadata = {key: plain[key] for key in ("kind", "camera", "date", "verdict", "serials", "residuals")}
    return write_manifest(folder, kind=KIND, metadata=metadata)


def put_in_force(
    cell: Path, measurement: Measurement, entry: ResultEntry, change: Callable[[Calibration], Calibration]
) -> Calibration:
    """Make `change` of the calibration in force, with `entry` among its results; the new one, which has a new id.

    CalibrationError when the measurement comes from other devices than the rest.
    """
    old = config.load(Calibration, cell / FILE)
    _require_same_devices(old, measurement)
    changed = change(old)
    date = _now()
    results = (*(r for r in changed.results if r.kind != entry.kind), entry)
    new = replace(
        changed,
        date=f"{date:%Y-%m-%dT%H:%M:%SZ}",
        serials={**changed.serials, **measurement.serials},
        results=tuple(sorted(results, key=lambda r: r.kind)),
    )
    new = replace(new, id=_identity(new, date, simulated=is_simulated(new) or _still_simulated(old)))
    history = cell / FOLDER / HISTORY
    history.mkdir(parents=True, exist_ok=True)
    write_atomic(history / f"{old.id}.yaml", (cell / FILE).read_bytes())
    write_atomic(cell / FILE, _dump(new))
    return new


def is_simulated(calibration: Calibration) -> bool:
    """The devices are a simulator's: its camera says so."""
    return any(serial.startswith(SIMULATED_CAMERA) for serial in calibration.serials.values())


def _still_simulated(old: Calibration) -> bool:
    """A copy of the simulated cell's calibration, in which no camera has been measured yet."""
    return old.id.startswith(SIMULATED) and not any(mount.serial for mount in old.cameras)


def with_mount(calibration: Calibration, mount: CameraMount) -> Calibration:
    """The calibration with one camera's mount replaced."""
    cameras = tuple(mount if camera.name == mount.name else camera for camera in calibration.cameras)
    return replace(calibration, cameras=cameras)


def _require_same_devices(old: Calibration, measurement: Measurement) -> None:
    """A robot is calibrated as a whole; a camera anew from its hand-eye on."""
    known, found = old.serials.get(ROBOT), measurement.serials.get(ROBOT)
    if known and found and known != found:
        raise CalibrationError(
            f"the calibration in force is of robot {known}, this is {found}: another arm needs a cell folder of its own"
        )
    for name, serial in measurement.serials.items():
        known = old.serials.get(name)
        if name == ROBOT or not known or known == serial or measurement.kind in ("hand_eye", "intrinsics"):
            continue
        raise CalibrationError(
            f"camera {name!r} has serial number {serial}, its hand-eye was measured with {known}: measure that first"
        )


def _identity(calibration: Calibration, date: datetime.datetime, *, simulated: bool) -> str:
    digest = hashlib.sha256(_dump(replace(calibration, id=""))).hexdigest()
    return f"{SIMULATED if simulated else ''}{date:%Y%m%d}-{digest[:8]}"


def _dump(calibration: Calibration) -> bytes:
    head = "# Made by `python -m calibration.…`; what was in force before is in calibration/history. Do not edit.\n"
    return (
        head + yaml.safe_dump(_plain(config.to_mapping(calibration)), sort_keys=False, default_flow_style=None)
    ).encode()


def _plain(value: Any) -> Any:
    """Nested data as YAML has it: numpy's numbers and arrays become Python's, and numbers keep nine digits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _free_name(parent: Path, name: str) -> str:
    names = [name, *(f"{name}-{i}" for i in range(2, 1000))]
    return next(free for free in names if not (parent / free).exists())


def _now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)
