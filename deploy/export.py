"""`python -m deploy.export CHECKPOINT BUNDLE`: a trained policy as a bundle of ONNX graphs, with their proof.

Two graphs: `encode` looks once, `flow` has its Euler steps unrolled, with all of the context that does not depend on
them computed once. Golden observations are pictures of a cell where one is named, else smooth random ones.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from deploy.backends import Inputs
from deploy.bundle import SPEC, BundleError, BundleInfo, NetworkInfo, finish
from deploy.network import DTYPES, Encode, Flow, merge_lora
from deploy.prompt_export import prompt_table
from deploy.runtime.golden import Golden
from deploy.runtime.prompts import Prompts
from vla_rft_core import manifest
from vla_rft_core.cell import from_factory
from vla_rft_core.errors import VlaRftError
from vla_rft_core.spec import RobotSpec
from vla_rft_core.splice import SpliceConfig, SpliceMode
from vla_rft_train import released
from vla_rft_train.command import git_revision
from vla_rft_train.data import normalize
from vla_rft_train.loop import checkpoint
from vla_rft_train.models.policy import Policy

OPSET = {"fp32": 20, "fp16": 20, "bf16": 22}
"""The first with Gelu, and the first whose Conv takes bf16."""
EXTERNAL_BYTES = 1 << 30
"""Weights above this lie beside their graph: one protobuf file holds at most 2 GiB."""
GOLDEN = 6
PROMPT = "fold the towel in half"
LICENSE = "Apache-2.0"
TRAINING = "training.yaml"
"""The configuration with which the checkpoint was trained."""
_KNOWN = ("dataset", "keypoints", "git", "step", "stage", "parent", "world_model", "tokenizer")
_COUNTED = ("episodes_trained_on", "episodes_held_out")
"""Of the checkpoint's provenance, what a bundle says again: facts, and how many."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a bundle is made."""

    prompts: tuple[str, ...] = (PROMPT,)
    num_steps: int = 10
    noise_scale: float = 1.0
    precision: str = "fp32"
    prefix: str = "replace"
    splice: SpliceMode = SpliceConfig().mode
    """How its chunks are to be joined."""
    cell: str = ""
    """Factory of a cell whose pictures become the golden observations; empty: random pictures."""
    seed: int = 0
    data: str = ""
    """Where the demonstrations come from, in a sentence."""
    license: str = LICENSE
    """SPDX name of the licence under which the bundle is passed on; its text lies beside the code."""

    def __post_init__(self) -> None:
        if self.num_steps < 1 or not self.noise_scale >= 0.0 or not self.prompts:
            raise ValueError(f"num_steps must be at least 1, noise_scale not negative, prompts not empty, got {self}")


def export(folder: Path, out: Path, options: ExportOptions, *, progress: Any = None) -> None:
    """Make the bundle `out` of the checkpoint `folder`. Whole or not at all; BundleError when `out` is there."""
    if out.exists():
        raise BundleError(f"{out}: exists already and is not overwritten")
    model = released.load_policy(folder)
    if model.spec is None:
        raise BundleError(f"{folder}: has no spec.yaml: it was not trained on a robot of ours")
    config, spec = model.config, model.spec
    info = NetworkInfo(
        checkpoint=model.digest,
        checkpoint_folder=str(folder),
        camera=config.data.camera or spec.cameras[0].name,
        image_size=config.policy.image_size,
        horizon=model.model.shapes.horizon,
        prompt_length=config.policy.prompt_length,
        num_steps=options.num_steps,
        noise_scale=options.noise_scale,
        precision=options.precision,  # type: ignore[arg-type]
        prefix=options.prefix,  # type: ignore[arg-type]
        splice=options.splice,
    )
    spec.camera(info.camera)
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    scratch.mkdir(parents=True)
    tell = progress or (lambda text: None)
    try:
        spec.save(scratch / SPEC)
        normalize.save(model.stats, scratch)
        prompt_table(config.policy.tokenizer, info.prompt_length, options.prompts, scratch).save(scratch)
        tell("golden observations")
        golden = _golden(model.model, dict(model.stats), spec, info, options, scratch)
        golden.save(scratch)
        _export_graphs(merge_lora(model.model), dict(model.stats), info, golden, scratch, tell)
        shutil.copyfile(folder / "config.yaml", scratch / TRAINING)
        finish(scratch, BundleInfo(policy="network", network=info, made_from=_made_from(folder, options)))
        scratch.rename(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _made_from(folder: Path, options: ExportOptions) -> dict[str, str]:
    facts = manifest.read_manifest(folder, kind=checkpoint.KIND)
    trained = {name: str(facts.metadata[name]) for name in _KNOWN if name in facts.metadata}
    trained |= {name: str(len(facts.metadata[name])) for name in _COUNTED if name in facts.metadata}
    return {
        **{f"checkpoint.{name}": value for name, value in trained.items()},
        **({"data": options.data} if options.data else {}),
        "license": options.license,
        "checkpoint.manifest": facts.digest(),
        "git": git_revision(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "opset": str(OPSET[options.precision]),
    }


# --- golden observations --------------------------------------------------------------------------------------


def _golden(
    policy: Policy,
    stats: dict[str, normalize.NormStats],
    spec: RobotSpec,
    info: NetworkInfo,
    options: ExportOptions,
    folder: Path,
) -> Golden:
    """Observations, with what PyTorch makes of them in fp32; prefixes of all lengths among them."""
    random = np.random.default_rng(options.seed)
    images, states = _observed(spec, info, options.cell) if options.cell else _made_up(spec, info, stats, random)
    count, shape = len(images), (len(images), info.horizon, spec.action_dim)
    low, high = (bound.numpy() for bound in stats["action"].bounds)
    asked = np.array([options.prompts[i % len(options.prompts)] for i in range(count)])
    golden = Golden(
        images=images,
        states=states,
        prompts=asked,
        noises=random.standard_normal(shape).astype(np.float32),
        prefixes=random.uniform(low, high, shape).astype(np.float32),
        prefix_lengths=np.arange(count, dtype=np.int64) % (info.horizon + 1),
        contexts=np.zeros(0, np.float32),
        actions=np.zeros(0, np.float32),
    )
    encode = Encode(policy, stats["state"], precision="fp32")
    flow = Flow(policy, stats, num_steps=info.num_steps, prefix=info.prefix)
    prompts = Prompts(folder)
    contexts, actions = [], []
    for index in range(count):
        inputs = golden.inputs(index, size=info.image_size, prompts=prompts)
        seen, made = run_torch(encode, flow, inputs)
        contexts.append(seen)
        actions.append(made)
    return Golden(**{**vars(golden), "contexts": np.stack(contexts), "actions": np.stack(actions)})


@torch.inference_mode()
def run_torch(encode: Encode, flow: Flow, inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """(context, actions) without their batch dimension."""
    arrays = {name: torch.from_numpy(array) for name, array in inputs.arrays().items()}
    context = encode(arrays["image"], arrays["prompt_tokens"], arrays["state"])
    made = flow(context, *(arrays[name] for name in ("state", "noise", "prefix", "prefix_length")))
    return context[0].numpy(), made[0].numpy()


def _observed(spec: RobotSpec, info: NetworkInfo, factory: str) -> tuple[np.ndarray, np.ndarray]:
    cell = from_factory(factory)
    images, states = [], []
    try:
        for seed in range(GOLDEN):
            cell.reset(seed)
            observation = cell.observe()
            images.append(observation.images[info.camera])
            states.append(observation.state)
    finally:
        cell.close()
    return np.stack(images), np.stack(states).astype(np.float32)


def _made_up(
    spec: RobotSpec, info: NetworkInfo, stats: dict[str, normalize.NormStats], random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    camera = spec.camera(info.camera)
    coarse = random.integers(0, 256, (GOLDEN, 12, 16, 3), dtype=np.uint8)
    size = (camera.width, camera.height)
    images = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) for picture in coarse])
    low, high = (bound.numpy() for bound in stats["state"].bounds)
    return images, random.uniform(low, high, (GOLDEN, spec.state_dim)).astype(np.float32)


# --- graphs ---------------------------------------------------------------------------------------------------


def _export_graphs(
    policy: Policy,
    stats: dict[str, normalize.NormStats],
    info: NetworkInfo,
    golden: Golden,
    folder: Path,
    tell: Any,
) -> None:
    policy = policy.to(DTYPES[info.precision])
    arrays = golden.inputs(0, size=info.image_size, prompts=Prompts(folder)).arrays()
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    given["context"] = torch.from_numpy(golden.contexts[:1])
    tell("graph 1 of 2, encode")
    encode = Encode(policy, stats["state"], precision=info.precision).eval()
    opset = OPSET[info.precision]
    _export_graph(encode, given, ("image", "prompt_tokens", "state"), "context", folder / "encode.onnx", opset)
    tell("graph 2 of 2, flow")
    flow = Flow(policy, stats, num_steps=info.num_steps, precision=info.precision, prefix=info.prefix).eval()
    names = ("context", "state", "noise", "prefix", "prefix_length")
    _export_graph(flow, given, names, "actions", folder / "flow.onnx", opset)


def _export_graph(
    module: nn.Module, given: dict[str, Tensor], inputs: tuple[str, ...], output: str, path: Path, opset: int
) -> None:
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            tuple(given[name] for name in inputs),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=[output],
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():  # torch notes there in which file of this computer each was made
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.save(path, external_data=weights > EXTERNAL_BYTES)


# --- the command ----------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 with one sentence when it cannot be made; nothing is left then."""
    defaults = ExportOptions()
    parser = argparse.ArgumentParser(prog="python -m deploy.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="folder of a trained policy")
    parser.add_argument("bundle", type=Path, help="new folder")
    parser.add_argument("--prompt", action="append", help=f"tokenised now; may be repeated (default {PROMPT!r})")
    parser.add_argument("--num-steps", type=int, default=defaults.num_steps, help="Euler steps (default 10)")
    parser.add_argument("--noise-scale", type=float, default=defaults.noise_scale, help="0: from zero (default 1)")
    parser.add_argument("--precision", choices=list(DTYPES), default=defaults.precision, help="default fp32")
    parser.add_argument("--prefix", choices=["replace", "clean"], default=defaults.prefix, help="default replace")
    joined = "how its chunks are to be joined (default rtc)"
    parser.add_argument("--splice", type=SpliceMode, choices=list(SpliceMode), default=defaults.splice, help=joined)
    parser.add_argument("--cell", default="", help="factory of a cell whose pictures are the golden observations")
    parser.add_argument("--seed", type=int, default=0, help="of made-up golden observations")
    parser.add_argument("--data", default="", metavar="SENTENCE", help="where the demonstrations come from")
    parser.add_argument("--license", default=defaults.license, help=f"SPDX name (default {defaults.license})")
    given = parser.parse_args(argv)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        options = ExportOptions(
            prompts=tuple(given.prompt or (PROMPT,)),
            num_steps=given.num_steps,
            noise_scale=given.noise_scale,
            precision=given.precision,
            prefix=given.prefix,
            splice=given.splice,
            cell=given.cell,
            seed=given.seed,
            data=given.data,
            license=given.license,
        )
        with tqdm(total=4, desc="export", unit="step", file=sys.stderr) as bar:

            def tell(text: str) -> None:
                bar.set_description(f"export: {text}")
                bar.update()

            export(given.checkpoint, given.bundle, options, progress=tell)
            tell("done")
    except (ValueError, VlaRftError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(given.bundle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
