"""The written file, decoded again: frames, true times, pixel format, keyframes, and what a kill leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vla_rft_trials.overlay import BAR_HEIGHT, Caption, with_caption
from vla_rft_trials.records import Outcome
from vla_rft_trials.trial_log import read_log
from vla_rft_trials.video import KEYFRAME_INTERVAL, VideoError, VideoWriter, frames_at

Make = Callable[..., Any]
FRAME_NS = 66_666_667
FIRST_NS = 1_700_000_000_000_000_000


def test_frames_times_format_and_keyframes(tmp_path: Path, moving_square: Make) -> None:
    path = tmp_path / "trial.mp4"
    gaps = np.array([0] + [FRAME_NS + (i % 7) * 3_000_000 for i in range(44)])
    stamps = FIRST_NS + np.cumsum(gaps)
    with VideoWriter(path, queue_frames=100) as video:
        assert all(video.write(moving_square(i), int(stamp)) for i, stamp in enumerate(stamps))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times = np.array([float(frame.pts * stream.time_base) for frame in frames])
        keys = [i for i, frame in enumerate(frames) if frame.key_frame]
    assert len(frames) == 45
    assert np.abs(times - (stamps - FIRST_NS) / 1e9).max() < 1e-5
    assert max(np.diff(keys)) <= KEYFRAME_INTERVAL
    error = np.abs(frames[20].to_ndarray(format="rgb24").astype(int) - moving_square(20))
    assert error.mean() < 4


def test_the_index_lies_in_front(tmp_path: Path, moving_square: Make) -> None:
    path = tmp_path / "trial.mp4"
    with VideoWriter(path) as video:
        for i in range(20):
            video.write(moving_square(i), FIRST_NS + i * FRAME_NS)
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert b"moof" not in content
    assert list(tmp_path.iterdir()) == [path]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "trial.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(VideoError, match="exists and is not overwritten"):
        VideoWriter(path)
    assert path.read_bytes() == b"mine"


def test_frames_beyond_a_full_queue_are_counted(tmp_path: Path, moving_square: Make) -> None:
    video = VideoWriter(tmp_path / "trial.mp4", queue_frames=0)
    assert not any(video.write(moving_square(i), FIRST_NS + i) for i in range(5))
    summary = video.close()
    assert (summary.frames, summary.dropped) == (0, 5)
    assert not (tmp_path / "trial.mp4").exists()


def test_frames_that_go_back_in_time_are_counted(tmp_path: Path, moving_square: Make) -> None:
    with VideoWriter(tmp_path / "trial.mp4") as video:
        for stamp in (0, 10, 10, 5, 20):
            video.write(moving_square(stamp), FIRST_NS + stamp * FRAME_NS)
        summary = video.close()
    assert (summary.frames, summary.dropped, summary.out_of_order) == (3, 0, 2)
    assert summary.seconds == pytest.approx(20 * FRAME_NS / 1e9)


@pytest.mark.parametrize("image", [np.zeros((5, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3))])
def test_a_frame_of_the_wrong_kind_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    with VideoWriter(tmp_path / "trial.mp4") as video, pytest.raises(ValueError, match="need uint8"):
        video.write(image, FIRST_NS)


def test_a_frame_of_another_size_is_refused(tmp_path: Path, moving_square: Make) -> None:
    with VideoWriter(tmp_path / "trial.mp4") as video:
        video.write(moving_square(0), FIRST_NS)
        with pytest.raises(ValueError, match=r"got \(64, 64, 3\)"):
            video.write(moving_square(1, height=64, width=64), FIRST_NS + 1)


def test_the_encoder_s_failure_reaches_the_caller(tmp_path: Path, moving_square: Make) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    video = VideoWriter(folder / "trial.mp4")
    (folder / "trial.mp4").unlink()
    folder.rmdir()
    video.write(moving_square(0), FIRST_NS)
    with pytest.raises(VideoError, match=r"cannot write .*trial\.mp4"):
        video.close()
    with pytest.raises(VideoError, match="cannot write"):
        video.write(moving_square(1), FIRST_NS + FRAME_NS)


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import make_moving_square, make_success, make_trial
from vla_rft_trials.trial_log import RecordLog
from vla_rft_trials.video import VideoWriter

folder = Path({folder!r})
log = RecordLog(folder / "records.jsonl")
log.start(make_trial(0))
log.end(make_success(make_trial(0)))
log.start(make_trial(1))
video = VideoWriter(folder / "trial.mp4", queue_frames=10**6)
i = 0
while (folder / "trial.mp4").stat().st_size < 30_000:
    video.write(make_moving_square(i), 10**18 + i * 66_666_667)
    i += 1
    time.sleep(0.001)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_kill_leaves_the_log_and_a_video_that_plays(tmp_path: Path) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    records = read_log(tmp_path / "records.jsonl").records
    assert [record.outcome for record in records] == [Outcome.SUCCESS, Outcome.VOID]
    with av.open(str(tmp_path / "trial.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 2 * KEYFRAME_INTERVAL
    assert [seconds for seconds, _ in frames_at(tmp_path / "trial.mp4", [0.0])] == [0.0]


def test_moments_are_even_in_time(tmp_path: Path, moving_square: Make) -> None:
    path = tmp_path / "trial.mp4"
    stamps = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50, 100]
    with VideoWriter(path) as video:
        for stamp in stamps:
            video.write(moving_square(stamp), FIRST_NS + stamp * 10**8)
    moments = frames_at(path, [0.0, 0.5, 1.0])
    assert [round(seconds, 3) for seconds, _ in moments] == [0.0, 5.0, 10.0]
    for (_, frame), stamp in zip(moments, (0, 50, 100), strict=True):
        assert np.abs(frame.astype(int) - moving_square(stamp)).mean() < 4


@pytest.mark.parametrize("content", [b"", b"no video at all"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"cannot read .*x\.mp4"):
        frames_at(tmp_path / "x.mp4", [0.0])


def test_the_caption_leaves_the_picture_alone(moving_square: Make) -> None:
    image = moving_square(3)
    framed = with_caption(image, Caption("trial 1/3", 2.5, "success"))
    assert framed.shape == (96 + BAR_HEIGHT, 128, 3)
    assert np.array_equal(framed[:96], image)
    assert framed[96:].max() > 200
