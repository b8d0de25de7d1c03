"""The prompts of a bundle, tokenised as in training, and what a robot needs to tokenise others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.bundle import TOKENIZER
from deploy.runtime.prompts import BYTES, LANGUAGE_MODEL, NONE, PromptTable
from vla_rft_train.data import prompts as training

MARK = "\x00prompt\x00"
"""Stands for the question while the chat template is taken apart."""


def prompt_table(tokenizer: str, length: int, prompts: Sequence[str], folder: Path) -> PromptTable:
    """The table for a bundle; a language model's tokenizer goes into `folder`. ValueError when it is not here."""
    tokenize = training.tokenizer_of(tokenizer, length=length)
    kind = tokenizer if tokenizer in (NONE, BYTES) else LANGUAGE_MODEL
    before, after = _template(tokenizer, folder) if kind == LANGUAGE_MODEL else ("", "")
    return PromptTable(
        tokenizer=kind,
        length=length,
        question=training.QUESTION,
        before=before,
        after=after,
        tokens={prompt: tuple(tokenize(prompt).tolist()) for prompt in prompts},
    )


def _template(name: str, folder: Path) -> tuple[str, str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": MARK}], tokenize=False, add_generation_prompt=True
    )
    before, found, after = text.partition(MARK)
    if not found:
        raise ValueError(f"tokenizer {name!r}: its chat template does not keep the question as it is")
    return before, after
