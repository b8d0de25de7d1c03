"""JSON files of a dataset, and one exporter at a time. Knows nothing of what is in them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla_rft_episodes.lerobot.layout import LerobotError


def dump_json(content: Any) -> bytes:
    """JSON for people and for hashing: the same content gives the same bytes."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping; LerobotError when it is missing or not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LerobotError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise LerobotError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise LerobotError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against another exporter; LerobotError when one is at work."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LerobotError(f"{folder}: another export is writing there") from None
    finally:
        os.close(descriptor)
