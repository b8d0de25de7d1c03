"""Policies as a robot runs them: observations in, chunks of absolute targets out. No torch, no ROS.

`NetworkPolicy` asks a network; `ReplayPolicy` and `HoldPolicy` need none, so that everything around a policy can be
tried without one. Each stamps its chunk with the capture time of its observation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.backends import Backend, Description, Inputs
from deploy.bundle import TRAJECTORY, Bundle, load_ranges
from deploy.runtime.prompts import Prompts
from deploy.thresholds import STATE_MARGIN
from vla_rft_core.action import accumulate
from vla_rft_core.errors import VlaRftError
from vla_rft_core.geometry import Pose
from vla_rft_core.image import policy_image
from vla_rft_core.types import ActionChunk, Observation, SetPoint, Source


class NoChunkError(VlaRftError):
    """The policy has no answer to this observation, and says why in one sentence; the robot waits for the next."""


@dataclass(frozen=True, eq=False)
class Decision:
    """A chunk, and how long its making took."""

    chunk: ActionChunk
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Stage -> [s]: "preprocess", "encode", "flow", "postprocess"."""


class RunningPolicy(Protocol):
    """A bundle that is ready to be asked."""

    bundle: Bundle

    def begin(self, seed: int) -> None:
        """A trial starts; what is drawn at random follows from `seed`."""

    def decide(self, observation: Observation, *, committed: NDArray[Any] | None = None) -> Decision:
        """The chunk that answers an observation; NoChunkError when there is none.

        committed: (d, A) actions after the observation that will be executed whatever is decided now.
        """

    def describe(self) -> Description:
        """What runs."""


class NetworkPolicy:
    """A network behind a backend."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle = bundle
        self._backend, self._network, self._spec = backend, bundle.network, bundle.spec
        self._prompts, self._ranges = Prompts(bundle.folder), load_ranges(bundle.folder)
        self.begin(0)

    def begin(self, seed: int) -> None:
        """The same noise after the same seed."""
        self._random = np.random.default_rng(seed)
        self._sequence = 0

    def decide(
        self,
        observation: Observation,
        *,
        committed: NDArray[Any] | None = None,
        noise: NDArray[np.float32] | None = None,
    ) -> Decision:
        """noise: [T, A], in place of its own. NoChunkError for a state it does not know, or an answer of NaN."""
        began = time.perf_counter()
        self._require_known(observation.state)
        inputs = self._inputs(observation, committed, noise)
        prepared = time.perf_counter()
        out = self._backend.infer(inputs)
        answered = time.perf_counter()
        if not np.isfinite(out.actions).all():
            raise NoChunkError("the network's answer is not finite")
        self._sequence += 1
        chunk = _chunk(
            self.bundle, observation, accumulate(observation.commanded, out.actions, self._spec), self._sequence
        )
        seconds = {**out.seconds, "preprocess": prepared - began, "postprocess": time.perf_counter() - answered}
        return Decision(chunk, seconds)

    def describe(self) -> Description:
        """The backend's."""
        return self._backend.describe()

    def outside(self, state: NDArray[Any]) -> tuple[str, float]:
        """(the dimension farthest outside of what was trained on, by how many of its ranges); ("", 0) if none."""
        known = self._ranges["state"]
        beyond = 0.5 * (np.abs(known.normalize(state)) - 1.0)
        worst = int(np.argmax(beyond))
        return (known.names[worst], float(beyond[worst])) if beyond[worst] > 0.0 else ("", 0.0)

    def _require_known(self, state: NDArray[Any]) -> None:
        if not np.isfinite(state).all():
            raise NoChunkError("the state is not finite")
        name, beyond = self.outside(state)
        if beyond > STATE_MARGIN:
            index = self._ranges["state"].names.index(name)
            low, high = self._ranges["state"].low[index], self._ranges["state"].high[index]
            raise NoChunkError(
                f"the state is not one that the policy knows: {name} is {state[index]:.4f}, it was trained on "
                f"{low:.4f} to {high:.4f}"
            )

    def _inputs(
        self, observation: Observation, committed: NDArray[Any] | None, noise: NDArray[np.float32] | None
    ) -> Inputs:
        network = self._network
        shape = (network.horizon, self._spec.action_dim)
        prefix, length = np.zeros(shape, np.float32), 0
        if committed is not None:
            length = min(len(committed), network.horizon)
            prefix[:length] = committed[:length]
        if noise is None:
            noise = (network.noise_scale * self._random.standard_normal(shape)).astype(np.float32)
        return Inputs(
            image=policy_image(observation.images[network.camera], network.image_size),
            prompt_tokens=self._prompts.tokens(observation.prompt),
            state=observation.state.astype(np.float32),
            noise=noise,
            prefix=prefix,
            prefix_length=length,
        )


class HoldPolicy:
    """Stays where the arm was sent: everything runs, nothing moves."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Nothing is drawn."""
        self._sequence = 0

    def decide(self, observation: Observation, *, committed: NDArray[Any] | None = None) -> Decision:
        """The commanded set-point, action_horizon times."""
        self._sequence += 1
        points = [observation.commanded] * self.bundle.spec.action_horizon
        return Decision(_chunk(self.bundle, observation, points, self._sequence))

    def describe(self) -> Description:
        """No backend."""
        return Description(backend="none", device="none", precision="none")


class ReplayPolicy:
    """Plays a demonstration's set-points from its start, by the clock of the observations; holds the last one."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        path = bundle.folder / TRAJECTORY
        try:
            with np.load(path, allow_pickle=False) as arrays:
                self._points = [
                    SetPoint(Pose(p, q), float(w))
                    for p, q, w in zip(arrays["positions"], arrays["quaternions"], arrays["widths"], strict=True)
                ]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: malformed ({error})") from None
        if not self._points:
            raise ValueError(f"{path}: has no set-points")
        self.begin(0)

    def begin(self, seed: int) -> None:
        """From the first set-point, at the next observation."""
        self._start_ns: int | None = None
        self._sequence = 0

    def decide(self, observation: Observation, *, committed: NDArray[Any] | None = None) -> Decision:
        """The set-points due after the observation."""
        spec = self.bundle.spec
        if self._start_ns is None:
            self._start_ns = observation.stamp_ns
        passed = (observation.stamp_ns - self._start_ns) / spec.control_period_ns
        self._sequence += 1
        points = [self._at(passed + i) for i in range(spec.action_horizon)]
        return Decision(_chunk(self.bundle, observation, points, self._sequence))

    def describe(self) -> Description:
        """No backend."""
        return Description(backend="none", device="none", precision="none")

    def _at(self, place: float) -> SetPoint:
        """Between two set-points of the demonstration, one control period apart."""
        index = min(int(place), len(self._points) - 1)
        before, after = self._points[index], self._points[min(index + 1, len(self._points) - 1)]
        return SetPoint(before.T_base_tcp.interpolate(after.T_base_tcp, min(1.0, place - index)), after.width)


def _chunk(bundle: Bundle, observation: Observation, points: list[SetPoint], sequence: int) -> ActionChunk:
    return ActionChunk.from_set_points(
        points,
        stamp_ns=observation.stamp_ns,
        period_ns=bundle.spec.control_period_ns,
        sequence=sequence,
        source=Source.POLICY,
        policy_id=bundle.digest,
    )
