"""Launch files into process lists: syntax, scoping, parameter types, refusals. Starts no process."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from vla_rft_nodes.bringup import LaunchError, Plan, find, load, show
from vla_rft_nodes.bringup.__main__ import main, parse_arguments
from vla_rft_nodes.bringup.template import Scope, evaluate, expand, parse_template


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ament prefix with the package `cell` (executables robot, camera) and a bringup package for launch files."""
    root = tmp_path / "prefix"
    index = root / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    for package in ("cell", find.BRINGUP_PACKAGE):
        (index / package).touch()
    (root / f"share/{find.BRINGUP_PACKAGE}/launch").mkdir(parents=True)
    (root / "lib/cell").mkdir(parents=True)
    for name in ("robot", "camera"):
        (root / "lib/cell" / name).write_text("#!/bin/sh\n")
        (root / "lib/cell" / name).chmod(0o755)
    (root / "lib/cell/notes").touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(root))
    return root


def write(prefix: Path, name: str, text: str) -> Path:
    path = prefix / f"share/{find.BRINGUP_PACKAGE}/launch/{name}.launch.yaml"
    path.write_text("launch:\n" + dedent(text))
    return path


def plan_of(prefix: Path, text: str, **arguments: str) -> Plan:
    write(prefix, "sample", text)
    return load("sample", arguments)


def words(prefix: Path, text: str, **arguments: str) -> list[str]:
    """The words after the program of the only process."""
    (process,) = plan_of(prefix, text, **arguments).processes
    return list(process.argv[1:])


# --- substitutions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a$(var x)b$(var y)", "a1b2 3"),
        ("$(var missing fallback)", "fallback"),
        ("$(var missing $(var x))", "1"),
        ("$(var missing 'two words')", "two words"),
        ("$(env HOME_OF_NOBODY /x)/y", "/x/y"),
        ("$(env SET)", "from environment"),
        ("$(dirname)/params", "/cell/launch/params"),
        (r"\$(var x) costs 5$", "$(var x) costs 5$"),
        ("""$(eval "'$(var x)' == '1'")""", "True"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    scope = Scope(Path("/cell/launch/a.launch.yaml"), {"x": "1", "y": "2 3"}, {"SET": "from environment"})
    assert expand(parse_template(text), scope) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$(vra x)", r"unknown substitution '\$\(vra ...\)'; did you mean 'var'\? known: dirname, env, eval"),
        ("$(var x", r"not closed with '\)'"),
        ("$(var)", "takes 1 or 2 argument"),
        ("$(var  x)", "separated by exactly one space"),
        ("$(eval $(var x) == 1)", "put the expression in double quotes"),
        ("$( x)", "without a name"),
        ("$(var 'x)", "quote is not closed"),
    ],
)
def test_bad_substitutions_are_named(text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        parse_template(text)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'sim' == 'sim'", True),
        ("'sim' != 'sim'", False),
        ("not 'sim' == 'flexiv' and 2 == 2.0", True),
        ("'a' in ['a', 'b'] or 'never'", True),
        ("'a' not in ('a', 'b')", False),
        ("'' or 'default'", "default"),
        ("True", True),
    ],
)
def test_eval_compares_literals(expression: str, expected: object) -> None:
    assert evaluate(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "__import__('os').getpid()",
        "'a'.upper()",
        "1 if 1 else 2",
        "1 + 1",
        "[x for x in 'ab']",
        "",
        "1 <",
        "1 in 2",
    ],
)
def test_eval_refuses_everything_else(expression: str) -> None:
    with pytest.raises(LaunchError, match="cannot evaluate"):
        evaluate(expression)


# --- processes -------------------------------------------------------------------------------------------------


def test_node_becomes_a_ros_command_line(prefix: Path) -> None:
    params = prefix / "params.yaml"
    params.write_text("/**: {ros__parameters: {rate: 5.0}}")
    plan = plan_of(
        prefix,
        f"""
        - arg: {{name: trials, default: "3"}}
        - node:
            pkg: cell
            exec: robot
            name: robot_node
            namespace: left
            args: --fast "two words" $(var trials)
            param:
            - {{from: {params}}}
            - {{name: trials, value: $(var trials)}}
            remap: [{{from: a, to: b}}]
            env: [{{name: SEED, value: "1"}}]
            on_exit: shutdown
            output: screen
        """,
    )
    (robot,) = plan.processes
    assert robot.argv == (
        *(str(prefix / "lib/cell/robot"), "--fast", "two words", "3", "--ros-args", "-r", "__node:=robot_node"),
        *("-r", "__ns:=/left", "--params-file", str(params), "-p", "trials:=3", "-r", "a:=b"),
    )
    assert (robot.name, robot.env, robot.required, robot.output) == ("robot_node", {"SEED": "1"}, True, "screen")


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("value: 3", "3"),
        ("value: 3.0", "3.0"),
        ("value: true", "true"),
        ('value: "3"', '"3"'),
        ("value: $(var x)", "3"),
        ("value: $(var x), type: str", '"3"'),
        ("value: $(var x), type: float", "3.0"),
        ("value: $(var one), type: bool", "true"),
        ("value: n$(var x)", '"n3"'),
        ("value: $(var empty)", '""'),
        ("value: $(var list)", "[1, 2]"),
        ("value: [a, $(var prompt)]", '["a", "fold it"]'),
        ("value: [1.0, .inf]", "[1.0, .inf]"),
    ],
)
def test_parameter_types_follow_upstream(prefix: Path, param: str, expected: str) -> None:
    arguments = {"x": "3", "one": "1", "empty": "", "list": "[1, 2]", "prompt": "fold it"}
    lines = [f"- arg: {{name: {name}, default: '{value}'}}" for name, value in arguments.items()]
    lines.append(f"- node: {{pkg: cell, exec: robot, param: [{{name: p, {param}}}]}}")
    assert words(prefix, "\n".join(lines)) == ["--ros-args", "-p", f"p:={expected}"]


def test_executable_splits_words_but_never_a_substitution(prefix: Path) -> None:
    text = """
    - arg: {name: prompt, default: fold it}
    - executable: {cmd: sim_world "a b" $(var prompt) x$(var prompt)y, name: world}
    """
    assert words(prefix, text) == ["a b", "fold it", "xfold ity"]


def test_processes_of_one_name_are_told_apart(prefix: Path) -> None:
    plan = plan_of(prefix, "- executable: {cmd: /bin/true}\n- executable: {cmd: /bin/true}\n")
    assert [process.name for process in plan.processes] == ["true", "true-2"]


# --- conditions and scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "expected"), [("sim", ["world", "robot"]), ("flexiv", ["robot"])])
def test_conditions(prefix: Path, backend: str, expected: list[str]) -> None:
    text = """
    - arg: {name: backend, default: sim, choice: [{value: sim}, {value: flexiv}]}
    - executable: {cmd: sim_world, name: world, if: $(eval "'$(var backend)' == 'sim'")}
    - node: {pkg: cell, exec: robot, unless: "0"}
    - node: {pkg: cell, exec: camera, unless: "TRUE"}
    """
    assert [process.name for process in plan_of(prefix, text, backend=backend).processes] == expected


def test_an_include_sees_and_keeps_what_is_set(prefix: Path) -> None:
    """As upstream: no scope of its own, an argument set outside wins over the default inside, `$(dirname)` returns."""
    elsewhere = prefix / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "inner.launch.yaml").write_text(
        dedent("""
        launch:
        - arg: {name: backend, default: sim}
        - arg: {name: extra, default: none}
        - let: {name: made_inside, value: $(var extra)}
        - executable: {cmd: inner $(var backend) $(dirname)}
        """)
    )
    plan = plan_of(
        prefix,
        f"""
        - arg: {{name: backend, default: flexiv}}
        - include:
            file: {elsewhere}/inner.launch.yaml
            arg: [{{name: extra, value: "for $(var backend)"}}]
        - executable: {{cmd: outer $(var made_inside) $(dirname)}}
        """,
    )
    launch = str(prefix / f"share/{find.BRINGUP_PACKAGE}/launch")
    assert [process.argv for process in plan.processes] == [
        ("inner", "flexiv", str(elsewhere)),
        ("outer", "for flexiv", launch),
    ]


def test_a_group_forgets_unless_it_is_not_scoped(prefix: Path) -> None:
    text = """
    - let: {name: x, value: before}
    - group:
      - let: {name: x, value: inside}
      - executable: {cmd: a $(var x)}
    - executable: {cmd: b $(var x)}
    - group: {scoped: false, children: [{let: {name: x, value: kept}}]}
    - executable: {cmd: c $(var x)}
    - group: {if: "false", children: [{executable: {cmd: d}}]}
    """
    assert [p.argv for p in plan_of(prefix, text).processes] == [("a", "inside"), ("b", "before"), ("c", "kept")]


def test_arguments_of_included_files_can_be_given(prefix: Path) -> None:
    write(prefix, "robot", "- arg: {name: seed, default: '0'}\n- executable: {cmd: robot $(var seed)}\n")
    text = f"- include: {{file: $(find-pkg-share {find.BRINGUP_PACKAGE})/launch/robot.launch.yaml}}"
    assert words(prefix, text, seed="7") == ["7"]


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- nod: {pkg: cell, exec: robot}", r"launch\[0\]: unknown action 'nod'; did you mean 'node'\?"),
        ("- node: {pkg: cell, exec: robot, parm: []}", r"node: unknown key 'parm'; did you mean 'param'\?"),
        ("- node: {pkg: cell, exec: robot, respawn: 'true'}", "unknown key 'respawn'"),
        ("- node: {pkg: cell, exec: robt}", "no executable 'robt'; did you mean 'robot'"),
        ("- node: {pkg: cell, exec: notes}", "lib/cell/notes is not executable"),
        ("- node: {pkg: cel, exec: robot}", "node 'robot': package 'cel' is in none of"),
        ("- node: {pkg: cell}", "'exec' is missing"),
        (
            "- node: {pkg: cell, exec: robot, param: [{from: /nowhere.yaml}]}",
            "parameter file /nowhere.yaml does not exist",
        ),
        ("- node: {pkg: cell, exec: robot, param: [{name: a}]}", "'value' is missing"),
        ("- node: {pkg: cell, exec: robot, param: [{name: a, value: 1, type: float}]}", "must be of type float, got 1"),
        (
            "- node: {pkg: cell, exec: robot, param: [{name: a, value: '1', type: bool}]}",
            "must be of type bool, got '1'",
        ),
        ("- node: {pkg: cell, exec: robot, param: [{name: a, value: [1, 2.0]}]}", "one type"),
        ("- node: {pkg: cell, exec: robot, on_exit: restart}", "can only be 'shutdown', got 'restart'"),
        ("- node: {pkg: cell, exec: robot, output: file}", "'output' must be one of screen, log, both, got 'file'"),
        ("- node: {pkg: cell, exec: robot, if: true}", r"'if' must be text \(put it in quotes\), got True"),
        ("- node: {pkg: cell, exec: robot, if: 'yes'}", "a condition came out as 'yes'"),
        ("- node: {pkg: cell, exec: robot, if: '1', unless: '1'}", "cannot stand together"),
        ("- arg: {name: trials, default: 3}", r"'default' must be text \(put it in quotes\), got 3"),
        (
            "- arg: {name: bundle, description: trained policy}",
            r"bundle'.*\(trained policy\) has no default; give bundle:=...",
        ),
        ("- arg: {name: a, default: c, choice: [{value: a}, {value: b}]}", "cannot be 'c'; choose from a, b"),
        ("- let: {name: a, value: $(var b)}", r"let 'a': \$\(var b\) is not set here"),
        ("- executable: {cmd: a, shell: true}", "'shell: true' is not supported"),
        ("- executable: {cmd: 'a \"$(var b) c\"'}", "are not closed before the next"),
        ("- include: {file: /nowhere.launch.yaml}", "cannot read launch file /nowhere.launch.yaml: No such file"),
        ("- include: {file: $(dirname)/sample.launch.yaml}", "includes itself"),
        ("- group: {if: '1'}", "'children' is missing"),
        ("- {}", r"launch\[0\]: expected one action, one of arg, executable"),
        ("- node: 3", "expected keys and values, got 3"),
    ],
)
def test_refusals_name_the_place_and_the_alternatives(prefix: Path, text: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        plan_of(prefix, text)


@pytest.mark.parametrize("content", ["", "launch: {}", "nodes: []", "launch: [", "\x00"])
def test_a_file_that_is_no_launch_file_is_refused(prefix: Path, content: str) -> None:
    path = write(prefix, "sample", "")
    path.write_text(content)
    with pytest.raises(LaunchError, match=r"sample\.launch\.yaml"):
        load("sample")


def test_unknown_arguments_and_files_suggest_the_known_ones(prefix: Path) -> None:
    write(prefix, "demo", "- arg: {name: trials, default: '3'}\n- arg: {name: seed, default: '0'}\n")
    with pytest.raises(LaunchError, match=r"'trial' for demo.launch.yaml; did you mean 'trials'\? known: seed, trials"):
        load("demo", {"trial": "1"})
    with pytest.raises(LaunchError, match=r"no launch file 'dmo' in .*; did you mean 'demo'\? known: demo"):
        load("dmo")


@pytest.mark.parametrize("word", ["trials=3", ":=3", "trials:=", "trials"])
def test_malformed_arguments_are_refused(word: str) -> None:
    with pytest.raises(LaunchError, match="malformed launch argument"):
        parse_arguments([word])


# --- command line --------------------------------------------------------------------------------------------------

DEMO = """
- arg: {name: backend, default: sim, description: Which devices, choice: [{value: sim}, {value: flexiv}]}
- arg: {name: bundle}
- executable: {cmd: sim_world, name: world, if: $(eval "'$(var backend)' == 'sim'"), on_exit: shutdown}
- node: {pkg: cell, exec: robot, name: robot_node, param: [{name: seed, value: 1}]}
"""


def test_lists_show_files_arguments_and_processes(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(prefix, "demo", DEMO)
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["demo", "world,", "robot_node", "backend:=", "bundle:="]
    assert main(["demo", "--list"]) == 0
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["backend", "sim", "Which devices. Valid choices are: ['sim', 'flexiv']"] in cells
    assert ["bundle", "(must be given)", "no description given"] in cells
    assert ["world", "sim_world", "if $(eval \"'$(var backend)' == 'sim'\")", "yes"] in cells
    assert ["robot_node", "cell/robot", "always", "no"] in cells
    assert show.arguments_text(path).splitlines()[1:6] == [
        "",
        "    'backend':",
        "        Which devices. Valid choices are: ['sim', 'flexiv']",
        "        (default: 'sim')",
        "",
    ]


def test_dry_run_prints_commands_that_a_shell_understands(prefix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(prefix, "demo", DEMO)
    assert main(["demo", "--dry-run", "backend:=flexiv", "bundle:=x"]) == 0
    command = f"{prefix}/lib/cell/robot --ros-args -r __node:=robot_node -p seed:=1"
    assert capsys.readouterr().out.splitlines() == ["# robot_node", command]


@pytest.mark.parametrize("words", [["demo"], ["demo", "bundel:=x"], ["nothing"], [], ["demo", "bundle"]])
def test_mistakes_are_one_sentence_and_exit_code_2(
    prefix: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(prefix, "demo", DEMO)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("bringup: ") and error.count("\n") == 1


def test_without_the_installed_package_the_source_tree_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "launch").mkdir(parents=True)
    (tree / "launch/demo.launch.yaml").write_text(
        f"launch:\n- executable: {{cmd: a $(find-pkg-share {find.BRINGUP_PACKAGE})/launch}}\n"
    )
    monkeypatch.setattr(find, "prefixes", lambda: [tmp_path / "empty"])
    monkeypatch.setattr(find, "__file__", str(tree / "ros2_ws/src/vla_rft_nodes/vla_rft_nodes/bringup/find.py"))
    assert load("demo").processes[0].argv == ("a", str(tree / "launch"))
    monkeypatch.setattr(find, "__file__", str(tmp_path / "site-packages/find.py"))
    with pytest.raises(LaunchError, match=f"package '{find.BRINGUP_PACKAGE}' is in none of {tmp_path}/empty"):
        load("demo")


def test_a_launch_file_that_is_not_installed_yet_is_explained(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = prefix / "tree"
    (tree / "launch").mkdir(parents=True)
    (tree / "launch/new.launch.yaml").touch()
    monkeypatch.setattr(find, "__file__", str(tree / "x/find.py"))
    with pytest.raises(LaunchError, match=r"'new' is in .*tree/launch but not installed: build the workspace"):
        load("new")
