"""How long verdict and fsck take on a made-up attempt as large as a real one."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from vla_rft_core.cell import CellFolder
from vla_rft_episodes import layout
from vla_rft_episodes.fsck import fsck
from vla_rft_episodes.reader import Episode
from vla_rft_episodes.synthetic import SyntheticConfig, write_synthetic
from vla_rft_episodes.verdict import judge


def run(cell: CellFolder, *, duration_s: float) -> dict[str, float]:
    """Colour and depth at 30 fps in the camera's size, states and servo ticks at 100 Hz; times in seconds."""
    camera = cell.spec.cameras[0]
    size = (camera.width, camera.height)
    settings = SyntheticConfig(duration_s=duration_s, color_hz=30.0, depth_hz=30.0, size=size)
    with TemporaryDirectory() as folder:
        path = write_synthetic(Path(folder), cell, settings)
        began, began_cpu = time.perf_counter(), time.process_time()
        judge(Episode.open(path))
        judged, judged_cpu = time.perf_counter(), time.process_time()
        report = fsck(Path(folder))
        checked = time.perf_counter()
        if not report.clean:
            raise RuntimeError(f"fsck found fault with what was just written: {report.findings}")
        megabytes = (path / layout.MCAP_NAME).stat().st_size / 1e6
    return {
        "attempt_s": duration_s,
        "megabytes": round(megabytes, 1),
        "verdict_s": round(judged - began, 3),
        "verdict_cpu_s": round(judged_cpu - began_cpu, 3),
        "fsck_s": round(checked - judged, 3),
    }
