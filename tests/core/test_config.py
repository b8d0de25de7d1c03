"""Files of a cell folder: loaded, saved, and every mistake answered with file, field and alternatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vla_rft_core import config
from vla_rft_core.calibration import Calibration
from vla_rft_core.cell import CellFolder, from_factory
from vla_rft_core.errors import SpecMismatchError
from vla_rft_core.safety_profile import Box, SafetyProfile
from vla_rft_core.spec import TOWEL_ACTION_LAYOUT, TOWEL_STATE_LAYOUT, CameraSpec, HomeSpec, RobotSpec, ToolSpec
from vla_rft_core.types import Source

SPEC = RobotSpec(
    name="towel",
    cameras=(CameraSpec(name="front", width=640, height=480, fps=15, policy_size=224),),
    tool=ToolSpec(name="closed_fingers_tcp", tcp_position=(0, 0, 0.2), tcp_quaternion=(0, 0, 0, 1.0), mass=1.1),
    home=HomeSpec(
        q=(0.0,) * 7, position=(0.6, 0.0, 0.3), quaternion=(0.0, 1.0, 0.0, 0.0), width=0.08, raise_height=0.25
    ),
    state_layout=TOWEL_STATE_LAYOUT,
    state_min_range=(0.001,) * 3 + (0.01,) * 6 + (0.001,),
    action_layout=TOWEL_ACTION_LAYOUT,
    action_min_range=(0.001,) * 3 + (0.01,) * 3 + (0.001,),
    control_period_s=0.1,
    action_horizon=8,
)

PROFILE = SafetyProfile(
    name="towel",
    workspace_low=(0.3, -0.5, 0.0),
    workspace_high=(0.9, 0.5, 0.7),
    keep_out=(Box(name="post", low=(0.3, 0.3, 0.0), high=(0.4, 0.5, 0.7)),),
    table_height=0.0,
    table_clearance=0.005,
    joint_low=(-2.7,) * 7,
    joint_high=(2.7,) * 7,
)


def write_yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], Any], of: Any = SPEC) -> Path:
    """The YAML of `of` with one change."""
    content = config.to_mapping(of)
    change(content)
    return write_yaml(path, content)


def test_a_spec_comes_back_from_its_file(tmp_path: Path) -> None:
    SPEC.save(tmp_path / "spec.yaml")
    assert RobotSpec.load(tmp_path / "spec.yaml") == SPEC
    assert (SPEC.state_dim, SPEC.action_dim, SPEC.control_period_ns) == (10, 7, 100_000_000)


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    config.save(PROFILE, tmp_path / "safety.yaml")
    assert SafetyProfile.load(tmp_path / "safety.yaml") == PROFILE


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        config.save(replace(SPEC, name=object()), tmp_path / "spec.yaml")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_saving_refuses_to_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        SPEC.save(path)
    assert path.read_text() == "precious"


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
positive = st.floats(1e-6, 1e6)


@given(
    st.lists(names, min_size=1, max_size=4, unique=True),
    st.integers(1, 10_000),
    st.lists(st.tuples(names, positive), min_size=1, max_size=8, unique_by=lambda pair: pair[0]),
    positive,
)
def test_any_spec_comes_back(cameras: list[str], pixels: int, layout: list[tuple[str, float]], period_s: float) -> None:
    spec = replace(
        SPEC,
        cameras=tuple(CameraSpec(name=n, width=pixels, height=480, fps=30, policy_size=96) for n in cameras),
        state_layout=tuple(name for name, _ in layout),
        state_min_range=tuple(smallest for _, smallest in layout),
        control_period_s=period_s,
    )
    text = yaml.safe_dump(config.to_mapping(spec), sort_keys=False)
    back = config.from_mapping(RobotSpec, yaml.safe_load(text), "spec.yaml")
    assert back == spec
    spec.require_same(back, ours="a", theirs="b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(action_horizn=8),
            "spec.yaml: unknown field 'action_horizn'; did you mean 'action_horizon'?",
        ),
        (lambda c: c.update(zzz=1), "spec.yaml: unknown field 'zzz'; known: action_horizon, action_layout, "),
        (lambda c: c.update({3: 1}), "spec.yaml: unknown field 3; known: "),
        (
            lambda c: c["cameras"][0].update(widht=1),
            "spec.yaml: cameras[0]: unknown field 'widht'; did you mean 'width'?",
        ),
        (lambda c: c["cameras"][0].update(width="640"), "spec.yaml: cameras[0]: width: expected int, found '640'"),
        (lambda c: c["cameras"][0].update(width=640.0), "spec.yaml: cameras[0]: width: expected int, found 640.0"),
        (lambda c: c["cameras"][0].update(width=True), "spec.yaml: cameras[0]: width: expected int, found True"),
        (lambda c: c["cameras"][0].update(width=None), "spec.yaml: cameras[0]: width: expected int, found None"),
        (lambda c: c["cameras"][0].update(width=0), "spec.yaml: cameras[0]: camera 'front': width, height, fps"),
        (lambda c: c["cameras"][0].pop("fps"), "spec.yaml: cameras[0]: field 'fps' is missing"),
        (lambda c: c.update(cameras={}), "spec.yaml: cameras: expected a list, found {}"),
        (
            lambda c: c.update(cameras=["front"]),
            "spec.yaml: cameras[0]: expected a mapping with the fields of CameraSpec",
        ),
        (lambda c: c.update(cameras=[]), "spec.yaml: cameras: at least one is needed"),
        (lambda c: c["cameras"].append(c["cameras"][0]), "spec.yaml: cameras: duplicate names in ['front', 'front']"),
        (lambda c: c["tool"].update(tcp_position=[0, 0]), "spec.yaml: tool: tcp_position: expected 3 values, found 2"),
        (lambda c: c["tool"].update(tcp_position=[0, "x", 0]), "tool: tcp_position[1]: expected float, found 'x'"),
        (lambda c: c["tool"].update(mass=float("nan")), "spec.yaml: tool: mass: expected a finite number, found nan"),
        (lambda c: c["tool"].update(tcp_quaternion=[0, 0, 0, 0]), "spec.yaml: tool: quaternion xyzw has norm 0"),
        (lambda c: c["home"].update(quaternion=[0, 0, 0, 0]), "spec.yaml: home: quaternion xyzw has norm 0"),
        (lambda c: c["state_layout"].append("tcp.x"), "spec.yaml: state_layout: names must be unique"),
        (lambda c: c["state_min_range"].pop(), "spec.yaml: state_min_range: has 9 values for 10 names in state_layout"),
        (lambda c: c["action_min_range"].__setitem__(2, 0.0), "spec.yaml: action_min_range: values must be positive"),
        (lambda c: c.update(control_period_s=0), "spec.yaml: control_period_s: must be positive, got 0.0"),
        (lambda c: c.update(action_horizon=0), "spec.yaml: action_horizon: must be at least 1, got 0"),
    ],
)
def test_a_mistake_in_a_spec_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    path = changed(tmp_path / "spec.yaml", change)
    with pytest.raises(ValueError) as caught:
        RobotSpec.load(path)
    assert message in str(caught.value) and str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(max_spede=1.0), "unknown field 'max_spede'; did you mean 'max_speed'?"),
        (lambda c: c.update(max_speed=-0.4), "max_speed: must be positive, got -0.4"),
        (lambda c: c.update(max_lead=float("inf")), "max_lead: expected a finite number, found inf"),
        (lambda c: c.update(table_height=float("nan")), "table_height: expected a finite number, found nan"),
        (lambda c: c.update(table_height=0.7), "workspace: its top 0.7 m is not above the table's 0.705 m"),
        (lambda c: c.update(table_clearance=-0.1), "table_clearance: must not be negative, got -0.1"),
        (lambda c: c.update(joint_margin=-1), "joint_margin: must not be negative, got -1.0"),
        (lambda c: c.update(workspace_slack=-0.01), "workspace_slack: must not be negative"),
        (lambda c: c.update(width_deadband=-0.01), "width_deadband: must not be negative"),
        (lambda c: c.update(width_rate=0), "width_rate: must be positive, got 0.0"),
        (lambda c: c.update(max_targets=0), "max_targets: must be positive, got 0"),
        (lambda c: c.update(min_width=0.2), "width: low must be below high in every component, got [0.2] and [0.1]"),
        (lambda c: c.update(workspace_low=[0.3, 0.5, 0]), "workspace: low must be below high in every component"),
        (lambda c: c.update(joint_low=[-2.7] * 6), "joints: low must be below high in every component"),
        (lambda c: c["keep_out"][0].update(low=[1, 1, 1]), "keep_out[0]: box 'post': low must be below high"),
        (lambda c: c.pop("joint_high"), "field 'joint_high' is missing"),
    ],
)
def test_a_mistake_in_a_profile_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    path = changed(tmp_path / "safety.yaml", change, of=PROFILE)
    with pytest.raises(ValueError) as caught:
        SafetyProfile.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"cameras: [", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping at the top, found list"),
        (b"", "expected a mapping at the top, found NoneType"),
        (b"\xff\xfe\xfa", "cannot be read"),
        (b"max_speed: 0.1\nmax_speed: 4.0\n", "not valid YAML (field 'max_speed' is given twice"),
        (b"!!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        RobotSpec.load(path)
    assert str(caught.value).startswith(f"{path}: {message}") and "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        config.read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(SPEC, action_horizon=10), "action_horizon: the robot has 8, the bundle has 10"),
        (replace(SPEC, control_period_s=0.05), "control_period_s: the robot has 0.1, the bundle has 0.05"),
        (
            replace(SPEC, cameras=(replace(SPEC.cameras[0], width=848),)),
            "cameras[0].width: the robot has 640, the bundle",
        ),
        (
            replace(SPEC, tool=replace(SPEC.tool, tcp_position=(0, 0, 0.18))),
            "tool.tcp_position[2]: the robot has 0.2, ",
        ),
        (
            replace(SPEC, cameras=(*SPEC.cameras, replace(SPEC.cameras[0], name="wrist"))),
            "cameras: the robot has (Camera",
        ),
        (
            replace(SPEC, state_layout=("x", *SPEC.state_layout[1:])),
            "state_layout[0]: the robot has 'tcp.x', the bundle",
        ),
    ],
)
def test_a_mismatch_names_the_field_and_both_values(other: RobotSpec, message: str) -> None:
    with pytest.raises(SpecMismatchError) as caught:
        SPEC.require_same(other, ours="the robot", theirs="the bundle")
    assert f"robot spec differs in {message}" in str(caught.value)


def test_rounding_is_no_mismatch() -> None:
    SPEC.require_same(replace(SPEC, control_period_s=0.1 + 1e-16), ours="a", theirs="b")


def test_an_unknown_camera_is_named() -> None:
    assert SPEC.camera("front").width == 640
    with pytest.raises(ValueError, match=r"no camera 'frnt' in spec 'towel'; did you mean 'front'\?"):
        SPEC.camera("frnt")


@dataclass(frozen=True)
class Nested:
    maybe: int | None = None
    numbers: tuple[float, ...] = ()


def test_optional_and_variable_length_fields() -> None:
    assert config.from_mapping(Nested, {"maybe": None, "numbers": [1, 2.5]}, "x") == Nested(None, (1.0, 2.5))
    assert config.from_mapping(Nested, {}, "x") == Nested()
    assert config.from_mapping(Nested, {"maybe": 4}, "x").maybe == 4
    with pytest.raises(ValueError, match=r"x: maybe: expected int, found 'four'"):
        config.from_mapping(Nested, {"maybe": "four"}, "x")


def cell_folder(path: Path, camera: str = "front") -> Path:
    SPEC.save(path / "spec.yaml")
    config.save(PROFILE, path / "safety.yaml")
    mount = {"name": camera, "position": [1.2, 0, 0.8], "quaternion": [0, 1, 0, 0]}
    write_yaml(path / "calibration.yaml", {"id": "cal-1", "cameras": [mount]})
    return path


def test_a_cell_folder_is_read_whole(tmp_path: Path) -> None:
    cell = CellFolder.load(cell_folder(tmp_path))
    assert (cell.spec, cell.safety, cell.calibration.id) == (SPEC, PROFILE, "cal-1")
    assert cell.calibration.cameras[0].T_base_camera.position.tolist() == [1.2, 0.0, 0.8]


def test_a_cell_folder_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no such cell folder"):
        CellFolder.load(tmp_path / "nowhere")
    cell_folder(tmp_path).joinpath("safety.yaml").unlink()
    with pytest.raises(ValueError, match=r"safety.yaml: no such file"):
        CellFolder.load(tmp_path)


def test_a_camera_without_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"calibration.yaml: camera 'front' of the spec is not calibrated"):
        CellFolder.load(cell_folder(tmp_path, camera="wrist"))


def test_a_mount_without_orientation_is_refused() -> None:
    mount = {"name": "front", "position": [0, 0, 0], "quaternion": [0, 0, 0, 0]}
    with pytest.raises(ValueError, match=r"calibration.yaml: cameras\[0\]: quaternion xyzw has norm 0"):
        config.from_mapping(Calibration, {"id": "c", "cameras": [mount]}, "calibration.yaml")


def test_factories_by_string() -> None:
    assert from_factory("fractions:Fraction", 3, 6).denominator == 2
    with pytest.raises(ValueError, match=r"'fractions' is not of the form 'package\.module:function'"):
        from_factory("fractions")
    with pytest.raises(ValueError, match=r"'fractions:nothing' cannot be loaded: .*nothing"):
        from_factory("fractions:nothing")
    with pytest.raises(ValueError, match="'no_such_module:f' cannot be loaded: No module named"):
        from_factory("no_such_module:f")


@dataclass(frozen=True)
class Mixed:
    counts: Mapping[str, int]
    anything: Mapping[str, Any]
    value: int | str | None = None


def test_mappings_and_alternatives_are_checked_too() -> None:
    mixed = Mixed({"a": 1}, {"b": [1, {"c": None}]}, "x")
    assert config.from_mapping(Mixed, config.to_mapping(mixed), "f") == mixed
    assert config.from_mapping(Mixed, {"counts": {}, "anything": {}, "value": None}, "f").value is None
    for counts, sentence in (
        ({"a": 1.5}, r"f: counts\['a'\]: expected int, found 1.5"),
        ({1: 1}, "f: counts: expected str, found 1"),
        ([], r"f: counts: expected a mapping, found \[\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            config.from_mapping(Mixed, {"counts": counts, "anything": {}}, "f")
    with pytest.raises(ValueError, match=r"f: value: expected int, found \[\]"):
        config.from_mapping(Mixed, {"counts": {}, "anything": {}, "value": []}, "f")


def test_words_of_an_enumeration_are_saved_as_text(tmp_path: Path) -> None:
    config.save(Mixed({}, {}, Source.TELEOP), tmp_path / "mixed.yaml")
    assert config.load(Mixed, tmp_path / "mixed.yaml").value == "teleop"
