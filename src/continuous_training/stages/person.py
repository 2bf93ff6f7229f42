"""The person who decides: who started the build, or else the user of this machine."""

from __future__ import annotations

import getpass
import os


def name() -> str | None:
    """Return the person's name; None if it is not known.

    The Jenkinsfile sets BUILD_USER, to an empty text if no person started the build.
    """
    if (user := os.environ.get("BUILD_USER")) is not None:
        return user.strip() or None
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None
