"""The processes in which a server's versions predict. The supervisor starts, checks and watches them.

A version is tried in its process first; workers find it once it is open and predicts its golden rows as it did offline.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from continuous_training.errors import UserError
from continuous_training.serving.following.hosted_version import SOCKET, HostedVersion, host_folder
from continuous_training.versions import examination, golden_predictions, packages
from continuous_training.versions.file_names import MANIFEST
from continuous_training.versions.host import DeadVersionError, HostStarter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from continuous_training.serving.following.assignment import VersionReference
    from continuous_training.serving.following.cache import VersionCache
    from continuous_training.versions.examination import Policy
    from continuous_training.versions.host import Host
    from continuous_training.versions.manifest import Manifest

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.2
CAUSE_SECONDS = 5  # to learn how a process has died
MAX_DEATHS, DEATHS_SECONDS = 20, 60.0  # a version that dies so often in so many seconds is unreliable


class VersionHosts:
    """The hosts of a server's versions: the champion's, a candidate's, and that of the champion before."""

    def __init__(
        self,
        folder: Path,
        cache: VersionCache,
        policy: Policy,
        keys: Sequence[str],
        count_death: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare to host versions.

        Args:
            folder: where the workers find the hosts.
            cache: the downloads.
            policy: which versions may be served.
            keys: the key columns that requests may have beside the model's columns.
            count_death: is called with a version's number when one of its processes has died.
        """
        self._folder = folder
        self._cache = cache
        self._policy, self._keys = policy, keys
        self._count_death = count_death
        self._hosts: dict[VersionReference, Host] = {}
        self._deaths: dict[VersionReference, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_DEATHS))
        self._unreliable: dict[VersionReference, str] = {}
        self._starters: dict[str | None, HostStarter] = {}  # by the folder of their packages
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hosts", daemon=True)

    def start(self) -> None:
        """Open the version that was served last, as it is most likely the champion, and begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End all processes."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.keep(())
        for starter in self._starters.values():
            starter.close()

    def open(self, reference: VersionReference) -> None:
        """Start a host for a downloaded version, unless there is one.

        Raises:
            UserError: it is not as it was signed, contains something that is not trusted, cannot be opened, dies, or
                predicts other values than offline. Its download, which may be damaged, is removed.
        """
        if reference in self._hosts:
            return
        version = self._cache.locate(reference)
        try:
            manifest, packages_folder = examine_version(version, reference, self._policy)
            with self._lock:  # not before: the installation of packages may take minutes
                if reference not in self._hosts:
                    starter = self._find_starter(packages_folder)
                    folder = host_folder(self._folder, reference)
                    self._hosts[reference] = start_host(starter, version, manifest, reference, folder, self._keys)
        except Exception:
            self._cache.remove(reference)
            raise

    def has(self, reference: VersionReference | None) -> bool:
        """Return whether a version has a host."""
        return reference in self._hosts

    def keep(self, references: Collection[VersionReference]) -> None:
        """Close all other hosts. Requests that their connections have in hand are finished."""
        with self._lock:
            for reference in self._hosts.keys() - set(references):
                self._hosts.pop(reference).close()
                shutil.rmtree(host_folder(self._folder, reference), ignore_errors=True)
            in_use = {host.starter for host in self._hosts.values()}
            for packages_folder, starter in [*self._starters.items()]:
                if packages_folder and starter not in in_use:
                    self._starters.pop(packages_folder).close()
            for reference in self._unreliable.keys() - set(references):
                del self._unreliable[reference]

    def why_unreliable(self, reference: VersionReference) -> str | None:
        """Return why a version should not be served if there is another one: it dies again and again."""
        return self._unreliable.get(reference)

    def _find_starter(self, packages_folder: str | None) -> HostStarter:
        starter = self._starters.get(packages_folder)
        if starter is None or not starter.is_alive():
            starter = self._starters[packages_folder] = HostStarter(packages_folder)
        return starter

    def _run(self) -> None:
        with self._lock:  # the follower may need it at the same time
            self._find_starter(None)  # it imports while the registry is asked
        if last := self._cache.read_last_version():
            self._open_again(last)
        while not self._stop.wait(WATCH_SECONDS):
            try:
                self._watch()
            except Exception:
                log.exception("Cannot watch the versions' processes")

    def _watch(self) -> None:
        """Count the processes that have died, and start hosts that have died again."""
        ended = []
        with self._lock:
            for reference, host in [*self._hosts.items()]:
                try:
                    causes = host.deaths()
                except DeadVersionError as error:
                    causes = [str(error)]
                    self._hosts.pop(reference).close()
                    ended.append(reference)
                for cause in causes:
                    self._record_death(reference, cause)
        for reference in ended:
            self._open_again(reference)

    def _open_again(self, reference: VersionReference) -> None:
        try:
            self.open(reference)
        except Exception as error:  # the follower will try too, if it is still assigned
            log.warning("Cannot open version %s again: %s", reference.number, error)

    def _record_death(self, reference: VersionReference, cause: str) -> None:
        self._count_death(reference.number)
        deaths, now = self._deaths[reference], time.monotonic()
        deaths.append(now)
        log.warning("A process of version %s died: %s", reference.number, cause)
        if len(deaths) == MAX_DEATHS and now - deaths[0] <= DEATHS_SECONDS and reference not in self._unreliable:
            self._unreliable[reference] = (
                f"{reference.title} died {MAX_DEATHS} times within {DEATHS_SECONDS:.0f} s ({cause})"
            )


def examine_version(folder: Path, reference: VersionReference, policy: Policy) -> tuple[Manifest, str | None]:
    """Examine a version, and install its packages where others are installed.

    Args:
        folder: its files.
        reference: the version.
        policy: which versions may be served.

    Returns:
        Its manifest, and the folder of its packages if it needs one.

    Raises:
        UserError: it is not as it was signed, or its packages cannot be installed.
    """
    try:
        manifest = examination.examine(folder, policy, reference.run_id)
        return manifest, packages.search_path(manifest.packages, manifest.python)
    except UserError as error:
        raise UserError(f"{reference.title} cannot be loaded: {error}") from error


def start_host(
    starter: HostStarter,
    version: Path,
    manifest: Manifest,
    reference: VersionReference,
    folder: Path,
    keys: Sequence[str],
) -> Host:
    """Start the host of a version, and compare its golden predictions.

    Args:
        starter: starts it.
        version: the version's files, which have been examined.
        manifest: its manifest.
        reference: the version.
        folder: of the host. Its socket has its final name only if all this has succeeded.
        keys: the key columns that requests may have beside the model's columns.

    Raises:
        UserError: it contains something that is not trusted, cannot be opened, dies, or predicts other values than
            offline.
    """
    socket = f"{SOCKET}.new"
    try:
        folder.mkdir(exist_ok=True)
        (folder / MANIFEST).write_text(manifest.model_dump_json(), encoding="utf-8")
        shutil.copyfile(version / golden_predictions.FILE, folder / golden_predictions.FILE)
        host = starter.start(version, manifest, folder / socket)
    except (UserError, OSError) as error:
        raise UserError(f"{reference.title} cannot be loaded: {error}") from error
    try:
        HostedVersion(reference, folder, keys, socket).check_golden_predictions()
        host.move(folder / SOCKET)
    except DeadVersionError as error:
        cause = next(iter(host.deaths(CAUSE_SECONDS)), error)
        host.close()
        raise UserError(f"{reference.title} died while it predicted its golden rows: {cause}") from error
    except Exception:
        host.close()
        raise
    return host
