"""A bundle answers as PyTorch does, without torch; and everything that may be wrong with one is said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deploy import export as export_command
from deploy import runtime, stand_in
from deploy.backends import Inputs, load_backend
from deploy.backends.onnx import zeros
from deploy.bundle import BundleError, Gate, open_bundle, record_gate
from deploy.export import ExportOptions, export
from deploy.runtime.golden import Golden, compare
from deploy.runtime.policies import NetworkPolicy, NoChunkError
from deploy.thresholds import Closeness, closeness
from deploy.torch_backend import TorchBackend
from deploy.verify import BundleActor, loss_bound
from vla_rft_core import manifest
from vla_rft_core.cell import find_cell
from vla_rft_core.errors import VlaRftError
from vla_rft_core.types import Observation, SetPoint
from vla_rft_train import released
from vla_rft_train.closed_loop import Actor

SPEC = find_cell("vla_rft_sim:towel_cell").spec


def observation(bundle: Path, index: int = 0, **changes: Any) -> Observation:
    """A golden one, as a robot at home would see it."""
    golden, home = Golden.load(bundle), SPEC.home
    values: dict[str, Any] = {
        "stamp_ns": 5_000_000_000,
        "images": {"front": golden.images[index]},
        "image_stamps_ns": {},
        "state": golden.states[index],
        "state_stamp_ns": 5_000_000_000,
        "commanded": SetPoint(home.T_base_tcp, home.width),
        "prompt": "fold the towel in half",
    }
    return Observation(**{**values, **changes})


def passed_gate(bundle: Path) -> Gate:
    """As `deploy.verify` would record it."""
    return Gate(
        passed=True,
        pairs=29,
        lost=0,
        won=0,
        successes=20,
        reference_successes=20,
        bound=loss_bound(0, 29),
        latency=1,
        first_seed=0,
        parts=open_bundle(bundle).graph_hashes(),
    )


class TestParity:
    def test_every_stage_of_the_exported_policy_is_pytorchs(self, made_bundle: Path, conv_checkpoint: Path) -> None:
        opened = open_bundle(made_bundle)
        for backend in (load_backend("onnxruntime-cpu", opened), TorchBackend(opened, conv_checkpoint)):
            found = compare(backend, opened)
            assert found["actions"].max_error < 1e-5 and found["context"].max_error < 1e-5

    def test_the_robots_chunk_is_the_one_of_trainings_own_loop(self, made_bundle: Path, conv_checkpoint: Path) -> None:
        """Independent code on both sides: pictures, statistics, noise, deltas."""
        model = released.load_policy(conv_checkpoint)
        reference, opened = Actor(model, num_steps=2), open_bundle(made_bundle)
        exported = BundleActor(opened, load_backend("onnxruntime-cpu", opened))
        for seed in (0, 7):
            reference.restart(seed)
            exported.restart(seed)
            for index in range(2):
                a, b = (actor.act(observation(made_bundle, index)) for actor in (reference, exported))
                np.testing.assert_allclose(a.positions, b.positions, atol=1e-6)
                np.testing.assert_allclose(a.quaternions, b.quaternions, atol=1e-6)
                np.testing.assert_allclose(a.widths, b.widths, atol=1e-6)
                assert (a.stamp_ns, a.period_ns, a.source) == (b.stamp_ns, b.period_ns, b.source)
        assert b.policy_id == opened.digest

    def test_committed_actions_come_out_as_they_went_in_and_change_the_others(self, made_bundle: Path) -> None:
        opened = open_bundle(made_bundle)
        backend, golden = load_backend("onnxruntime-cpu", opened), Golden.load(made_bundle)
        given = golden.inputs(0, size=32, prompts=NetworkPolicy(opened, backend)._prompts)
        free = backend.infer(given).actions
        prefix = free + np.float32(0.002)
        for length in (1, 3, 8):
            bound = backend.infer(Inputs(**{**vars(given), "prefix": prefix, "prefix_length": length})).actions
            np.testing.assert_array_equal(bound[:length], prefix[:length])
            assert length == 8 or np.abs(bound[length:] - free[length:]).max() > 1e-7

    def test_the_vision_language_policy(self, tmp_path: Path) -> None:
        """Towers, language model, adapters, bridge: the paper's parts at a small size, with a prompt."""
        made = pytest.importorskip("timm") and _make_vla(tmp_path)
        out = tmp_path / "bundle"
        export(made, out, ExportOptions(num_steps=2, prompts=("fold the towel", "hang it up")))
        opened = open_bundle(out)
        backend = load_backend("onnxruntime-cpu", opened)
        found = compare(backend, opened)
        assert found["actions"].max_error < 1e-5 and found["context"].cosine > 0.99999
        policy = NetworkPolicy(opened, backend)
        reference = Actor(released.load_policy(made), num_steps=2)
        noise = np.zeros((8, 7), np.float32)
        for prompt in ("hang it up", "Unfold it."):  # one of the table's, one that is tokenised here
            tokens = policy._prompts.tokens(prompt)
            assert tokens.tolist() == reference._tokenize(prompt).tolist()
            policy.decide(observation(out, prompt=prompt), noise=noise)
        with pytest.raises(BundleError, match=r"has 1\d\d tokens, the policy reads 80"):
            policy.decide(observation(out, prompt="fold " * 30))
        # What depends on the context alone is computed once, not once per Euler step.
        flow = onnx.load(out / "flow.onnx").graph
        assert len([node for node in flow.node if "context" in node.input]) == 1


def _make_vla(folder: Path) -> Path:
    import importlib.util

    spec = importlib.util.spec_from_file_location("deploy_conftest", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return Path(made.make_checkpoint(made.small_vla(), folder / "vla"))


class TestLoading:
    def test_it_needs_no_torch(self, made_bundle: Path) -> None:
        code = (
            "import sys, pathlib; from deploy import runtime\n"
            "runtime.load(pathlib.Path(sys.argv[1]), allow_unverified=True)\n"
            "print([m for m in ('torch', 'vla_rft_train', 'rclpy', 'tensorrt') if m in sys.modules])"
        )
        run = subprocess.run([sys.executable, "-c", code, str(made_bundle)], capture_output=True, text=True)
        assert run.stdout.strip() == "[]", run.stderr

    def test_a_bundle_without_a_gate_is_refused(self, bundle: Path) -> None:
        with pytest.raises(BundleError, match=r"has not been through the closed-loop gate.*python -m deploy\.verify"):
            runtime.load(bundle)
        before = open_bundle(bundle)
        after = record_gate(before, "onnxruntime-cpu", passed_gate(bundle))
        assert after.digest != before.digest and after.files == before.files
        assert runtime.load(bundle).bundle.digest == after.digest

    def test_a_failed_gate_and_a_gate_of_other_graphs_are_refused(self, bundle: Path) -> None:
        gate = passed_gate(bundle)
        failed = Gate(**{**vars(gate), "passed": False, "lost": 3})
        record_gate(open_bundle(bundle), "onnxruntime-cpu", failed)
        with pytest.raises(BundleError, match="failed the closed-loop gate with onnxruntime-cpu: 3 of 29 pairs lost"):
            runtime.load(bundle)
        other = Gate(**{**vars(gate), "parts": {"encode.onnx": "0" * 64}})
        record_gate(open_bundle(bundle), "onnxruntime-cpu", other)
        with pytest.raises(BundleError, match="was of other graphs"):
            runtime.load(bundle)

    def test_a_bundle_that_answers_otherwise_is_refused(self, bundle: Path) -> None:
        """Whole by its hashes, and wrong: as after a bad conversion, or on a computer that rounds differently."""
        path = bundle / "flow.onnx"
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) > 400:
                tensor.raw_data = (1.5 * np.frombuffer(tensor.raw_data, np.float32)).tobytes()
        onnx.save(model, path)
        _seal_again(bundle)
        with pytest.raises(BundleError, match="does not answer as PyTorch did: actions: cosine"):
            runtime.load(bundle, allow_unverified=True)


def _seal_again(bundle: Path) -> None:
    """A new manifest over whatever lies in the folder."""
    metadata = manifest.read_manifest(bundle, kind="bundle").metadata
    (bundle / manifest.FILE_NAME).unlink()
    manifest.write_manifest(bundle, kind="bundle", metadata=metadata)


def _cut(bundle: Path) -> None:
    path = bundle / "flow.onnx"
    path.write_bytes(path.read_bytes()[:1000])


def _cut_and_seal(bundle: Path) -> None:
    _cut(bundle)
    _seal_again(bundle)


def _external(bundle: Path) -> None:
    model = onnx.load(bundle / "flow.onnx")
    onnx.save(model, bundle / "flow.onnx", save_as_external_data=True, location="flow.onnx.data", size_threshold=1024)
    _seal_again(bundle)
    assert (
        compare(load_backend("onnxruntime-cpu", open_bundle(bundle)), open_bundle(bundle))["actions"].max_error < 1e-5
    )
    (bundle / "flow.onnx.data").unlink()


def _edit_spec(bundle: Path) -> None:
    path = bundle / "spec.yaml"
    path.write_text(path.read_text().replace("action_horizon: 8", "action_horizon: 9"))


def _edit_metadata(bundle: Path) -> None:
    path = bundle / manifest.FILE_NAME
    content = json.loads(path.read_text())
    content["metadata"]["network"]["precision"] = "fp4"
    path.write_text(json.dumps(content))


def _spoil_golden(bundle: Path) -> None:
    (bundle / "golden.npz").write_bytes(b"PK nothing")
    _seal_again(bundle)


def _add(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_cut, r"flow\.onnx: was altered since the manifest was written"),
        (_cut_and_seal, r"flow\.onnx: ONNX Runtime refuses it"),
        (_external, r"flow\.onnx\.data: is in the manifest but missing"),
        (_edit_spec, r"spec\.yaml: was altered"),
        (_edit_metadata, r"network: precision: expected one of 'fp32', 'fp16', 'bf16', found 'fp4'"),
        (_spoil_golden, r"golden\.npz: malformed"),
        (_add, r"notes\.txt: is not in the manifest"),
        (lambda bundle: (bundle / manifest.FILE_NAME).unlink(), "is not a finished bundle"),
        (lambda bundle: (bundle / "encode.onnx").unlink(), r"encode\.onnx: is in the manifest but missing"),
    ],
)
def test_a_damaged_bundle_is_refused_and_left_alone(
    bundle: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(bundle)
    left = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises((VlaRftError, ValueError), match=sentence) as refused:
        runtime.load(bundle, allow_unverified=True)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == left


class TestAnswers:
    def test_wrong_shapes_and_types_are_refused_in_one_sentence(self, made_bundle: Path) -> None:
        opened = open_bundle(made_bundle)
        backend, given = load_backend("onnxruntime-cpu", opened), zeros(opened)
        for wrong in ({"state": np.zeros(9, np.float32)}, {"noise": np.zeros((8, 7))}):
            with pytest.raises(BundleError, match="ONNX Runtime refuses an observation"):
                backend.infer(Inputs(**{**vars(given), **wrong}))

    def test_a_state_far_from_all_training_gets_no_chunk(self, made_bundle: Path) -> None:
        policy = runtime.load(made_bundle, allow_unverified=True)
        assert isinstance(policy, NetworkPolicy)
        state = Golden.load(made_bundle).states[0].copy()
        assert policy.outside(state)[1] == 0.0
        state[2] = 0.9
        with pytest.raises(NoChunkError, match=r"tcp\.z is 0\.9000, it was trained on 0\.00.. to 0\.28"):
            policy.decide(observation(made_bundle, state=state))
        state[2] = np.nan
        with pytest.raises(NoChunkError, match="not finite"):
            policy.decide(observation(made_bundle, state=state))

    def test_an_answer_of_nan_is_no_chunk(self, made_bundle: Path) -> None:
        policy = runtime.load(made_bundle, allow_unverified=True)
        assert isinstance(policy, NetworkPolicy)
        with pytest.raises(NoChunkError, match="answer is not finite"):
            policy.decide(observation(made_bundle), noise=np.full((8, 7), np.nan, np.float32))

    def test_hold_and_replay(self, tmp_path: Path) -> None:
        home = SetPoint(SPEC.home.T_base_tcp, SPEC.home.width)
        stand_in.make_hold(tmp_path / "hold", SPEC)
        holding = runtime.load(tmp_path / "hold")
        seen = Observation(0, {}, {}, np.zeros(10, np.float32), 0, home, "")
        chunk = holding.decide(seen).chunk
        assert len(chunk) == 8 and np.ptp(chunk.positions, axis=0).max() == 0.0

        points = [SetPoint(home.T_base_tcp.moved((0.01 * i, 0, 0), (0, 0, 0)), 0.08) for i in range(5)]
        stand_in.make_replay(tmp_path / "replay", SPEC, points, source="made up")
        replaying = runtime.load(tmp_path / "replay")
        replaying.begin(0)
        start = home.T_base_tcp.position[0]
        first = replaying.decide(seen).chunk.positions[:, 0] - start
        assert first == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.04, 0.04, 0.04])
        later = Observation(150_000_000, {}, {}, np.zeros(10, np.float32), 0, home, "")
        assert replaying.decide(later).chunk.positions[:2, 0] - start == pytest.approx([0.015, 0.025])

    def test_an_unknown_backend(self, made_bundle: Path) -> None:
        with pytest.raises(ValueError, match="'openvino': unknown; known: onnxruntime-cpu, onnxruntime-cuda, tensorrt"):
            load_backend("openvino", open_bundle(made_bundle))
        with pytest.raises(BundleError, match="this onnxruntime has no CUDAExecutionProvider"):
            load_backend("onnxruntime-cuda", open_bundle(made_bundle))


class TestCommands:
    def test_nothing_is_overwritten_and_nothing_half_made_is_left(
        self, bundle: Path, conv_checkpoint: Path, tmp_path: Path, capsys: Any
    ) -> None:
        before = open_bundle(bundle).digest
        assert export_command.main([str(conv_checkpoint), str(bundle)]) == 1
        assert "exists already and is not overwritten" in capsys.readouterr().err
        assert open_bundle(bundle).digest == before
        bad = Path(shutil.copytree(conv_checkpoint, tmp_path / "bad"))
        (bad / "model.safetensors").write_bytes(b"cut")
        assert export_command.main([str(bad), str(tmp_path / "new")]) == 1
        assert "export: " in capsys.readouterr().err
        assert not list(tmp_path.glob("*new*")) and not list(tmp_path.glob(".*"))

    def test_another_checkpoint_is_no_reference(self, made_bundle: Path) -> None:
        shipped = Path(__file__).parents[2] / "vla_rft_train" / "checkpoints" / "sim" / "policy"
        with pytest.raises(BundleError, match=r"its weights are .* was made of"):
            TorchBackend(open_bundle(made_bundle), shipped)


class TestFigures:
    def test_the_bound_on_the_loss(self) -> None:
        assert loss_bound(0, 29) == pytest.approx(1.0 - 0.05 ** (1 / 29)) and loss_bound(0, 29) < 0.10
        assert loss_bound(0, 28) > 0.10 and loss_bound(1, 29) > 0.10 and loss_bound(1, 46) < 0.10

    def test_closeness(self) -> None:
        one = np.array([3.0, 4.0], np.float32)
        assert closeness(one, one) == Closeness(cosine=pytest.approx(1.0), max_error=0.0)
        off = closeness(one + np.float32([0.0, 0.4]), one)
        assert off.max_error == pytest.approx(0.1, rel=1e-5) and off.cosine < 1.0
        nan = closeness(np.array([np.nan, 4.0], np.float32), one)
        assert not nan.within(Closeness(cosine=-1.0, max_error=1e9))
