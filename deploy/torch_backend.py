"""TorchBackend: a checkpoint run by PyTorch itself, eager or as one CUDA graph: what exports are compared with.

*The CUDA graph has not been run.*
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from deploy.backends import Description, Inference, Inputs
from deploy.backends.onnx import WARM_UP_RUNS, zeros
from deploy.bundle import Bundle, BundleError
from deploy.network import DTYPES, Encode, Flow, merge_lora
from vla_rft_train import released

ENCODE_INPUTS = ("image", "prompt_tokens", "state")
FLOW_INPUTS = ("state", "noise", "prefix", "prefix_length")
Network = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""Inputs by name -> (context, actions)."""


class TorchBackend:
    """The same arithmetic as the bundle's graphs, from the checkpoint's weights."""

    def __init__(
        self, bundle: Bundle, checkpoint: Path, *, device: str = "cpu", graph: bool = False, precision: str = ""
    ) -> None:
        """BundleError when the checkpoint is not the one that the bundle was made of, or has no CUDA to run on."""
        network = bundle.network
        model = released.load_policy(checkpoint)
        if model.digest != network.checkpoint:
            raise BundleError(
                f"{checkpoint}: its weights are {model.digest[:12]}…, {bundle.folder} was made of "
                f"{network.checkpoint[:12]}…"
            )
        if graph and device != "cuda":
            raise BundleError(f"a CUDA graph needs the device 'cuda', got {device!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise BundleError("torch finds no CUDA device here")
        self._bundle, self._device = bundle, torch.device(device)
        self._precision = precision or network.precision
        policy = merge_lora(model.model).to(self._device, DTYPES[self._precision])
        self._encode = Encode(policy, model.stats["state"], precision=self._precision).to(self._device)
        self._flow = Flow(
            policy,
            dict(model.stats),
            num_steps=network.num_steps,
            precision=self._precision,
            prefix=network.prefix,
        ).to(self._device)
        self._graph = _Graph(self._network, self._tensors(zeros(bundle))) if graph else None

    def warm_up(self) -> None:
        """Ten runs on zeros."""
        for _ in range(WARM_UP_RUNS):
            self.infer(zeros(self._bundle))

    @torch.inference_mode()
    def infer(self, inputs: Inputs, *, with_context: bool = False) -> Inference:
        """One chunk, with the device synchronised. A CUDA graph is one part: "network"."""
        tensors = self._tensors(inputs)
        began = self._now()
        if self._graph is not None:
            context, actions = self._graph.replay(tensors)
            seconds = {"network": self._now() - began}
        else:
            context = self._encode(*(tensors[name] for name in ENCODE_INPUTS))
            seen = self._now()
            actions = self._flow(context, *(tensors[name] for name in FLOW_INPUTS))
            seconds = {"encode": seen - began, "flow": self._now() - seen}
        kept = context[0].cpu().numpy() if with_context else None
        return Inference(actions[0].cpu().numpy(), kept, seconds)

    def describe(self) -> Description:
        """torch, and how it runs."""
        name = "torch-cuda-graph" if self._graph is not None else "torch-eager"
        details = {"torch": torch.__version__, "threads": str(torch.get_num_threads())}
        return Description(backend=name, device=str(self._device), precision=self._precision, details=details)

    @torch.no_grad()
    def parts(self) -> dict[str, tuple[Encode | Flow, tuple[Tensor, ...]]]:
        """The two modules, each with arguments that it takes: an observation of zeros."""
        tensors = self._tensors(zeros(self._bundle))
        looked = tuple(tensors[name] for name in ENCODE_INPUTS)
        decided = (self._encode(*looked), *(tensors[name] for name in FLOW_INPUTS))
        return {"encode": (self._encode, looked), "flow": (self._flow, decided)}

    def _network(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        context = self._encode(*(tensors[name] for name in ENCODE_INPUTS))
        return context, self._flow(context, *(tensors[name] for name in FLOW_INPUTS))

    def _tensors(self, inputs: Inputs) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self._device) for name, array in inputs.arrays().items()}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class _Graph:
    """Encode and flow captured once, replayed with new inputs in the same buffers."""

    def __init__(self, network: Network, inputs: dict[str, Tensor]) -> None:
        self._inputs = inputs
        side = torch.cuda.Stream()
        with torch.inference_mode():
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # what libraries set up lazily must not be captured
                for _ in range(3):
                    network(inputs)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._outputs = network(inputs)

    def replay(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(context, actions): buffers that the next replay writes over."""
        for name, tensor in inputs.items():
            self._inputs[name].copy_(tensor)
        self._graph.replay()
        return self._outputs
