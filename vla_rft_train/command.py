"""What the training scripts share: presets and overrides on the command line, one sentence for a mistake."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
import tyro
from torch import nn

from vla_rft_core.allocator import keep_memory
from vla_rft_core.errors import VlaRftError

T = TypeVar("T", bound=Any)
"""A run's configuration: a dataclass with `loop` and `data`."""


def run(preset_of: Callable[[str], T], train: Callable[[T, Path], Path], description: str) -> None:
    """Entry point `python -m ... PRESET --out DIR [--loop.steps N ...]`: train and print the checkpoint's folder.

    `PRESET --help` shows every field with its value in that preset.
    """

    def train_and_print(config: T, known: argparse.Namespace) -> int:
        print(train(config, known.out))
        return 0

    study(preset_of, train_and_print, lambda parser: None, description)


def study(
    preset_of: Callable[[str], T],
    work: Callable[[T, argparse.Namespace], int],
    add_options: Callable[[argparse.ArgumentParser], None],
    description: str,
) -> None:
    """Entry point of what takes a preset and options of its own beside the preset's fields; exits with work's code."""
    keep_memory()
    parser = argparse.ArgumentParser(description=description, add_help=False, epilog="PRESET --help lists all options")
    parser.add_argument("preset", metavar="PRESET")
    parser.add_argument("--out", type=Path, required=not {"-h", "--help"} & set(sys.argv), help="run folder")
    add_options(parser)
    known, overrides = parser.parse_known_args()
    try:
        preset = preset_of(known.preset)
        config = tyro.cli(type(preset), default=preset, args=overrides, description=description)
        sys.exit(work(config, known))
    except (ValueError, VlaRftError) as error:
        _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        loop = config.loop
        _refuse(
            f"preset {known.preset}: out of memory with {loop.batch // loop.accumulate} samples at a time; the same "
            f"step in smaller parts: --loop.accumulate {2 * loop.accumulate}, or fewer frames kept: --data.cache-gb 0.5"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory is used up, on the GPU or on the CPU (torch's allocator has no type of its own)."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _refuse(sentence: str) -> NoReturn:
    script = Path(sys.argv[0])
    print(f"{script.parent.name if script.stem == '__main__' else script.stem}: {sentence}", file=sys.stderr)
    sys.exit(1)


def announce(name: str, model: nn.Module, sizes: str) -> None:
    """Say how large what is about to be trained is."""
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{name}: {count / 1e6:.1f} M parameters, {sizes}", file=sys.stderr)


def git_revision() -> str:
    """The revision of the code that trains, "+" when it was changed; "unknown" outside a repository."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
