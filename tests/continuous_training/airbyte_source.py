"""A small connector of Airbyte's protocol: stream.json in its folder describes the stream, rows.json has the rows.

It returns the rows beyond the cursor in its state. Its configuration can make it fail, or kill its parent half-way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def write_message(kind: str, **content: object) -> None:
    """Write one message of the protocol."""
    print(json.dumps({"type": kind.upper(), kind.partition("_")[0]: content}), flush=True)


def read_option(option: str) -> dict:
    """Read the JSON file that a command-line option names."""
    return json.loads(Path(sys.argv[sys.argv.index(option) + 1]).read_text())


config = read_option("--config")
stream = json.loads(Path(config["folder"], "stream.json").read_text())
error = config.get("fails")
if sys.argv[1] == "check":
    status = {"status": "FAILED", "message": error} if error else {"status": "SUCCEEDED"}
    print(json.dumps({"type": "CONNECTION_STATUS", "connectionStatus": status}))
elif error:
    sys.exit(1)
elif sys.argv[1] == "discover":
    write_message("catalog", streams=[stream])
else:
    cursor = "".join(stream.get("default_cursor_field", []))
    position = next((entry["stream"]["stream_state"]["until"] for entry in read_option("--state")), "")
    rows = json.loads(Path(config["folder"], "rows.json").read_text())
    new = [row for row in rows if not cursor or row[cursor] > position]
    for count, row in enumerate(new):
        if config.get("kills") and count == len(new) // 2:
            os.kill(os.getppid(), signal.SIGKILL)
            sys.exit()
        write_message("record", stream=stream["name"], data=row, emitted_at=1_600_000_000_000)
    if cursor:
        until = max([position, *(row[cursor] for row in new)])
        state = {"stream_descriptor": {"name": stream["name"]}, "stream_state": {"until": until}}
        write_message("state", type="STREAM", stream=state)
