"""The clients' tokens: which are valid, and that no error or object reveals one."""

from __future__ import annotations

import hmac
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuous_training.errors import UserError
from continuous_training.serving.http.tokens import Tokens

ALICE, BOB = "alices-token-0123456789", "bobs-token-0123456789"
BOTH = f"alice:{ALICE},bob:{BOB}"

names = st.text(f"{ascii_letters}{digits}._-", min_size=1, max_size=15)
token_values = st.builds(
    "{}{}".format,
    st.text(f"{ascii_letters}{digits}._~+/-", min_size=16, max_size=60),
    st.sampled_from(["", "=", "=="]),
)
clients = st.lists(
    st.tuples(names, token_values), min_size=1, max_size=5, unique_by=(lambda pair: pair[0], lambda pair: pair[1])
)

MISTAKES: list[Callable[[list[tuple[str, str]]], list[tuple[str, str]]]] = [
    lambda pairs: [(token, name) for name, token in pairs],
    lambda pairs: [("", token) for _, token in pairs],
    lambda pairs: [(name, f"{token}:") for name, token in pairs],
    lambda pairs: [(name, f"{token}é") for name, token in pairs],
    lambda pairs: [*pairs, ("again", pairs[0][1])],
    lambda pairs: [*pairs, pairs[0]],
]


def to_text(pairs: list[tuple[str, str]]) -> str:
    return ",".join(f"{name}:{token}" for name, token in pairs)


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


class TestTokens:
    def test_without_the_variable_there_are_no_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SERVING_TOKENS", raising=False)
        assert Tokens.from_environment() == Tokens()
        monkeypatch.setenv("SERVING_TOKENS", "")
        assert Tokens.from_environment() == Tokens()

    def test_they_are_read_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SERVING_TOKENS", f" alice:{ALICE},\n bob:{BOB}\n")
        assert Tokens.from_environment().names == ("alice", "bob")

    @given(pairs=clients, other=token_values)
    def test_each_token_belongs_to_its_client_and_others_to_none(
        self, pairs: list[tuple[str, str]], other: str
    ) -> None:
        tokens = Tokens.parse(to_text(pairs))
        assert [tokens.find_client(bearer(token)) for _, token in pairs] == [name for name, _ in pairs]
        if other not in dict(pairs).values():
            assert tokens.find_client(bearer(other)) is None

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            (None, None),
            (b"", None),
            (b"Bearer", None),
            (b"Bearer ", None),
            (ALICE.encode(), None),
            (b"Basic " + ALICE.encode(), None),
            (b"Bearer " + ALICE.encode() + b"x", None),
            (b"Bearer " + ALICE.encode()[:-1], None),
            (b"Bearer \xff\x00" + ALICE.encode(), None),
            (b"bearer " + ALICE.encode(), "alice"),
            (b"BEARER   " + BOB.encode() + b" ", "bob"),
        ],
    )
    def test_a_header_must_be_a_valid_bearer_token(self, header: bytes | None, name: str | None) -> None:
        assert Tokens.parse(BOTH).find_client(header) == name

    @pytest.mark.parametrize("token", [ALICE, "carols-token-0123456789", BOB])
    def test_every_digest_is_compared_for_every_client(self, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
        tokens = Tokens.parse(f"{BOTH},dave:daves-token-0123456789")
        compare, digests = hmac.compare_digest, []
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b: digests.append(a) or compare(a, b))
        tokens.find_client(bearer(token))
        assert digests == list(tokens.digests)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (ALICE, "entry 1 of SERVING_TOKENS has no name"),
            (f":{ALICE}", "entry 1 of SERVING_TOKENS has no name"),
            (f"alice:{ALICE},", "entry 2 of SERVING_TOKENS has no name"),
            (" ", "entry 1 of SERVING_TOKENS has no name"),
            (f"a lice:{ALICE}", "entry 1 of SERVING_TOKENS has no name of letters, digits"),
            (f"alice:{ALICE},bob:", "entry 2 of SERVING_TOKENS has a token shorter than 16 characters"),
            ("alice:only-15-letters", "entry 1 of SERVING_TOKENS has a token shorter than 16 characters"),
            (f"alice:{ALICE}:more", "entry 1 of SERVING_TOKENS has a token with characters other than"),
            (f"alice:{ALICE}é", "entry 1 of SERVING_TOKENS has a token with characters other than"),
            (f"alice:{ALICE} {BOB}", "entry 1 of SERVING_TOKENS has a token with characters other than"),
            (f"{BOTH},alice:carols-token-0123456789", "entry 3 of SERVING_TOKENS has the same name as entry 1"),
            (f"{BOTH},carol:{BOB}", "entry 3 of SERVING_TOKENS has the same token as entry 2"),
        ],
    )
    def test_an_error_has_the_position_of_the_entry(self, text: str, message: str) -> None:
        with pytest.raises(UserError, match=re.escape(message)):
            Tokens.parse(text)

    @given(text=st.text() | st.lists(st.text(":,aA1é\ud800 ")).map("token-".join))
    def test_any_text_is_parsed_or_an_error(self, text: str) -> None:
        with suppress(UserError):
            Tokens.parse(text)

    @given(pairs=clients, mistake=st.sampled_from(MISTAKES))
    def test_no_error_contains_a_token(
        self, pairs: list[tuple[str, str]], mistake: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    ) -> None:
        with pytest.raises(UserError) as error:
            Tokens.parse(to_text(mistake(pairs)))
        message = "".join(traceback.format_exception(error.value))
        assert not [token for _, token in pairs if token in message]

    @given(pairs=clients)
    def test_no_token_is_stored(self, pairs: list[tuple[str, str]]) -> None:
        tokens = Tokens.parse(to_text(pairs))
        text = f"{tokens!r} {vars(tokens)}"
        assert not [token for _, token in pairs if token in text]
