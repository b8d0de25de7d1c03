"""Prompts as tokens on the robot: from the table made at export, by bytes, or by the language model's own tokenizer.

The same sentence and padding as in training (`vla_rft_train.data.prompts`); needs `tokenizers` for free prompts only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import PROMPTS, TOKENIZER, BundleError
from vla_rft_core import config

NONE, BYTES, LANGUAGE_MODEL = "none", "bytes", "language model"
PADDING = -1


@dataclass(frozen=True, kw_only=True)
class PromptTable:
    """`prompts.json`."""

    tokenizer: str
    """NONE, BYTES or LANGUAGE_MODEL."""
    length: int
    """Tokens that the network reads."""
    question: str
    """What it is asked, with {prompt} in it."""
    before: str
    """What the language model's chat template puts in front of the question."""
    after: str
    """And behind it."""
    tokens: Mapping[str, tuple[int, ...]]
    """Prompts that were tokenised at export."""

    def save(self, folder: Path) -> None:
        """Write it into a bundle that is being made."""
        (folder / PROMPTS).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> PromptTable:
        """From a bundle; ValueError in one sentence when it is malformed."""
        path = folder / PROMPTS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: malformed ({error})") from None
        return config.from_mapping(cls, content, str(path))


class Prompts:
    """prompt -> tokens, each computed once."""

    def __init__(self, folder: Path) -> None:
        self._table, self._folder = PromptTable.load(folder), folder
        self._known = {prompt: np.array(tokens, np.int64) for prompt, tokens in self._table.tokens.items()}

    def tokens(self, prompt: str) -> NDArray[np.int64]:
        """int64 [L]; BundleError names the prompts that the bundle knows when it cannot read this one."""
        if self._table.tokenizer == NONE:
            return np.zeros(0, np.int64)
        if prompt not in self._known:
            self._known[prompt] = self._padded(prompt, self._tokenize(prompt))
        return self._known[prompt]

    def _tokenize(self, prompt: str) -> list[int]:
        question = self._table.question.format(prompt=prompt.lower().rstrip("."))
        if self._table.tokenizer == BYTES:
            return list(question.encode())
        path = self._folder / TOKENIZER
        if not path.exists():
            known = ", ".join(repr(known) for known in self._known)
            raise BundleError(f"prompt {prompt!r}: {self._folder} has no tokenizer; it knows {known}")
        from tokenizers import Tokenizer

        text = f"{self._table.before}{question}{self._table.after}"
        return list(Tokenizer.from_file(str(path)).encode(text).ids)

    def _padded(self, prompt: str, tokens: list[int]) -> NDArray[np.int64]:
        length = self._table.length
        if len(tokens) > length:
            raise BundleError(f"prompt {prompt!r}: has {len(tokens)} tokens, the policy reads {length}")
        return np.array([PADDING] * (length - len(tokens)) + tokens, np.int64)
