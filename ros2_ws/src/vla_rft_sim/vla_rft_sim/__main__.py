"""`python -m vla_rft_sim <command>`: measure the simulated cell."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from vla_rft_core.errors import VlaRftError


def _cloth(text: str) -> tuple[int, int]:
    try:
        along, across = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 11x8, got {text!r}") from None
    return along, across


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vla_rft_sim", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    benchmark = commands.add_parser("benchmark", help="let the expert fold over many placements; speed and success")
    benchmark.add_argument("--seeds", type=int, default=50, help="how many placements")
    benchmark.add_argument("--first-seed", type=int, default=0, help="the first placement's seed")
    benchmark.add_argument("--cloth", type=_cloth, default=(11, 8), metavar="11x8", help="vertices of the towel")
    benchmark.add_argument("--json", action="store_true", help="print one JSON line instead of sentences")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = _parser().parse_args(argv)
    from vla_rft_sim import benchmark  # MuJoCo is slow to import, and --help needs none
    from vla_rft_sim.world import TowelWorldConfig

    try:
        config = TowelWorldConfig(cloth=arguments.cloth)
        result = benchmark.run(arguments.seeds, config, first_seed=arguments.first_seed)
    except (ValueError, VlaRftError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    print(json.dumps(benchmark.as_json(result)) if arguments.json else benchmark.describe(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
