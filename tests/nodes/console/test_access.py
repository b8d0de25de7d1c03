"""Who may look, and who may say what: addresses, hosts, origins, tokens, the lease."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from vla_rft_nodes.console.access import NEEDS, Need, Peer, Token, refusal


@pytest.mark.parametrize(
    ("address", "headers", "loopback", "ours"),
    [
        ("127.0.0.1", {"host": "localhost:8080", "origin": "http://localhost:8080"}, True, True),
        ("::1", {"host": "[::1]:8080"}, True, True),
        ("127.0.0.1", {"host": "127.0.0.1"}, True, True),
        ("192.168.2.7", {"host": "localhost:8080"}, False, True),  # who claims the name from elsewhere
        ("192.168.2.7", {"host": "cell:8080", "origin": "http://cell:8080"}, False, True),
        ("127.0.0.1", {"host": "evil.example:8080", "origin": "http://evil.example:8080"}, False, True),  # rebinding
        ("127.0.0.1", {"host": "localhost:8080", "origin": "http://evil.example"}, True, False),  # another site's page
        ("127.0.0.1", {"host": "localhost:8080", "origin": "null"}, True, False),
        ("127.0.0.1", {"host": "localhost:8080", "x-forwarded-for": "10.0.0.9"}, False, True),  # through a proxy
        ("", {"host": "localhost:8080"}, False, True),
    ],
)
def test_where_a_page_is(address: str, headers: dict[str, str], loopback: bool, ours: bool) -> None:
    assert Peer.of(address, headers) == Peer(loopback=loopback, origin_is_ours=ours)


def test_hold_needs_nothing_and_everything_that_moves_needs_the_lease() -> None:
    assert refusal("hold", loopback=False, has_lease=False, holder="ada") == ""
    for word in ("ready", "home", "session", "key", "trials", "judge", "rearm"):
        assert Need.LEASE in NEEDS[word]
        assert "ada has control" in refusal(word, loopback=True, has_lease=False, holder="ada")
        assert "nobody has control" in refusal(word, loopback=True, has_lease=False, holder="")
        assert refusal(word, loopback=True, has_lease=True, holder="ada") == ""


def test_rearming_and_taking_over_are_done_at_the_cell() -> None:
    for word in ("rearm", "take over"):
        assert "at the cell" in refusal(word, loopback=False, has_lease=True, holder="ada")
    assert "there is no 'format disk'" in refusal("format disk", loopback=True, has_lease=True, holder="ada")


def test_a_token_is_made_for_its_owner_alone_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = Token.from_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = path.read_text().strip()
    assert len(secret) >= 40 and Token.from_file(path).fits(secret)
    assert token.fits(secret)
    for wrong in ("", secret[:-1], secret + "x", None, 7, ["x"], "ä"):
        assert not token.fits(wrong)


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    Token.from_file(path)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="others may read this token \\(mode 640\\)"):
        Token.from_file(path)
    path.write_text("short\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="holds 5 characters"):
        Token.from_file(path)
    with pytest.raises(ValueError, match="cannot hold a token"):
        Token.from_file(tmp_path / "nowhere" / "token")
