"""One process or many: devices, process group, DDP or FSDP2. One code path for a laptop and for torchrun.

Nothing of our own: DistributedDataParallel, `fully_shard`, and torch's own way to gather a full state dict.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

RECOMPUTED = "_checkpoint_wrapped_module."
"""What the name of a recomputed block's parameter has more than that of the block itself."""
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
FULL_BROADCAST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


@dataclass(frozen=True)
class World:
    """Where this process stands."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """The process that writes and prints."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a scalar over all processes."""
        if self.size > 1:
            value = value.detach().clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def join() -> World:
    """This process's place: alone, or as torchrun's environment says (NCCL on GPUs, gloo on CPUs)."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return World(rank, size, device)


def leave() -> None:
    """Give the process group back, all processes together and after the modules that hold on to it."""
    if dist.is_initialized():
        gc.collect()  # sharded modules are in cycles; one that outlives the group can abort the process at its end
        dist.barrier()
        dist.destroy_process_group()


def recompute_blocks(module: nn.Module) -> None:
    """Gradient checkpointing: blocks keep no activations and compute them again on the way back. Names stay."""
    blocks = set(_blocks(module))
    apply_activation_checkpointing(module, check_fn=lambda part: part in blocks)


def _blocks(module: nn.Module) -> list[nn.Module]:
    """What is sharded and recomputed on its own: every child of a ModuleList that has weights."""
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList)]
    return [block for blocks in lists for block in blocks if any(True for _ in block.parameters())]


def spread(module: nn.Module, world: World, how: Literal["ddp", "fsdp2"]) -> nn.Module:
    """The module on this process's device, replicated or sharded where there are several.

    FSDP2 shards every block on its own, then the rest.
    """
    module.to(world.device)
    if world.size == 1:
        return module
    if how == "ddp":
        return DistributedDataParallel(module, device_ids=[world.device.index] if world.device.type == "cuda" else None)
    for block in _blocks(module):
        fully_shard(block)
    fully_shard(module)
    return module


def without_sync(module: nn.Module, wanted: bool) -> AbstractContextManager[Any]:
    """Leave gradients unreduced for a micro-batch that is not a step's last."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(not wanted)
        return nullcontext()
    return module.no_sync() if wanted and isinstance(module, DistributedDataParallel) else nullcontext()


def full_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Whole weights and optimiser state on the CPU, by parameter name; all processes call it."""
    return get_model_state_dict(module, options=FULL), get_optimizer_state_dict(module, optimizer, options=FULL)


def load_full_state(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer | None = None,
    optimizer_state: Mapping[str, Any] | None = None,
) -> None:
    """What `full_state` returned, into a module spread in any way."""
    options = FULL_BROADCAST if dist.is_initialized() else StateDictOptions(full_state_dict=True)
    set_model_state_dict(module, dict(weights), options=options)
    if optimizer is not None and optimizer_state is not None:
        set_optimizer_state_dict(module, optimizer, dict(optimizer_state), options=options)
