"""An instance's metadata service, version 2 only; and the endpoint for its shutdown commands."""

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

POWER_PATH = "/power"  # the stubs of shutdown and poweroff post their command line here

TOKEN, TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
MAX_TTL = 21600  # seconds

CREDENTIALS = "iam/security-credentials/"


class MetadataService:
    """Serves the metadata of one instance, moto's `model`, at `endpoint` until it is closed.

    `power` is called with the command line of a shutdown, and returns an error or None.
    """

    def __init__(self, model: Any, sts: Any, power: Callable[[list[str]], str | None]) -> None:
        self.instance_action: str | None = None
        self._model = model
        self._sts = sts
        self._server = _Server(("127.0.0.1", 0), _handler_class(self._document, power))
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
        """Return the name of the instance's role, or new credentials of it with AWS's whitespace."""
        associations = self._model.ec2_backend.iam_instance_profile_associations
        if self._model.id not in associations:
            return None
        role = associations[self._model.id].iam_instance_profile.roles[0]
        if path in (CREDENTIALS, CREDENTIALS.rstrip("/")):
            return str(role.name)
        if path != f"{CREDENTIALS}{role.name}":
            return None
        credentials = self._sts.assume_role(RoleArn=role.arn, RoleSessionName=self._model.id)["Credentials"]
        document = {
            "Code": "Success",
            "LastUpdated": f"{datetime.now(UTC):%FT%TZ}",
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials["AccessKeyId"],
            "SecretAccessKey": credentials["SecretAccessKey"],
            "Token": credentials["SessionToken"],
            "Expiration": f"{credentials['Expiration']:%FT%TZ}",
        }
        return json.dumps(document, indent=2, separators=(",", " : "))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # for example because the client was killed
            super().handle_error(request, client_address)


def _handler_class(
    document: Callable[[str], str | None], power: Callable[[list[str]], str | None]
) -> type[BaseHTTPRequestHandler]:
    tokens: dict[str, float] = {}

    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            ttl = self.headers.get(TTL, "")
            if self.path != "/latest/api/token":
                self._respond(404)
            elif not ttl.isdigit() or not 1 <= int(ttl) <= MAX_TTL:
                self._respond(400)
            else:
                token = secrets.token_urlsafe(40)
                tokens[token] = time.monotonic() + int(ttl)
                self._respond(200, token)

        def do_GET(self) -> None:
            if tokens.get(self.headers.get(TOKEN, ""), 0) < time.monotonic():
                self._respond(401)
                return
            content = document(self.path.removeprefix("/latest/meta-data/"))
            self._respond(404) if content is None else self._respond(200, content)

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            error = power(message.split()) if self.path == POWER_PATH else f"{self.path} does not exist\n"
            self._respond(400, error) if error else self._respond(200)

        def _respond(self, status: int, body: str = "") -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Request
