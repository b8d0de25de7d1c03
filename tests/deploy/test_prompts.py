"""Prompts on the robot are the tokens of training: from the table, by bytes, or by a language model's own tokenizer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bundle import TOKENIZER, BundleError
from deploy.prompt_export import prompt_table
from deploy.runtime.prompts import Prompts
from vla_rft_train.data import prompts as training

TEMPLATE = (
    "{% for message in messages %}<s> {{ message['role'] }} {{ message['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer with a chat template, as a language model's is."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = [*"?<>/.", "user", "assistant", "s", *training.QUESTION.replace("{prompt}?", "fold hang it up").split()]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(["?!", *words])}, unk_token="?!"))
    tokenizer.pre_tokenizer = Whitespace()
    folder = tmp_path_factory.mktemp("language") / "model"
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?!")
    made.chat_template = TEMPLATE
    made.save_pretrained(folder)
    return folder


def in_bundle(tokenizer: str, length: int, folder: Path) -> Prompts:
    prompt_table(tokenizer, length, ["Fold the towel."], folder).save(folder)
    return Prompts(folder)


@pytest.mark.parametrize("prompt", ["Fold the towel.", "hang it up", "hang the robot"])
def test_a_language_models_tokens_are_those_of_training(language_model: Path, tmp_path: Path, prompt: str) -> None:
    found = in_bundle(str(language_model), 32, tmp_path).tokens(prompt)
    wanted = training.tokenizer_of(str(language_model), length=32)(prompt)
    assert found.tolist() == wanted.tolist() and found[0] == -1 and len(set(found.tolist())) > 8


def test_without_the_tokenizer_only_the_prompts_of_the_export_are_known(language_model: Path, tmp_path: Path) -> None:
    prompts = in_bundle(str(language_model), 32, tmp_path)
    (tmp_path / TOKENIZER).unlink()
    assert prompts.tokens("Fold the towel.").shape == (32,)
    with pytest.raises(BundleError, match=r"'hang it up': .* has no tokenizer; it knows 'Fold the towel\.'"):
        prompts.tokens("hang it up")


def test_bytes_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "bytes").mkdir()
    (tmp_path / "none").mkdir()
    by_bytes = in_bundle("bytes", 80, tmp_path / "bytes")
    for prompt in ("Fold the towel.", "häng es auf"):
        assert by_bytes.tokens(prompt).tolist() == training.tokenizer_of("bytes", length=80)(prompt).tolist()
    assert in_bundle("none", 0, tmp_path / "none").tokens("whatever").shape == (0,)


def test_the_robot_tokenises_without_transformers(language_model: Path, tmp_path: Path) -> None:
    in_bundle(str(language_model), 32, tmp_path)
    code = (
        "import sys, pathlib; from deploy.runtime.prompts import Prompts\n"
        "Prompts(pathlib.Path(sys.argv[1])).tokens('hang it up')\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
