"""Lets torchvision be imported beside a CPU build of torch: its compiled operators need CUDA libraries there.

torchvision registers meta kernels for `nms` and `qnms` while it is imported, and fails when nobody has declared them;
transformers, timm and lpips fail with it. Where the compiled operators cannot be loaded, they are declared (not
implemented) just before torchvision's own first line runs. Nothing is done until somebody imports torchvision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

OPERATORS = ("nms", "qnms")
"""What torchvision 0.22 to 0.28 registers unconditionally."""


class _DeclareFirst(MetaPathFinder):
    """Steps aside once torchvision is looked for, after its operators have been loaded or declared."""

    library: object | None = None
    """Keeps the declarations alive: they end with their library."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec("torchvision")
        if spec is not None and spec.origin is not None:
            self._load_or_declare(Path(spec.origin).with_name("_C.so"))
        return None

    def _load_or_declare(self, compiled: Path) -> None:
        import torch

        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            library = torch.library.Library("torchvision", "DEF")
            for name in OPERATORS:
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _DeclareFirst.library = library


def install() -> None:
    """Be ready for torchvision's import; does nothing when it has been imported, or when this was done before."""
    if "torchvision" not in sys.modules and not any(isinstance(finder, _DeclareFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _DeclareFirst())
