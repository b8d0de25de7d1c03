"""Golden observations: what a bundle must answer, as PyTorch did when it was made. Replayed at every load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.backends import Backend, Float32, Inputs
from deploy.bundle import GOLDEN, Bundle, BundleError, load_ranges
from deploy.runtime.prompts import Prompts
from deploy.thresholds import BY_PRECISION, Closeness, closeness
from vla_rft_core.image import policy_image


@dataclass(frozen=True, eq=False, kw_only=True)
class Golden:
    """n observations and what PyTorch made of them in fp32."""

    images: NDArray[np.uint8]
    """[n, H, W, 3]: whole camera pictures, so that their preparation is replayed, too."""
    states: Float32
    """[n, state_dim]"""
    prompts: NDArray[np.str_]
    """[n]"""
    noises: Float32
    """[n, T, A]"""
    prefixes: Float32
    """[n, T, A]"""
    prefix_lengths: NDArray[np.int64]
    """[n]"""
    contexts: Float32
    """[n, ...]"""
    actions: Float32
    """[n, T, A] in physical units."""

    def save(self, folder: Path) -> None:
        """Write it into a bundle that is being made."""
        np.savez_compressed(folder / GOLDEN, **vars(self))

    @classmethod
    def load(cls, folder: Path) -> Golden:
        """From a bundle; ValueError in one sentence when it is malformed."""
        path = folder / GOLDEN
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: malformed ({error})") from None

    def inputs(self, index: int, *, size: int, prompts: Prompts) -> Inputs:
        """Observation `index` as the network takes it."""
        return Inputs(
            image=policy_image(self.images[index], size),
            prompt_tokens=prompts.tokens(str(self.prompts[index])),
            state=self.states[index],
            noise=self.noises[index],
            prefix=self.prefixes[index],
            prefix_length=int(self.prefix_lengths[index]),
        )

    def __len__(self) -> int:
        return len(self.images)


def compare(backend: Backend, bundle: Bundle) -> dict[str, Closeness]:
    """How close a backend comes to PyTorch over all golden observations: "context" and "actions" (normalised)."""
    golden, prompts = Golden.load(bundle.folder), Prompts(bundle.folder)
    size, action = bundle.network.image_size, load_ranges(bundle.folder)["action"]
    contexts, actions = [], []
    for index in range(len(golden)):
        out = backend.infer(golden.inputs(index, size=size, prompts=prompts), with_context=True)
        contexts.append(out.context)
        actions.append(out.actions)
    found, wanted = (action.normalize(part).astype(np.float32) for part in (np.stack(actions), golden.actions))
    return {"context": closeness(np.stack(contexts), golden.contexts), "actions": closeness(found, wanted)}


def misses(found: dict[str, Closeness], precision: str) -> list[str]:
    """What of it does not meet the thresholds of that precision, in words."""
    limits = BY_PRECISION[precision]
    wanted = {"context": limits.context, "actions": limits.actions}
    missed = [part for part in wanted if not found[part].within(wanted[part])]
    return [f"{part}: {found[part]} (needed: {wanted[part]})" for part in missed]


def require_golden(backend: Backend, bundle: Bundle) -> dict[str, Closeness]:
    """`compare`; BundleError when something does not meet the thresholds of the backend's precision."""
    what = backend.describe()
    found = compare(backend, bundle)
    if missed := misses(found, what.precision):
        raise BundleError(f"{bundle.folder}: {what.backend} does not answer as PyTorch did: {'; '.join(missed)}")
    return found
