"""Promotion: a model's aliases are moved in a turn, by one run at a time, and what a crash cuts off is put right.

MLflow's registry cannot compare and swap, so a run announces itself in a tag of the registered model and then looks: of
two runs at least one sees the other, and no two ever go on. The one with the lower key lets its announcement stand and
waits, the other withdraws, so one of them does go on (the one-bit algorithm: Lamport, The Mutual Exclusion UserError,
part II, 1986).

What a run is about to move it writes in its announcement first, with how things were before. Whoever takes the next
turn finds the announcement of a run that has died, and undoes or finishes its move as that run would have done itself.
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
from pydantic import ValidationError

from continuous_training.documents import Value, first
from continuous_training.errors import UserError
from continuous_training.registry import model_versions
from continuous_training.registry.alias_moves import Aliases, Promotion, Withdrawal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

    from continuous_training.registry.model_versions import Version

log = logging.getLogger(__name__)

TURN = "ct.turn."  # how the names of the model's tags begin that are announcements
PATIENCE_SECONDS = 30  # for another run's turn
PAUSE_SECONDS = 0.5
CALLS_SECONDS = 120  # that the calls to the registry may take in a turn
SKEW_SECONDS = 60  # that the clocks of two machines may differ by
SAME_BIRTH_SECONDS = 60  # a clock that was set moves what psutil says of a process; no number returns as soon as that


class Announcement(Value):
    """Who has a turn, until when at the latest, and what is moved in it."""

    build_tag: str
    what: str
    until: datetime
    host: str
    pid: int
    born: float
    move: Promotion | Withdrawal | None = None

    @property
    def dead(self) -> bool:
        """Whether its time is over, or its process was one of this machine's and is gone."""
        return datetime.now(UTC) > self.until or (self.host == _host() and not _lives(self.pid, self.born))


@dataclass(frozen=True)
class AliasState(Aliases):
    """A model's aliases, and the announcements of those that move them, as one look at the registry finds them."""

    announced: dict[str, Announcement]


class Turn:
    """The right to move a model's aliases, while its announcement stands."""

    def __init__(self, client: MlflowClient, model: str, announcement: Announcement) -> None:
        self._client = client
        self._model = model
        self._announcement = announcement
        self._key = TURN + secrets.token_hex(8)

    def begin(self) -> None:
        """Wait for all others, then settle what dead ones have left.

        Raises:
            UserError: another run's turn does not end.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        stands = False
        while True:
            announced = look(self._client, self._model).announced
            others = {key: found for key, found in announced.items() if key != self._key}
            living = {key: found for key, found in others.items() if not found.dead}
            if any(key < self._key for key in living):
                if stands:
                    self._client.delete_registered_model_tag(self._model, self._key)
                stands = False
            elif not stands:
                self._write(self._announcement)
                stands = True
                continue
            elif not living:
                break
            if time.monotonic() > deadline:
                other = next(iter(living.values()))
                raise UserError(
                    f"another run, {other.build_tag}, is {other.what}: run again after it has ended; if it was killed "
                    f"on another machine, after {other.until:%H:%M:%S} UTC"
                )
            time.sleep(PAUSE_SECONDS)
        for key, dead in others.items():
            message = _settle(self._client, self._model, key) or "nothing was to be put back"
            log.warning("Run %s was cut off while it was %s: %s", dead.build_tag, dead.what, message)

    def announce(self, move: Promotion | Withdrawal) -> None:
        """Write down what is about to be moved.

        Raises:
            UserError: the time of this turn is over, so another run may take this one for dead.
        """
        if datetime.now(UTC) > self._announcement.until - timedelta(seconds=SKEW_SECONDS):
            raise UserError(f"the registry or the servers were too slow while {self._announcement.what}: run again")
        self._write(self._announcement.model_copy(update={"move": move}))

    def promote(self, number: str, judged: str | None, *, force: bool) -> Promotion:
        """Make a version the champion and keep the old one as `previous`; the end undoes it unless it is proven.

        A champion that is promoted again stays as it is.

        Args:
            number: the version.
            judged: the champion that its verdict compared it with.
            force: promote it although it was rolled back.

        Raises:
            UserError: it was rolled back, or the champion is another one than its verdict is about.
        """
        version = model_versions.by_number(self._client, self._model, number)
        if version is None:
            raise UserError(f"version {number} of {self._model} is not in the registry any more: register it again")
        refuse_rolled_back(version, force=force)
        now = look(self._client, self._model)
        if now.champion not in {number, judged}:
            found = f"version {now.champion} became champion" if now.champion else "the champion was taken away"
            against = f"with version {judged}" if judged else "with no champion"
            raise UserError(f"{found} meanwhile, but the verdict compared {against}: run again")
        move = Promotion(version=number, run_id=version.run_id, champion=now.champion, previous=now.previous)
        self.announce(move)
        move.make(self._client, self._model)
        return move

    def prove(self, promotion: Promotion) -> None:
        """Say that every server answers with the promoted version: from here on it stays."""
        self.announce(promotion.model_copy(update={"proven": True}))

    def end(self) -> str | None:
        """Settle what was moved, and leave; say what was put back."""
        return _settle(self._client, self._model, self._key)

    def _write(self, announcement: Announcement) -> None:
        self._client.set_registered_model_tag(self._model, self._key, announcement.model_dump_json())


@contextmanager
def turn(client: MlflowClient, model: str, build_tag: str, what: str, seconds: float = 0) -> Iterator[Turn]:
    """Take a turn at the model's aliases; its end settles what was moved, whatever happens.

    Args:
        client: of the registry.
        model: a model with a registered version.
        build_tag: the run.
        what: what it is doing, for those who wait.
        seconds: how long that takes at most, without the calls to the registry.

    Raises:
        UserError: another run's turn does not end; or the body failed and something was put back, which is said too.
    """
    process = psutil.Process()
    lasts = timedelta(seconds=PATIENCE_SECONDS + seconds + CALLS_SECONDS + SKEW_SECONDS)
    announcement = Announcement(
        build_tag=build_tag,
        what=what,
        until=datetime.now(UTC) + lasts,
        host=_host(),
        pid=process.pid,
        born=process.create_time(),
    )
    taken = Turn(client, model, announcement)
    try:
        taken.begin()
        yield taken
    except BaseException as error:  # an abort too must not leave a champion that nobody has seen answer
        back = taken.end()
        if back and isinstance(error, Exception):
            raise UserError(f"{error}; {back}") from error
        if back:
            log.warning("%s", back)
        raise
    taken.end()


def recover(client: MlflowClient, model: str, build_tag: str) -> None:
    """Undo or finish what a run that died has left half moved; a run that lives is left alone."""
    announced = look(client, model).announced.values()
    if announced and all(found.dead for found in announced):
        with turn(client, model, build_tag, "recovering"):
            pass  # whoever takes a turn settles what is dead before anything else


def look(client: MlflowClient, model: str) -> AliasState:
    """Return the model's aliases and announcements.

    Raises:
        UserError: the registry does not answer, or holds an announcement of another version of this program.
    """
    found = model_versions.registered_model(client, model)
    if found is None:
        return AliasState(model, None, None, {})
    announced = {}
    for key, value in found.tags.items():
        if key.startswith(TURN):
            try:
                announced[key] = Announcement.model_validate_json(value)
            except ValidationError as error:
                raise UserError(f"remove the tag {key} of {model}, which is no announcement: {first(error)}") from error
    champion, previous = (
        str(found.aliases[alias]) if alias in found.aliases else None
        for alias in (model_versions.CHAMPION, model_versions.PREVIOUS)
    )
    return AliasState(model, champion, previous, announced)


def refuse_rolled_back(version: Version, *, force: bool) -> None:
    """Refuse a version that a person has rolled back, unless FORCE says otherwise.

    Raises:
        UserError: it was rolled back.
    """
    if version.rolled_back is not None and not force:
        raise UserError(
            f"version {version.number} of {version.name} was rolled back ({version.rolled_back}): it is promoted again "
            f"only with FORCE=true"
        )


def _settle(client: MlflowClient, model: str, key: str) -> str | None:
    """Settle what was moved under an announcement, which is removed last; do nothing if another run has done it."""
    now = look(client, model)
    announcement = now.announced.get(key)
    if announcement is None:
        return None
    message = announcement.move.settle(client, now) if announcement.move else None
    client.delete_registered_model_tag(model, key)
    return message


@cache
def _host() -> str:
    """Name this machine and, as containers can share its name, its table of processes."""
    table = Path("/proc/self/ns/pid")
    return socket.gethostname() + (f" {table.readlink()}" if table.is_symlink() else "")


def _lives(pid: int, born: float) -> bool:
    """Tell whether a process of this machine still runs and is the one born then."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - born) < SAME_BIRTH_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
