"""Tunnel: ngrok forwards webhooks to a Jenkins on this machine, with the traffic policy of jenkins/ngrok.yml."""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from continuous_training.errors import UserError
from continuous_training.extras import describe_missing
from continuous_training.jenkins import ping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyngrok.process import NgrokProcess

RULES = Path("jenkins", "ngrok.yml")
ENDPOINT = "webhooks"  # its name in that file
TOKEN = "NGROK_AUTHTOKEN"  # noqa: S105 - the variable's name, which ngrok reads itself
PROGRAM = "PYNGROK_NGROK_PATH"
GITHUB, PINGS = "/github-webhook/", ping.PATH
SILENT = logging.CRITICAL + 1


class Tunnel(NamedTuple):
    """An open tunnel: its public URL and ngrok's process."""

    url: str
    process: NgrokProcess

    def wait(self) -> None:
        """Wait for ngrok's process, which should not exit.

        Raises:
            UserError: it exited.
        """
        code = self.process.proc.wait()
        errors = [log.err or log.msg or "" for log in self.process.logs if log.lvl in {"ERROR", "CRITICAL"}]
        raise UserError(_without_token(f"ngrok exited with code {code}{': ' if errors else ''}{(errors or [''])[-1]}"))


@contextmanager
def open_tunnel(jenkins: str) -> Iterator[Tunnel]:
    """Open a tunnel to Jenkins. ngrok's process ends with the context.

    The program is the ngrok on PATH or the one in PYNGROK_NGROK_PATH; without either, pyngrok downloads it.

    Raises:
        UserError: pyngrok, the token, the policy or ngrok is missing, or ngrok refuses to open a tunnel.
    """
    try:
        from pyngrok import conf, ngrok, process
        from pyngrok.exception import PyngrokError
    except ModuleNotFoundError as error:
        raise UserError(describe_missing(error, "tunnel")) from None
    if not os.environ.get(TOKEN):
        raise UserError(f"{TOKEN} is not set: ngrok shows it at https://dashboard.ngrok.com/get-started/your-authtoken")
    rules = _rules()
    logging.getLogger("pyngrok").setLevel(SILENT)  # it logs ngrok's output, which contains the token
    path = None if os.environ.get(PROGRAM) else shutil.which("ngrok")
    # A separate session: Ctrl-C goes to this process, which then ends ngrok.
    config = conf.PyngrokConfig(ngrok_path=path, config_path=str(RULES), start_new_session=True)
    config.auth_token = None  # pyngrok would put it on the command line, which every user of this machine can read
    try:
        try:
            ngrok_process = ngrok.get_ngrok_process(config)
            upstream = {"url": jenkins}
            tunnel = ngrok.connect(name=ENDPOINT, pyngrok_config=config, upstream=upstream, traffic_policy=rules)
        except (PyngrokError, OSError) as error:
            raise UserError(_without_token(f"ngrok cannot open a tunnel: {_reason(error)}")) from None
        yield Tunnel(str(tunnel.public_url), ngrok_process)
    finally:
        process.kill_process(config.ngrok_path)


def _rules() -> dict[str, Any]:
    """Return the traffic policy, without which all of Jenkins would be public.

    Raises:
        UserError: the file has no such policy.
    """
    try:
        endpoints = yaml.safe_load(RULES.read_text(encoding="utf-8"))["endpoints"]
        [rules] = [endpoint["traffic_policy"] for endpoint in endpoints if endpoint["name"] == ENDPOINT]
        return {"on_http_request": list(rules["on_http_request"])}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{RULES} has no traffic policy for its endpoint '{ENDPOINT}': restore the file from git"
        ) from None


def _reason(error: Exception) -> str:
    """Return ngrok's own error message, without pyngrok's text around it."""
    body = getattr(error, "body", "")
    try:
        content = json.loads(body)
        return str(content.get("details", {}).get("err") or content["msg"])
    except (ValueError, KeyError, AttributeError):
        return str(getattr(error, "ngrok_error", None) or error)


def _without_token(text: str) -> str:
    """Mask the token, which ngrok's message on an invalid token contains."""
    return text.replace(os.environ[TOKEN], "****")
