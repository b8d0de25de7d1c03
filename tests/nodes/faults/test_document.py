"""The second table of `docs/faults.md` has every row, as it is tested, with figures that keep its limits."""

from __future__ import annotations

import re

import pytest
from fault_rows import ROWS, TABLE, GraphRow
from fault_tables import DOCUMENT, rows_of, table_of

NOT_RUN = "not run: "


@pytest.mark.parametrize("row", [pytest.param(row, id=row.fault) for row in ROWS])
def test_the_document_has_every_row_with_its_end_state_and_limit(row: GraphRow) -> None:
    _, end, limit, found, rest, disk, told, way_out = rows_of(table_of(DOCUMENT.read_text(), TABLE))[row.fault]
    assert (end, limit, way_out) == (row.end, f"{row.limit_s:g} s", row.way_out)
    if found.startswith(NOT_RUN):
        assert len(found) > len(NOT_RUN)
        return
    measured = re.fullmatch(r"([\d.]+) s \(\d{4}-\d\d-\d\d\)", found)
    assert measured, found
    assert float(measured[1]) <= row.limit_s
    assert rest == "goes on" or re.fullmatch(r"[\d.]+ s", rest)
    assert re.search(row.disk, disk), disk
    assert re.search(row.word, told), told


def test_the_document_has_no_row_that_is_not_tested() -> None:
    assert list(rows_of(table_of(DOCUMENT.read_text(), TABLE))) == [row.fault for row in ROWS]
    assert len({row.fault for row in ROWS}) == len(ROWS) >= 40
