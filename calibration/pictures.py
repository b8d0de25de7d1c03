"""Pictures of a calibration: what was seen, how well it fits, what of the image was covered. PNG files for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from calibration.views import ViewSet
from vla_rft_core.calibration import GripperCurve
from vla_rft_core.geometry import Array
from vla_rft_core.types import Image

_TILE_W = 320
_ARROW_GAIN = 30.0


def detections(views: ViewSet, path: Path, *, outliers: tuple[int, ...] = (), errors: tuple[Array, ...] = ()) -> None:
    """All views on one sheet, corners marked; residuals as arrows 30 times as long, views set aside in red."""
    tiles = []
    for i, view in enumerate(views.views):
        if view.image is None:
            continue
        tile = view.image.copy()
        color = (220, 40, 40) if i in outliers else (40, 200, 60)
        for k, pixel in enumerate(view.detection.pixels):
            center = tuple(int(v) for v in np.rint(pixel))
            cv2.circle(tile, center, 4, color, 1, cv2.LINE_AA)
            if errors:
                tip = tuple(int(v) for v in np.rint(pixel + _ARROW_GAIN * errors[i][k]))
                cv2.arrowedLine(tile, center, tip, (255, 140, 0), 2, cv2.LINE_AA, tipLength=0.25)
        rms = f", {np.sqrt((errors[i] ** 2).sum(axis=1).mean()):.2f} px" if errors else ""
        label = f"{i}: {len(view.detection.ids)} corners{rms}{', set aside' if i in outliers else ''}"
        cv2.rectangle(tile, (0, 0), (tile.shape[1], 26), (255, 255, 255), -1)
        cv2.putText(tile, label, (8, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 1, cv2.LINE_AA)
        tiles.append(
            cv2.resize(tile, (_TILE_W, _TILE_W * tile.shape[0] // tile.shape[1]), interpolation=cv2.INTER_AREA)
        )
    if tiles:
        save(sheet(tiles, columns=5), path)


def sheet(tiles: list[Image], *, columns: int) -> Image:
    """Pictures of one size as a grid."""
    blank = np.full_like(tiles[0], 255)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    rows[-1] = rows[-1] + [blank] * (columns - len(rows[-1])) if len(rows) > 1 else rows[-1]
    return np.vstack([np.hstack(row) for row in rows])


def save(image: Image, path: Path) -> None:
    """Write an RGB picture; OSError when that fails."""
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"{path}: cannot be written")


def residuals(views: ViewSet, errors: tuple[Array, ...], used: tuple[int, ...], path: Path, *, title: str) -> None:
    """Where in the image corners lie and how far they are off (arrows), and how the errors are spread."""
    width, height = views.info.intrinsics.width, views.info.intrinsics.height
    pixels = np.concatenate([views.views[i].detection.pixels for i in used])
    off = np.concatenate([errors[i] for i in used])
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    lengths = np.linalg.norm(off, axis=1)
    arrows = left.quiver(
        *pixels.T, *off.T, lengths, angles="xy", scale_units="xy", scale=0.02, width=0.002, cmap="viridis"
    )
    figure.colorbar(arrows, ax=left, label="px")
    left.set(
        xlim=(0, width), ylim=(height, 0), aspect="equal", title=f"corner seen − expected, x50 ({len(off)} corners)"
    )
    right.scatter(*off.T, s=5, alpha=0.5)
    limit = max(1.0, float(np.percentile(lengths, 99)) * 1.2)
    right.set(xlim=(-limit, limit), ylim=(limit, -limit), aspect="equal", xlabel="x [px]", ylabel="y [px]")
    right.locator_params(nbins=5)
    right.set_title(f"rms {np.sqrt((lengths**2).mean()):.2f} px")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def coverage(views: ViewSet, counts: Array, path: Path) -> None:
    """What of the image was covered by corners: counts (rows, columns) and the corners themselves."""
    size = views.info.intrinsics
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(counts, extent=(0, size.width, size.height, 0), cmap="YlGn", vmin=0)
    figure.colorbar(shown, ax=axes, label="corners per cell")
    axes.plot(*np.concatenate([v.detection.pixels for v in views.views]).T, "k.", markersize=2)
    axes.set_title(f"{(counts > 0).mean():.0%} of the image covered by {len(views.views)} views")
    figure.savefig(path, dpi=110)


def table(points: Array, touched: Any, seen: Any, path: Path) -> None:
    """Touched points from above, with how far each is from the plane through them, and the plane that depth has."""
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    off = 1e3 * touched.residuals
    limit = max(0.5, float(abs(off).max()))
    shown = axes.scatter(
        points[:, 1], points[:, 0], c=off, cmap="coolwarm", vmin=-limit, vmax=limit, s=220, edgecolor="k"
    )
    for point, value in zip(points, off, strict=True):
        axes.annotate(f"{value:+.2f}", (point[1], point[0]), textcoords="offset points", xytext=(0, 12), ha="center")
    figure.colorbar(shown, ax=axes, label="point − plane [mm]")
    depth = f"; depth: {1e3 * seen.at(*touched.middle):.1f} mm" if seen is not None else ""
    axes.set_title(f"table at {1e3 * touched.height:.2f} mm, rms {1e3 * touched.rms_m:.2f} mm{depth}")
    axes.set(xlabel="y [m, base]", ylabel="x [m, base]", aspect="equal")
    axes.invert_xaxis()
    axes.margins(0.2)
    figure.savefig(path, dpi=110)


def gripper(curve: GripperCurve, path: Path) -> None:
    """Reached over commanded widths, and the difference."""
    commanded, measured = 1e3 * np.array(curve.commanded), 1e3 * np.array(curve.measured)
    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(commanded, commanded, "k:", label="ideal")
    left.plot(commanded, measured, "o-", label="reached")
    left.set(xlabel="commanded [mm]", ylabel="reached [mm]", aspect="equal")
    left.legend()
    right.plot(commanded, measured - commanded, "o-")
    right.axhline(0.0, color="k", linewidth=0.5)
    right.set(xlabel="commanded [mm]", ylabel="reached − commanded [mm]")
    figure.savefig(path, dpi=110)


def latency(lags: Mapping[str, Any], recordings: Mapping[str, Any], path: Path) -> None:
    """Per lag: the share explained over the lags tried; and the motions that it was found from."""
    figure = Figure(figsize=(11.0, 3.0 * len(lags)), layout="constrained")
    rows = figure.subplots(len(lags), 2, squeeze=False, width_ratios=(2, 3))
    for (name, lag), (left, right) in zip(lags.items(), rows, strict=True):
        left.plot(1e3 * lag.lags, lag.shares)
        left.axvline(1e3 * lag.seconds, color="tab:red", linewidth=1)
        left.set(xlabel="lag tried [ms]", ylabel="explained", ylim=(-0.05, 1.05))
        left.set_title(f"{name}: {1e3 * lag.seconds:.1f} ± {1e3 * lag.std:.1f} ms")
        made = recordings.get(name)
        if made is None:
            right.set_axis_off()
            continue
        widths = name == "gripper"
        sent, measured = (made.widths_sent, made.widths) if widths else (made.sent[:, 1], made.measured[:, 1])
        right.plot(made.times, 1e3 * sent, label="sent", linewidth=1)
        right.plot(made.times, 1e3 * measured, label="measured", linewidth=1)
        right.set(
            xlabel="time [s]", ylabel="width [mm]" if widths else "tcp y [mm]", xlim=(0, min(6.0, made.times[-1]))
        )
        right.legend(loc="upper right")
    figure.savefig(path, dpi=100)


def difference(reference: Image, today: Image) -> Image:
    """What changed, as brightness around mid-grey."""
    changed = (today.astype(np.int16) - reference.astype(np.int16)).mean(axis=2)
    gray = np.clip(128.0 + 2.0 * changed, 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)
