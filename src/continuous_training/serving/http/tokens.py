"""The tokens of the server's clients.

SERVING_TOKENS has their names and tokens, `name:token,other:token`; without it the server accepts every request. Only
the digest of a token is kept in memory, and an error message has the position of an entry and nothing of its content,
so that no log, exception or repr() can reveal a token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field

from continuous_training.errors import UserError

VARIABLE = "SERVING_TOKENS"
MIN_LENGTH = 16  # characters of a token
NAME = re.compile(r"[A-Za-z0-9._-]+")  # safe in a log and in a metric's label
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # a bearer token by RFC 6750


@dataclass(frozen=True)
class Tokens:
    """The clients' names and the SHA-256 digests of their tokens, in the same order; never the tokens themselves."""

    names: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def from_environment(cls) -> Tokens:
        """Read SERVING_TOKENS; if it is absent or empty, there are no tokens.

        Raises:
            UserError: it is malformed.
        """
        return cls.parse(os.environ.get(VARIABLE, ""))

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """Parse names and tokens, `name:token,other:token`.

        Raises:
            UserError: an entry has no name or no valid token, or two entries share one. The message has only the
                entry's position: if name and token are swapped, the token is where the name should be.
        """
        names: list[str] = []
        digests: list[bytes] = []
        for position, entry in enumerate(text.split(",") if text else [], start=1):
            name, colon, token = entry.strip().partition(":")
            where = f"entry {position} of {VARIABLE}"
            if not colon or not NAME.fullmatch(name):
                raise UserError(f"{where} has no name of letters, digits and ._-: write name:token,other:token")
            if len(token) < MIN_LENGTH:
                make = 'make one with: python -c "import secrets; print(secrets.token_urlsafe())"'
                raise UserError(f"{where} has a token shorter than {MIN_LENGTH} characters: {make}")
            if not TOKEN.fullmatch(token):
                raise UserError(
                    f"{where} has a token with characters other than letters, digits and -._~+/, or = before its end"
                )
            digest = hashlib.sha256(token.encode()).digest()
            if name in names:
                raise UserError(f"{where} has the same name as entry {names.index(name) + 1}: use a different name")
            if digest in digests:
                raise UserError(f"{where} has the same token as entry {digests.index(digest) + 1}: make another token")
            names.append(name)
            digests.append(digest)
        return cls(tuple(names), tuple(digests))

    def find_client(self, authorization: bytes | None) -> str | None:
        """Return the name of the client whose token an Authorization header has, if any.

        Every digest is compared, each in constant time, so that the duration reveals nothing about any token.
        """
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        received = hashlib.sha256(token.strip()).digest()
        client = None
        for name, digest in zip(self.names, self.digests, strict=True):
            client = name if hmac.compare_digest(digest, received) else client
        return client
