"""Recording: the recorder's session behind the page: the same `Session` as the terminal's, with other keys and view.

It runs here and not in the page: pedals work while the page is in the background, closed, or somebody else's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue

from std_msgs.msg import String

from vla_rft_core.cell import CellFolder
from vla_rft_core.errors import VlaRftError
from vla_rft_episodes.collection import Collection, Progress
from vla_rft_interfaces.action import RecordEpisode
from vla_rft_interfaces.srv import Rearm
from vla_rft_nodes import qos, topics
from vla_rft_nodes.client import CellClient
from vla_rft_nodes.console.snapshot import CoverageView, RecordingView, VerdictView
from vla_rft_nodes.console.words import disk_words
from vla_rft_nodes.record_session import DISCARD, KEEP, STOP, UNDO, Session, SessionOptions
from vla_rft_nodes.recorder_client import RecorderClient
from vla_rft_nodes.ros import ShellNode
from vla_rft_nodes.session_view import COVERAGE_CELL_M, Moment
from vla_rft_nodes.simulated_scene import SimulatedScene

LINES = 6
KEYS = (KEEP, DISCARD, UNDO, STOP)
HEARD = {
    Moment.BUSY: (STOP,),
    Moment.JUDGING: (STOP,),
    Moment.ASKING: KEYS,
    Moment.RECORDING: KEYS,
    Moment.DECIDING: (KEEP, DISCARD, STOP),
}
"""Which keys mean something when. The others are refused, and not kept for later."""
REARMING = "re-arm"


class QueuedKeys:
    """The session's keys, from pages and pedals."""

    def __init__(self) -> None:
        self.driving = False
        self.origin: str = Rearm.Request.LOOPBACK
        self._keys: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def put(self, key: str, origin: str) -> None:
        """Pressed there; `origin` as `Rearm` names it."""
        self._keys.put((key, origin))

    def next(self, timeout_s: float) -> str | None:
        """The next key, or None when none came in time."""
        try:
            key, self.origin = self._keys.get(timeout=timeout_s)
        except Empty:
            return None
        return key


@dataclass
class SessionState:
    """What the page is told of a session; a `SessionView`. Fields are replaced whole."""

    options: SessionOptions
    folder: CellFolder
    on_change: Callable[[], None]
    now: Moment = Moment.BUSY
    cue_text: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    last: VerdictView | None = None
    progress: Progress | None = None
    coverage: CoverageView | None = None

    def tell(self, text: str) -> None:
        """A line; what became of the last attempt is read off its words."""
        self.lines.append(f"{time.strftime('%H:%M:%S')}  {text}")
        self._conclude(text)
        self.on_change()

    def cue(self, text: str) -> None:
        """A line that is shown large."""
        self.cue_text = text
        self.tell(text)

    def moment(self, moment: Moment) -> None:
        """What keys are about."""
        self.now = moment
        self.on_change()

    def judged(self, result: RecordEpisode.Result) -> None:
        """The verdict."""
        reasons = [*result.reasons, *([result.error_msg] if result.error_code else [])]
        self.last = VerdictView(
            episode=result.episode,
            quality=result.quality or "not judged",
            reasons=tuple(reasons),
            duration_s=result.duration,
            frames=result.frames,
            dropped=result.dropped,
            decision="",
        )
        self.on_change()

    def counted(self, collection: Collection, progress: Progress) -> None:
        """Count and map."""
        self.progress = progress
        self.coverage = coverage_of(collection, self.folder)
        self.on_change()

    def _conclude(self, text: str) -> None:
        if self.last is None:
            return
        for word in ("kept", "discarded"):
            if text.startswith(f"{word} ("):
                self.last = replace(self.last, decision=word)
        if text.startswith(f"undone: {self.last.episode}"):
            self.last = replace(self.last, decision="")


class Recording:
    """At most one session at a time. Methods may be called from any thread."""

    def __init__(
        self,
        node: ShellNode,
        cell: CellClient,
        folder: CellFolder,
        *,
        episodes: Path,
        simulated: bool,
        start_device: bool,
        available: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._cell, self._folder, self._episodes = cell, folder, episodes
        self._start_device, self._available, self._on_change = start_device, available, on_change
        self._recorder = RecorderClient(node)
        self._scene = SimulatedScene(node, cell, seed=int(time.time())) if simulated else None
        self._keys = QueuedKeys()
        self._state: SessionState | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        node.create_subscription(String, topics.OPERATOR_KEY, self._on_pedal, qos.EVENT)

    @property
    def active(self) -> bool:
        """A session runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def operator(self) -> str:
        """Whose session it is; "" without one."""
        return self._state.options.operator if self.active and self._state is not None else ""

    def start(self, *, task: str, prompt: str, operator: str, count: int) -> None:
        """Begin a session; ValueError when one runs, a field is wrong, or nobody records."""
        if not task.strip() or not prompt.strip():
            raise ValueError(f"an attempt needs a task and a prompt, got {task!r} and {prompt!r}")
        if not 1 <= count <= 10_000:
            raise ValueError(f"count: between 1 and 10000 attempts, got {count}")
        if not self._available():
            raise ValueError("recorder_node is not running: start teleop.launch.yaml")
        with self._starting:
            if self.active:
                raise ValueError(f"{self.operator}'s session is running")
            options = SessionOptions(
                task=task.strip(),
                prompt=prompt.strip(),
                operator=operator,
                count=count,
                start_device=self._start_device,
                attended=True,
            )
            self._keys = QueuedKeys()
            self._state = state = SessionState(options, self._folder, self._on_change)
            self._thread = threading.Thread(target=self._run, args=(state,), name="session", daemon=True)
            self._thread.start()

    def press(self, key: str, *, origin: str) -> None:
        """A recorder key; ValueError when it means nothing now, or may not come from there."""
        state = self._state
        if key not in KEYS:
            raise ValueError(f"no key {key!r}; keys: {', '.join(KEYS)}")
        if not self.active or state is None:
            raise ValueError("no recording session is running")
        if key not in HEARD.get(state.now, ()):
            raise ValueError(f"not now: {state.now}")
        latched = self._cell.status is not None and self._cell.status.latched
        if key == KEEP and state.now is Moment.ASKING and latched and origin == "remote":
            raise ValueError("re-arming is done at the cell: on the workstation's own page, the pedal or the terminal")
        self._keys.put(key, origin)

    def end(self) -> None:
        """The session ends, and nothing is decided about an open attempt."""
        if self.active:
            self._keys.put(STOP, Rearm.Request.LOOPBACK)

    def view(self) -> RecordingView:
        """For the page."""
        state, feedback = self._state, self._recorder.feedback
        options = state.options if state is not None else None
        progress = state.progress if state is not None else None
        recording = state is not None and state.now is Moment.RECORDING and self.active
        disk = feedback.disk_minutes if recording and feedback is not None else None
        if disk is None and progress is not None:
            disk = progress.disk_minutes
        return RecordingView(
            available=self._available(),
            active=self.active,
            operator=self.operator,
            task=options.task if options else "",
            prompt=options.prompt if options else "",
            moment=str(state.now) if state is not None else "",
            cue=state.cue_text if state is not None else "",
            lines=tuple(state.lines) if state is not None else (),
            kept=progress.kept if progress else 0,
            goal=options.count if options else 0,
            discarded=progress.discarded if progress else 0,
            undecided=progress.unlabelled if progress else 0,
            per_hour=progress.per_hour if progress else None,
            attempt_s=feedback.duration if recording and feedback is not None else None,
            attempt_dropped=sum(feedback.dropped) if recording and feedback is not None else 0,
            disk=disk_words(disk),
            last=state.last if state is not None else None,
            coverage=state.coverage if state is not None else None,
        )

    def _run(self, state: SessionState) -> None:
        try:
            self._cell.connect(5.0)
            collection = Collection(self._episodes)
            state.counted(collection, collection.progress(state.options.count))
            table = self._scene.table() if self._scene is not None else None
            keys = self._keys
            Session(self._cell, self._recorder, keys, view=state, options=state.options, table=table).run()
        except VlaRftError as error:
            state.cue(f"the session ended: {error}")
        state.moment(Moment.ENDED)

    def _on_pedal(self, message: String) -> None:
        """Somebody's foot, at the cell: it needs no page."""
        try:
            self.press(message.data, origin=Rearm.Request.PEDAL)
        except ValueError:
            return  # the recording terminal may be the one that listens


def coverage_of(collection: Collection, folder: CellFolder) -> CoverageView:
    """Where towels were taken, over the workspace of the cell."""
    from vla_rft_episodes import coverage  # takes a second to import: not while others start

    low, high = folder.safety.workspace_low, folder.safety.workspace_high
    region = coverage.Region((low[0], low[1]), (high[0], high[1]), COVERAGE_CELL_M)
    starts = coverage.starts(collection)
    counts = coverage.count(starts, region)
    counted = [start for start in starts if not start.discarded]
    rows, columns = region.shape
    return CoverageView(
        cells=tuple(tuple(counts[(i, j)] for j in range(columns)) for i in range(rows)),
        newest=region.cell_of(counted[-1].x, counted[-1].y) if counted else None,
        filled=len(counts),
        cell_cm=100.0 * region.cell,
    )
