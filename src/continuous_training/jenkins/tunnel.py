"""A tunnel by which webhooks reach a Jenkins on this machine: ngrok's, with the rules of jenkins/ngrok.yml."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from continuous_training.errors import UserError
from continuous_training.jenkins import ping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyngrok.process import NgrokProcess

RULES = Path("jenkins", "ngrok.yml")
ENDPOINT = "webhooks"  # its name there
TOKEN = "NGROK_AUTHTOKEN"  # noqa: S105 - the variable's name, which ngrok reads by itself
PROGRAM = "PYNGROK_NGROK_PATH"
GITHUB, PINGS = "/github-webhook/", ping.PATH
SILENT = logging.CRITICAL + 1


class Tunnel(NamedTuple):
    """An open tunnel: its public address, and the process that holds it open."""

    url: str
    process: NgrokProcess

    def wait(self) -> None:
        """Wait until it ends by itself, which is always a fault.

        Raises:
            UserError: it has ended.
        """
        code = self.process.proc.wait()
        message = [log.err or log.msg or "" for log in self.process.logs if log.lvl in {"ERROR", "CRITICAL"}]
        raise UserError(
            _masked(f"ngrok has ended with exit code {code}{': ' if message else ''}{(message or [''])[-1]}")
        )


@contextmanager
def opened(jenkins: str) -> Iterator[Tunnel]:
    """Open a tunnel to Jenkins; no process is left when it is over, however it ends.

    The ngrok on PATH is used, or the one that PYNGROK_NGROK_PATH names; where there is none, pyngrok downloads it.

    Raises:
        UserError: pyngrok, the token or the rules are missing, ngrok cannot be had, or it refuses.
    """
    try:
        from pyngrok import conf, ngrok, process
        from pyngrok.exception import PyngrokError
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: run {sys.executable} -m pip install pyngrok") from None
    if not os.environ.get(TOKEN):
        raise UserError(f"{TOKEN} is not set: ngrok shows it at https://dashboard.ngrok.com/get-started/your-authtoken")
    rules = _rules()
    logging.getLogger("pyngrok").setLevel(SILENT)  # it hands on what ngrok says, with the token in it
    path = None if os.environ.get(PROGRAM) else shutil.which("ngrok")
    # A session of its own: Ctrl-C is for this process, which then ends that one.
    config = conf.PyngrokConfig(ngrok_path=path, config_path=str(RULES), start_new_session=True)
    config.auth_token = None  # pyngrok would put it on the command line, where everybody on this machine could see it
    try:
        try:
            holding = ngrok.get_ngrok_process(config)
            to = {"url": jenkins}
            made = ngrok.connect(name=ENDPOINT, pyngrok_config=config, upstream=to, traffic_policy=rules)
        except (PyngrokError, OSError) as error:
            raise UserError(_masked(f"ngrok opens no tunnel: {_reason(error)}")) from None
        yield Tunnel(str(made.public_url), holding)
    finally:
        process.kill_process(config.ngrok_path)


def _rules() -> dict[str, Any]:
    """Return what is let through; without that all of Jenkins would be.

    Raises:
        UserError: the file does not say it.
    """
    try:
        endpoints = yaml.safe_load(RULES.read_text(encoding="utf-8"))["endpoints"]
        [rules] = [endpoint["traffic_policy"] for endpoint in endpoints if endpoint["name"] == ENDPOINT]
        return {"on_http_request": list(rules["on_http_request"])}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise UserError(
            f"{RULES} does not say what its endpoint «{ENDPOINT}» lets through: restore it from git"
        ) from None


def _reason(error: Exception) -> str:
    """Return what ngrok says itself, where pyngrok has more words around it."""
    body = getattr(error, "body", "")
    try:
        told = json.loads(body)
        return str(told.get("details", {}).get("err") or told["msg"])
    except (ValueError, KeyError, AttributeError):
        return str(getattr(error, "ngrok_error", None) or error)


def _masked(text: str) -> str:
    """Take the token out, which ngrok shows to who has a wrong one."""
    return text.replace(os.environ[TOKEN], "****")
