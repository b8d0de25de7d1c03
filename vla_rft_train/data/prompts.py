"""Prompts as tokens: by a language model's own tokenizer, by bytes where there is no language model, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NONE, BYTES = "none", "bytes"
PADDING = -1
Tokenize = Callable[[str], Tensor]
"""prompt -> int64 [L]."""

QUESTION = "What action should the robot take to {prompt}?"
"""What a language model is asked; the prompt in lower case."""


def tokenizer_of(name: str, *, length: int = 0) -> Tokenize:
    """ "none": no tokens. "bytes": UTF-8. Else the hub id or folder of a language model. Padded or cut to `length`."""
    if name == NONE:
        return lambda prompt: torch.zeros(0, dtype=torch.int64)
    if name == BYTES:
        return lambda prompt: _to_length(list(question(prompt).encode()), length)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except OSError as error:
        raise ValueError(f"tokenizer {name!r}: {str(error).splitlines()[0]}") from None

    def tokenize(prompt: str) -> Tensor:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question(prompt)}], tokenize=False, add_generation_prompt=True
        )
        return _to_length(tokenizer(text)["input_ids"], length)

    return tokenize


def question(prompt: str) -> str:
    """The whole sentence put to a language model."""
    return QUESTION.format(prompt=prompt.lower().rstrip("."))


def _to_length(tokens: list[int], length: int) -> Tensor:
    """Padding (-1) goes in front."""
    if len(tokens) > length:
        raise ValueError(f"the prompt has {len(tokens)} tokens, the policy reads {length}; raise prompt_length")
    return torch.tensor([PADDING] * (length - len(tokens)) + tokens, dtype=torch.int64)
