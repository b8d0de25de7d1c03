"""OnnxBackend: a bundle's graphs in ONNX Runtime, on the CPU or with CUDA.

Only `session.get_providers()` tells what really runs: the list of available providers names CUDA also where none is.
With CUDA, inputs stay in buffers of the device, and the context never leaves it. *The CUDA half has not been run.*
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from deploy.backends import Description, Inference, Inputs
from deploy.bundle import PARTS, Bundle, BundleError

WARM_UP_RUNS = 10
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """Two sessions, one after the other."""

    def __init__(self, bundle: Bundle, *, device: str, threads: int) -> None:
        """BundleError when the library is missing, refuses a graph, or does not run on the device."""
        try:
            import onnxruntime
        except ImportError as error:
            raise BundleError(f"onnxruntime cannot be imported ({error}); install the extra 'deploy'") from None
        self._ort, self._bundle, self._device, self._threads = onnxruntime, bundle, device, threads
        self._encode, self._flow = (self._session(part) for part in PARTS)
        self._inputs = {id(s): {i.name for i in s.get_inputs()} for s in (self._encode, self._flow)}

    def warm_up(self) -> None:
        """Ten runs on zeros."""
        for _ in range(WARM_UP_RUNS):
            self.infer(zeros(self._bundle))

    def infer(self, inputs: Inputs, *, with_context: bool = False) -> Inference:
        """One chunk; both sessions return when the device is done."""
        arrays = inputs.arrays()
        run = self._run_cpu if self._device == "cpu" else self._run_cuda
        began = time.perf_counter()
        context = run(self._encode, arrays, to_host=False)
        seen = time.perf_counter()
        actions = run(self._flow, {**arrays, "context": context}, to_host=True)
        done = time.perf_counter()
        kept = None
        if with_context:
            kept = (context if isinstance(context, np.ndarray) else context.numpy())[0]
        return Inference(actions[0], kept, {"encode": seen - began, "flow": done - seen})

    def describe(self) -> Description:
        """Library, provider, threads."""
        return Description(
            backend=f"onnxruntime-{self._device}",
            device=self._device,
            precision=self._bundle.network.precision,
            details={
                "onnxruntime": self._ort.__version__,
                "provider": self._encode.get_providers()[0],
                "threads": str(self._threads),
            },
        )

    def _session(self, part: str) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores are others', too
        options.log_severity_level = 3
        path, wanted = self._bundle.graph(part), PROVIDERS[self._device]
        if wanted not in self._ort.get_available_providers():
            raise BundleError(f"{path}: this onnxruntime has no {wanted}; CUDA needs the extra 'deploy-gpu'")
        try:
            session = self._ort.InferenceSession(path, options, providers=[wanted])
        except Exception as error:  # the library's exceptions share no base class of their own
            raise BundleError(f"{path}: ONNX Runtime refuses it: {_sentence(error)}") from None
        if wanted not in session.get_providers():
            raise BundleError(
                f"{path}: was to run with {wanted}, and ONNX Runtime fell back to {', '.join(session.get_providers())}"
            )
        return session

    def _fed(self, session: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in arrays.items() if name in self._inputs[id(session)]}

    def _run_cpu(self, session: Any, arrays: dict[str, Any], *, to_host: bool) -> Any:
        try:
            return session.run(None, self._fed(session, arrays))[0]
        except Exception as error:
            raise BundleError(f"ONNX Runtime refuses an observation: {_sentence(error)}") from None

    def _run_cuda(self, session: Any, arrays: dict[str, Any], *, to_host: bool) -> Any:
        binding = session.io_binding()
        output = session.get_outputs()[0].name
        try:
            for name, value in self._fed(session, arrays).items():
                if isinstance(value, np.ndarray):
                    binding.bind_cpu_input(name, np.ascontiguousarray(value))
                else:
                    binding.bind_ortvalue_input(name, value)
            binding.bind_output(output, "cpu" if to_host else "cuda")
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
        except Exception as error:
            raise BundleError(f"ONNX Runtime refuses an observation: {_sentence(error)}") from None
        return binding.copy_outputs_to_cpu()[0] if to_host else binding.get_outputs()[0]


def zeros(bundle: Bundle) -> Inputs:
    """An observation of nothing, in the shapes of the bundle."""
    network, spec = bundle.network, bundle.spec
    chunk = np.zeros((network.horizon, spec.action_dim), np.float32)
    return Inputs(
        image=np.zeros((network.image_size, network.image_size, 3), np.uint8),
        prompt_tokens=np.zeros(network.prompt_length, np.int64),
        state=np.zeros(spec.state_dim, np.float32),
        noise=chunk,
        prefix=chunk,
    )


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
