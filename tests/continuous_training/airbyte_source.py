"""A connector of Airbyte's protocol that starts at once: a folder's stream.json is its stream, rows.json its rows.

It reads what lies beyond the cursor in its state. Its config may say that it fails, or kills whoever asks it half-way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def say(kind: str, **what: object) -> None:
    """Write one message."""
    print(json.dumps({"type": kind.upper(), kind.partition("_")[0]: what}), flush=True)


def of(option: str) -> dict:
    """Read the file that an option names."""
    return json.loads(Path(sys.argv[sys.argv.index(option) + 1]).read_text())


config = of("--config")
stream = json.loads(Path(config["folder"], "stream.json").read_text())
error = config.get("fails")
if sys.argv[1] == "check":
    status = {"status": "FAILED", "message": error} if error else {"status": "SUCCEEDED"}
    print(json.dumps({"type": "CONNECTION_STATUS", "connectionStatus": status}))
elif error:
    sys.exit(1)
elif sys.argv[1] == "discover":
    say("catalog", streams=[stream])
else:
    cursor = "".join(stream.get("default_cursor_field", []))
    known = next((one["stream"]["stream_state"]["until"] for one in of("--state")), "")
    rows = json.loads(Path(config["folder"], "rows.json").read_text())
    new = [row for row in rows if not cursor or row[cursor] > known]
    for count, row in enumerate(new):
        if config.get("kills") and count == len(new) // 2:
            os.kill(os.getppid(), signal.SIGKILL)
            sys.exit()
        say("record", stream=stream["name"], data=row, emitted_at=1_600_000_000_000)
    if cursor:
        until = max([known, *(row[cursor] for row in new)])
        about = {"stream_descriptor": {"name": stream["name"]}, "stream_state": {"until": until}}
        say("state", type="STREAM", stream=about)
