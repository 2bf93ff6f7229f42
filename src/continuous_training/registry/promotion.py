"""Promotion: one process at a time moves a model's aliases, and interrupted moves are completed or reverted.

MLflow's registry has no compare-and-swap. The lock is therefore built from tags of the registered model: a process
writes a claim, then reads all claims. Of two processes at least one sees the other's claim, so never do both hold the
lock. The one with the lower key keeps its claim and waits, the other withdraws its claim, so one of them proceeds (the
one-bit algorithm: Lamport, The Mutual Exclusion Problem, part II, 1986).

A process writes the move that it is about to make into its claim, with the aliases before the move. The next holder of
the lock finds the claim of a process that died, and completes or reverts its move.
"""

from __future__ import annotations

import logging
import secrets
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import AliasChoices, Field, ValidationError

from continuous_training.documents import Value, first_error
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.registry.alias_moves import Aliases, Promotion, Withdrawal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version

log = logging.getLogger(__name__)

CLAIM = "ct.turn."  # the prefix of the model's tags that hold claims
WAIT_SECONDS = 30  # for another process to release the lock
PAUSE_SECONDS = 0.5
REGISTRY_SECONDS = 120  # for the calls to the registry while the lock is held
CLOCK_SKEW_SECONDS = 60  # between two machines
START_TIME_SECONDS = 60  # tolerance of a process's start time: setting the clock moves what psutil reports


class LockClaim(Value):
    """A claim to the lock: the process, what it does, when the claim expires, and the move that it makes."""

    build_tag: str
    activity: str = Field(validation_alias=AliasChoices("activity", "what"))
    expires: datetime = Field(validation_alias=AliasChoices("expires", "until"))
    host: str
    pid: int
    process_started: float = Field(validation_alias=AliasChoices("process_started", "born"))
    move: Promotion | Withdrawal | None = None

    @property
    def is_stale(self) -> bool:
        """Whether the claim has expired, or its process ran on this machine and is gone."""
        return datetime.now(UTC) > self.expires or (
            self.host == _host() and not _is_running(self.pid, self.process_started)
        )


@dataclass(frozen=True)
class AliasState(Aliases):
    """A model's aliases and all claims to its lock, by their tags."""

    claims: dict[str, LockClaim]


class AliasLock:
    """The exclusive right to move a model's aliases."""

    def __init__(self, client: MlflowClient, model: str, claim: LockClaim) -> None:
        self._client = client
        self._model = model
        self._claim = claim
        self._key = CLAIM + secrets.token_hex(8)

    def acquire(self) -> None:
        """Wait for the other claims, then resolve the moves of stale ones.

        Raises:
            UserError: another process does not release the lock.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        is_claimed = False
        while True:
            claims = read_aliases(self._client, self._model).claims
            others = {key: claim for key, claim in claims.items() if key != self._key}
            active = {key: claim for key, claim in others.items() if not claim.is_stale}
            if any(key < self._key for key in active):
                if is_claimed:
                    self._client.delete_registered_model_tag(self._model, self._key)
                is_claimed = False
            elif not is_claimed:
                self._write(self._claim)
                is_claimed = True
                continue
            elif not active:
                break
            if time.monotonic() > deadline:
                other = next(iter(active.values()))
                raise UserError(
                    f"another run, {other.build_tag}, is {other.activity}: run again after it has ended; if it was "
                    f"killed on another machine, after {other.expires:%H:%M:%S} UTC"
                )
            time.sleep(PAUSE_SECONDS)
        for key, stale in others.items():
            message = _resolve(self._client, self._model, key) or "nothing had to be reverted"
            log.warning("Run %s was interrupted while it was %s: %s", stale.build_tag, stale.activity, message)

    def write_move(self, move: Promotion | Withdrawal) -> None:
        """Write the move into the claim, before it is made.

        Raises:
            UserError: the claim is about to expire, so another process may treat it as stale.
        """
        if datetime.now(UTC) > self._claim.expires - timedelta(seconds=CLOCK_SKEW_SECONDS):
            raise UserError(f"the registry or the servers were too slow while {self._claim.activity}: run again")
        self._write(self._claim.model_copy(update={"move": move}))

    def promote(self, number: str, expected_champion: str | None, *, force: bool) -> Promotion:
        """Make a version the champion and the old champion `previous`; `release` reverts it unless it is confirmed.

        Args:
            number: the version.
            expected_champion: the champion that the verdict compared the version with.
            force: promote the version although it was rolled back.

        Raises:
            UserError: the version was rolled back, or the champion is not the one of its verdict.
        """
        version = model_versions.by_number(self._client, self._model, number)
        if version is None:
            raise UserError(f"version {number} of {self._model} is no longer in the registry: register it again")
        require_not_rolled_back(version, force=force)
        aliases = read_aliases(self._client, self._model)
        if aliases.champion not in {number, expected_champion}:
            change = f"version {aliases.champion} became champion" if aliases.champion else "the champion was removed"
            champion_of_verdict = f"with version {expected_champion}" if expected_champion else "with no champion"
            raise UserError(f"{change} meanwhile, but the verdict compared {champion_of_verdict}: run again")
        move = Promotion(version=number, run_id=version.run_id, champion=aliases.champion, previous=aliases.previous)
        self.write_move(move)
        move.apply(self._client, self._model)
        return move

    def confirm(self, promotion: Promotion) -> None:
        """Make a promotion permanent: every server serves the version."""
        self.write_move(promotion.model_copy(update={"confirmed": True}))

    def release(self) -> str | None:
        """Resolve the move and remove the claim; return what was reverted."""
        return _resolve(self._client, self._model, self._key)

    def _write(self, claim: LockClaim) -> None:
        self._client.set_registered_model_tag(self._model, self._key, claim.model_dump_json())


@contextmanager
def lock(client: MlflowClient, model: str, build_tag: str, activity: str, seconds: float = 0) -> Iterator[AliasLock]:
    """Hold the lock of a model's aliases; its release resolves the move, whatever happens.

    Args:
        client: the registry's client.
        model: a model with a registered version.
        build_tag: the run.
        activity: what it does, for the message to processes that wait.
        seconds: how long that takes at most, without the calls to the registry.

    Raises:
        UserError: another process does not release the lock; or the body failed and its move was reverted.
    """
    process = psutil.Process()
    duration = timedelta(seconds=WAIT_SECONDS + seconds + REGISTRY_SECONDS + CLOCK_SKEW_SECONDS)
    claim = LockClaim(
        build_tag=build_tag,
        activity=activity,
        expires=datetime.now(UTC) + duration,
        host=_host(),
        pid=process.pid,
        process_started=process.create_time(),
    )
    alias_lock = AliasLock(client, model, claim)
    try:
        alias_lock.acquire()
        yield alias_lock
    except BaseException as error:  # an abort too must not leave a champion that no server was checked for
        message = alias_lock.release()
        if message and isinstance(error, Exception):
            raise UserError(f"{error}; {message}") from error
        if message:
            log.warning("%s", message)
        raise
    alias_lock.release()


def recover(client: MlflowClient, model: str, build_tag: str) -> None:
    """Resolve the move of a run that was killed; the move of a running one stays."""
    claims = read_aliases(client, model).claims.values()
    if claims and all(claim.is_stale for claim in claims):
        with lock(client, model, build_tag, "recovering"):
            pass  # acquiring the lock resolves stale claims


def read_aliases(client: MlflowClient, model: str) -> AliasState:
    """Read the model's aliases and the claims to its lock.

    Raises:
        UserError: the registry does not answer, or a claim was written by another version of this program.
    """
    registered = model_versions.registered_model(client, model)
    if registered is None:
        return AliasState(model, None, None, {})
    claims = {}
    for key, value in registered.tags.items():
        if key.startswith(CLAIM):
            try:
                claims[key] = LockClaim.model_validate_json(value)
            except ValidationError as error:
                raise UserError(
                    f"remove the tag {key} of {model}, which is not a claim: {first_error(error)}"
                ) from error
    champion, previous = (
        str(registered.aliases[alias]) if alias in registered.aliases else None
        for alias in (model_versions.CHAMPION, model_versions.PREVIOUS)
    )
    return AliasState(model, champion, previous, claims)


def require_not_rolled_back(version: Version, *, force: bool) -> None:
    """Refuse a version that a person has rolled back, unless FORCE is set.

    Raises:
        UserError: it was rolled back.
    """
    if version.rollback_reason is not None and not force:
        raise UserError(
            f"version {version.number} of {version.name} was rolled back ({version.rollback_reason}): it is promoted "
            f"again only with FORCE=true"
        )


def _resolve(client: MlflowClient, model: str, key: str) -> str | None:
    """Resolve the move of a claim, then remove the claim; do nothing if another process has done so."""
    state = read_aliases(client, model)
    claim = state.claims.get(key)
    if claim is None:
        return None
    message = claim.move.resolve(client, state) if claim.move else None
    client.delete_registered_model_tag(model, key)
    return message


@cache
def _host() -> str:
    """Return the name of this machine and, as containers can share it, of its process table."""
    table = Path("/proc/self/ns/pid")
    return socket.gethostname() + (f" {table.readlink()}" if table.is_symlink() else "")


def _is_running(pid: int, start_time: float) -> bool:
    """Whether the process of this number still runs and started at this time."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - start_time) < START_TIME_SECONDS
        return process.status() != psutil.STATUS_ZOMBIE and is_same
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
