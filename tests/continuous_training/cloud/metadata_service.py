"""An instance's metadata service, version 2 only; and the button by which a machine switches itself off."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POWER = "/power"  # the stub commands of the machine post their command line here

TOKEN, LIFETIME = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
LONGEST = 21600  # seconds

CREDENTIALS = "iam/security-credentials/"


class Metadata:
    """Answers at `endpoint` for one instance, moto's `model`, until it is closed.

    `power` is given the command line of a shutdown, and says what is wrong with it, if anything.
    """

    def __init__(self, model: Any, sts: Any, power: Callable[[list[str]], str | None]) -> None:
        self.instance_action: str | None = None
        self._model = model
        self._sts = sts
        self._server = _Server(("127.0.0.1", 0), _requests(self._document, power))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _document(self, path: str) -> str | None:
        match path:
            case "instance-id":
                return str(self._model.id)
            case "instance-type":
                return str(self._model.instance_type)
            case "placement/region":
                return str(self._model.region_name)
            case "placement/availability-zone":
                return str(self._model.availability_zone)
            case "spot/instance-action":
                return self.instance_action
        return self._credentials(path) if path.startswith(CREDENTIALS.rstrip("/")) else None

    def _credentials(self, path: str) -> str | None:
        """Return the name of the instance's role, or new credentials of it as AWS writes them, blanks and all."""
        associations = self._model.ec2_backend.iam_instance_profile_associations
        if self._model.id not in associations:
            return None
        role = associations[self._model.id].iam_instance_profile.roles[0]
        if path in (CREDENTIALS, CREDENTIALS.rstrip("/")):
            return str(role.name)
        if path != f"{CREDENTIALS}{role.name}":
            return None
        found = self._sts.assume_role(RoleArn=role.arn, RoleSessionName=self._model.id)["Credentials"]
        shown = {
            "Code": "Success",
            "LastUpdated": f"{datetime.now(UTC):%FT%TZ}",
            "Type": "AWS-HMAC",
            "AccessKeyId": found["AccessKeyId"],
            "SecretAccessKey": found["SecretAccessKey"],
            "Token": found["SessionToken"],
            "Expiration": f"{found['Expiration']:%FT%TZ}",
        }
        return json.dumps(shown, indent=2, separators=(",", " : "))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # as when who asked was killed
            super().handle_error(request, client_address)


def _requests(
    document: Callable[[str], str | None], power: Callable[[list[str]], str | None]
) -> type[BaseHTTPRequestHandler]:
    tokens: dict[str, float] = {}

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            lifetime = self.headers.get(LIFETIME, "")
            if self.path != "/latest/api/token":
                self._answer(404)
            elif not lifetime.isdigit() or not 1 <= int(lifetime) <= LONGEST:
                self._answer(400)
            else:
                token = secrets.token_urlsafe(40)
                tokens[token] = time.monotonic() + int(lifetime)
                self._answer(200, token)

        def do_GET(self) -> None:
            if tokens.get(self.headers.get(TOKEN, ""), 0) < time.monotonic():
                self._answer(401)
                return
            found = document(self.path.removeprefix("/latest/meta-data/"))
            self._answer(404) if found is None else self._answer(200, found)

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            wrong = power(message.split()) if self.path == POWER else f"there is no {self.path}\n"
            self._answer(400, wrong) if wrong else self._answer(200)

        def _answer(self, status: int, body: str = "") -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Request
