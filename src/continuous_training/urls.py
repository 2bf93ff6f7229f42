"""URLs, as logs and pages may show them."""

from __future__ import annotations

import re


def without_password(text: str) -> str:
    """Replace the password of every URL in a text by asterisks."""
    return re.sub(r"://([^:/@\s]*):[^@\s]+@", r"://\1:****@", text)
