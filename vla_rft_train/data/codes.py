"""Windows as the codes of a frozen tokenizer, encoded once: the world model's training need not encode them again."""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vla_rft_train.data.looks import another_look
from vla_rft_train.data.windows import Windows
from vla_rft_train.models.tokenizer import CompressiveTokenizer


class CodedWindows(Dataset[dict[str, Tensor]]):
    """Every window of `windows` in their order, then `copies` times all of them with other looks. Without frames.

    Item: context_codes int64 [Kc], codes int64 [1 + T, Kd], and of the window actions and state.
    """

    def __init__(
        self, windows: Windows, tokenizer: CompressiveTokenizer, *, copies: int = 0, seed: int = 0, batch: int = 16
    ) -> None:
        device = next(tokenizer.parameters()).device
        parts: list[dict[str, Tensor]] = []
        starts = [(copy, start) for copy in range(1 + copies) for start in range(0, len(windows), batch)]
        for copy, start in tqdm(starts, "encoding windows", unit="batch", file=sys.stderr, disable=len(starts) < 4):
            items = [windows[i] for i in range(start, min(start + batch, len(windows)))]
            if copy:
                for place, item in enumerate(items):
                    item["frames"] = another_look(item["frames"], seed=(seed, copy, start + place))
            whole = torch.utils.data.default_collate(items)
            context_codes, codes = tokenizer.codes_of(whole["frames"].to(device).float() / 255.0)
            # int16 holds every code: 4375 in the paper's quantisers
            coded = {"context_codes": context_codes.to("cpu", torch.int16), "codes": codes.to("cpu", torch.int16)}
            parts.append(coded | {"actions": whole["actions"], "state": whole["state"]})
        self._columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def __len__(self) -> int:
        return len(self._columns["codes"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = {name: column[index] for name, column in self._columns.items()}
        return item | {name: item[name].long() for name in ("context_codes", "codes")}
