"""Which samples make up which step: a pure function of seed and step, so that a resumed run goes on exactly.

Every epoch is one permutation of all samples; batches run over epoch borders, and nothing is drawn twice in an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


@dataclass(frozen=True, kw_only=True)
class Order:
    """The endless order of `length` samples."""

    length: int
    batch: int
    """Samples per step, over all ranks and accumulated micro-batches."""
    seed: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.batch < 1:
            raise ValueError(f"order: {self.length} samples cannot make batches of {self.batch}")

    def step(self, step: int) -> NDArray[np.int64]:
        """(batch,) indices of the samples of step `step`, counted from 0."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, within = np.divmod(places, self.length)
        return np.concatenate([self._permutation(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((self.seed, epoch)).permutation(self.length)


class MicroBatches(Sampler[list[int]]):
    """Lists of indices for one rank from a step on: `accumulate` lists per step."""

    def __init__(self, order: Order, *, first_step: int, steps: int, ranks: int, rank: int, accumulate: int) -> None:
        if order.batch % (ranks * accumulate):
            raise ValueError(
                f"batch: {order.batch} cannot be shared evenly by {ranks} ranks with {accumulate} micro-batches each"
            )
        self._order, self._steps = order, range(first_step, steps)
        self._ranks, self._rank, self._accumulate = ranks, rank, accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            mine = self._order.step(step).reshape(self._accumulate, self._ranks, -1)[:, self._rank]
            yield from (part.tolist() for part in mine)

    def __len__(self) -> int:
        return len(self._steps) * self._accumulate
