"""A stub of ngrok: it starts, logs and responds like ngrok's agent, and opens no tunnel.

The name of the program selects its behaviour: `ngrok`, `ngrok-wrong-token`, `ngrok-rejecting`, or `ngrok-exiting`.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

ADDRESS = "https://calm-otter.ngrok-free.example"
WRONG_TOKEN = "authentication failed: The authtoken you specified is wrong. Your authtoken: {} ERR_NGROK_105"
ALREADY_ONLINE = "The endpoint 'https://calm-otter.ngrok-free.example' is already online. ERR_NGROK_334"


def log(level: str, **message: str) -> None:
    """Write a line as ngrok does, with quotes around values that contain spaces."""
    words = " ".join(f'{key}="{value}"' if " " in value else f"{key}={value}" for key, value in message.items())
    print(f"t=2026-11-23T12:00:00+0000 lvl={level} {words}", flush=True)


class Agent(http.server.BaseHTTPRequestHandler):
    """The agent's API for a configuration of version 3."""

    endpoints: list[dict[str, Any]] = []
    kind = ""

    def respond(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.respond(200 if self.path == "/api/endpoints" else 404, {"endpoints": self.endpoints, "uri": self.path})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Path(os.environ["NGROK_TEST"], "request").write_text(json.dumps(request))
        if self.kind == "rejecting":
            message = {
                "error_code": 103,
                "status_code": 502,
                "msg": "failed to start tunnel",
                "details": {"err": ALREADY_ONLINE},
            }
            return self.respond(502, message)
        endpoint = {"name": request["name"], "url": ADDRESS, "upstream": request["upstream"]}
        self.endpoints.append(endpoint)
        self.respond(201, endpoint)
        if self.kind == "exiting":
            log("crit", msg="session closed", err=f"account limited, token {os.environ['NGROK_AUTHTOKEN']}")
            os._exit(7)
        return None

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    folder = Path(os.environ["NGROK_TEST"])
    Agent.kind = Path(sys.argv[0]).name.partition("-")[2]
    (folder / "arguments").write_text("\n".join(sys.argv[1:]))
    (folder / "pid").write_text(str(os.getpid()))
    if Agent.kind == "wrong-token":
        log("eror", msg="failed to auth", obj="csess", err=WRONG_TOKEN.format(os.environ["NGROK_AUTHTOKEN"]))
        sys.exit(1)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        log("info", msg="starting web service", obj="web", addr=f"127.0.0.1:{server.server_port}")
        log("info", msg="client session established", obj="csess")
        log("info", msg="tunnel session started", obj="tunnels.session")
        threading.Event().wait()


if __name__ == "__main__":
    main()
