"""The Ed25519 keys that sign versions. Train holds the private key; all that open versions hold public keys only.

CT_SIGNING_KEY          the private key: 32 random bytes in base64url; a credential of main's Train and Refit in Jenkins
CT_SIGNING_PUBLIC_KEYS  the accepted public keys, separated by commas; several while a key is being replaced
.ct/signing_key         the private key where CT_SIGNING_KEY is not set; created on first use
.ct/signing_key.pub     the public key that belongs to it, which is accepted in this workspace too
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from continuous_training.errors import UserError
from continuous_training.settings import STATE

if TYPE_CHECKING:
    from pathlib import Path

KEY, PUBLIC_KEYS = "CT_SIGNING_KEY", "CT_SIGNING_PUBLIC_KEYS"
KEY_FILE = STATE / "signing_key"
PUBLIC_KEY_FILE = STATE / "signing_key.pub"
KEY_BYTES = 32


def sign(content: bytes) -> str:
    """Sign bytes with the private key; return the signature in base64url.

    Raises:
        UserError: CT_SIGNING_KEY or .ct/signing_key is not a key.
    """
    return _encode(_private_key().sign(content))


def verify(content: bytes, signature: str) -> bool:
    """Tell whether a signature of these bytes was made with the private key of one of the accepted public keys.

    Raises:
        UserError: there is no public key, or one is malformed.
    """
    try:
        signature_bytes = _decode(signature)
    except ValueError:
        return False
    return any(_is_signed_with(key, content, signature_bytes) for key in _public_keys())


def public_key(private_key: str) -> str:
    """Return the public key that belongs to a private key, both in base64url.

    Raises:
        ValueError: it is not a private key.
    """
    return _encode(Ed25519PrivateKey.from_private_bytes(_decode(private_key)).public_key().public_bytes_raw())


def share_key(workspace: Path) -> None:
    """Give another workspace on this machine the key of this one, if it has none: it opens versions of this one."""
    for path in (KEY_FILE, PUBLIC_KEY_FILE):
        target = workspace / path
        if path.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)


def _is_signed_with(key: Ed25519PublicKey, content: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _private_key() -> Ed25519PrivateKey:
    text, source = os.environ.get(KEY, ""), KEY
    if not text:
        if not KEY_FILE.exists():
            _create_key()
        text, source = KEY_FILE.read_text(encoding="ascii"), str(KEY_FILE)
        _write_public_key(text)
    try:
        return Ed25519PrivateKey.from_private_bytes(_decode(text))
    except ValueError as error:
        raise UserError(f"{source} is not a signing key (32 bytes in base64url): {error}") from None


def _create_key() -> None:
    """Create the private key, readable for its owner only; of two processes one creates it."""
    KEY_FILE.parent.mkdir(parents=True, exist_ok=True)
    temporary = KEY_FILE.with_name(f".{KEY_FILE.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(_encode(secrets.token_bytes(KEY_BYTES)) + "\n")
        try:
            os.link(temporary, KEY_FILE)
        except FileExistsError:
            return
    finally:
        temporary.unlink()


def _write_public_key(private_key: str) -> None:
    try:
        text = public_key(private_key) + "\n"
    except ValueError:  # which the caller reports
        return
    if not PUBLIC_KEY_FILE.exists() or PUBLIC_KEY_FILE.read_text(encoding="ascii") != text:
        temporary = PUBLIC_KEY_FILE.with_name(f".{PUBLIC_KEY_FILE.name}.{secrets.token_hex(8)}")
        temporary.write_text(text, encoding="ascii")
        temporary.replace(PUBLIC_KEY_FILE)


def _public_keys() -> list[Ed25519PublicKey]:
    texts = [(key.strip(), PUBLIC_KEYS) for key in os.environ.get(PUBLIC_KEYS, "").split(",") if key.strip()]
    if PUBLIC_KEY_FILE.exists():
        texts.append((PUBLIC_KEY_FILE.read_text(encoding="ascii"), str(PUBLIC_KEY_FILE)))
    if not texts:
        raise UserError(f"no public key is known that a version could be signed with: set {PUBLIC_KEYS}")
    return [_read_public_key(*text) for text in texts]


def _read_public_key(text: str, source: str) -> Ed25519PublicKey:
    try:
        return Ed25519PublicKey.from_public_bytes(_decode(text))
    except ValueError as error:
        raise UserError(f"{source} holds '{text.strip()}', which is not a public key: {error}") from None


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Decode base64url, with or without padding.

    Raises:
        ValueError: it is not base64url.
    """
    stripped = text.strip().rstrip("=").encode()
    try:
        return base64.b64decode(stripped + b"=" * (-len(stripped) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
