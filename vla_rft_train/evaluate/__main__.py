"""`python -m vla_rft_train.evaluate <what> ...`: what a trained model is worth; `--help` after it shows its options."""

from __future__ import annotations

import importlib
import sys

from vla_rft_core.allocator import keep_memory

KINDS = {
    "world-model": "vla_rft_train.evaluate.world_model",
    "policy": "vla_rft_train.evaluate.policy",
    "actions": "vla_rft_train.evaluate.actions",
}
"""Word of the command line -> module with `main(arguments) -> exit code`."""


def main(arguments: list[str]) -> int:
    """Hand on to the module that evaluates; exit code 2 for a word that is not known."""
    if not arguments or arguments[0] not in KINDS:
        print(f"evaluate: say what to evaluate: {', '.join(KINDS)}", file=sys.stderr)
        return 2
    result: int = importlib.import_module(KINDS[arguments[0]]).main(arguments[1:])
    return result


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
