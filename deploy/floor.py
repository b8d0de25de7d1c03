"""The floor: how fast a network could possibly answer on a device, from its arithmetic and its weights alone.

t = sum over parts of max(FLOP / peak, bytes of weights / bandwidth). Peak and bandwidth of known GPUs are the vendor's
(dense); a CPU's are measured in the same run, by a large matrix product and a large copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deploy.torch_backend import TorchBackend
from vla_rft_train.models.policy import Policy

GPUS = {
    "H200": (989.4e12, 4.8e12),
    "H100": (989.4e12, 3.35e12),
    "4090": (165.2e12, 1.008e12),
}
"""Name -> (bf16 FLOP/s, bytes/s)."""
MATRIX = 1024
COPY_BYTES = 64 << 20


def floor_ms(backend: TorchBackend) -> dict[str, Any]:
    """{"ms", "how", "parts"} for the device that it runs on; ValueError for a GPU whose figures are not here."""
    peak, bandwidth, how = _device(backend.describe().device)
    parts = {}
    for name, (module, arguments) in backend.parts().items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*arguments)
        flop, weights = counter.get_total_flops(), _weights(module.policy, name)
        parts[name] = {"flop": flop, "weight_bytes": weights, "ms": 1e3 * max(flop / peak, weights / bandwidth)}
    return {"ms": round(sum(part["ms"] for part in parts.values()), 4), "how": how, "parts": parts}


def _weights(policy: Policy, part: str) -> int:
    """Bytes that the part must read once: the head decides, all else looks; of embeddings a few rows only."""
    looked_up = {id(p) for m in policy.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return sum(
        p.numel() * p.element_size()
        for name, p in policy.named_parameters()
        if name.startswith("head.") == (part == "flow") and id(p) not in looked_up
    )


def _device(device: str) -> tuple[float, float, str]:
    """(FLOP/s, bytes/s, where they are from)."""
    if device != "cpu":
        name = torch.cuda.get_device_name()
        for known, (peak, bandwidth) in GPUS.items():
            if known in name:
                return peak, bandwidth, f"{known} by its data sheet, bf16 dense"
        raise ValueError(f"no peak and bandwidth are known here for {name!r}; known: {', '.join(GPUS)}")
    matrix = torch.rand(MATRIX, MATRIX)
    source, target = np.ones(COPY_BYTES, np.uint8), np.empty(COPY_BYTES, np.uint8)
    peak = 2.0 * MATRIX**3 / _fastest(lambda: matrix @ matrix)
    bandwidth = 2.0 * COPY_BYTES / _fastest(lambda: np.copyto(target, source))
    threads = torch.get_num_threads()
    return peak, bandwidth, f"measured: {peak / 1e9:.0f} GFLOP/s on {threads} threads, {bandwidth / 1e9:.1f} GB/s"


def _fastest(work: Callable[[], object], tries: int = 20) -> float:
    times = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
