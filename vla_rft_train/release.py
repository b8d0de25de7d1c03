"""`python -m vla_rft_train.release RUN OUT [--half]`: a finished model without what only its training needs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vla_rft_core.errors import VlaRftError
from vla_rft_train.loop import checkpoint


def main() -> int:
    """Exit code 1 with one sentence when there is nothing to release, or the target is there already."""
    parser = argparse.ArgumentParser(prog="python -m vla_rft_train.release", description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder (its newest checkpoint) or one checkpoint")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--half", action="store_true", help="store weights as float16")
    arguments = parser.parse_args()
    try:
        print(checkpoint.release(checkpoint.newest(arguments.run) or arguments.run, arguments.out, half=arguments.half))
    except (ValueError, VlaRftError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
