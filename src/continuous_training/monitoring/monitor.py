"""Monitor: examine what the champion is asked and what its answers are worth; ask Jenkins for a training if need be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from continuous_training.comparison.evaluation import RecordedClassifier, RecordedRegressor
from continuous_training.documents import BUILD, Value, write_atomically
from continuous_training.errors import UserError
from continuous_training.jenkins import ping
from continuous_training.jenkins.ping import Ping, PingResult
from continuous_training.monitoring import decision, drift, history, live, log, newest, performance, quality, reference
from continuous_training.monitoring.asked import PREDICTION
from continuous_training.monitoring.decision import Decision
from continuous_training.monitoring.finding import Drift, Finding
from continuous_training.monitoring.performance import Measured
from continuous_training.monitoring.state import State
from continuous_training.registry import connection, model_versions
from continuous_training.reports.formatting import format_time
from continuous_training.settings import future_warning, load_settings, parse_as_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from continuous_training.comparison.evaluation import Recorded
    from continuous_training.monitoring.asked import Asked
    from continuous_training.monitoring.reference import Reference
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings

DOCUMENT = BUILD / "monitor.json"
ACCOUNT = BUILD / "monitor" / "drift.html"  # Evidently's, with scripts in it
SIGNS = {"fault": "✗", "odd": "!", "note": "·"}
SAID_LENGTH = 500  # it shares a tag


class Examination(Value):
    """What was examined, what was found, and what follows."""

    model: str
    model_version: str | None = None
    source: Literal["log", "warehouse"]
    at: datetime
    as_of: datetime
    since: datetime | None = None
    until: datetime | None = None
    rows: int = 0
    decision: Decision
    drifts: list[Drift] = Field(default_factory=list)
    then: Measured | None = None
    now: Measured | None = None
    findings: list[Finding] = Field(default_factory=list)
    asking: PingResult | None = None
    evidence: str | None = None

    @property
    def faults(self) -> list[str]:
        """What kept the monitor from its work."""
        return [one.message for one in self.findings if one.kind == "fault"]

    @property
    def summary(self) -> str:
        """What a person reads on the console."""
        lines = [f"{self.decision.verdict}: {self.decision.message}"]
        lines += [f"{SIGNS[one.kind]} {one.message}" for one in self.findings]
        if self.asking:
            lines.append(self.asking.summary)
        return "\n".join(lines)


@dataclass
class Examiner:
    """One examination of a model's champion; `now` is the clock of the servers, AS_OF that of the warehouse."""

    client: MlflowClient
    model: str
    given: Settings
    source: Literal["log", "warehouse"]
    as_of: datetime
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    findings: list[Finding] = field(default_factory=list)

    def examine(self, jenkins: str, asked_as_of: str | None) -> Examination:
        """Examine, decide, and ask Jenkins at this address for a training if that is what follows.

        A fault is a finding like any other, so that a page and a document say it too; whoever calls makes it an error.
        """
        if message := future_warning(self.as_of, self.now):
            self._find("odd", message)
        version = model_versions.by_alias(self.client, self.model, model_versions.CHAMPION)
        found = self._look(version)
        run = history.begin(self.client, self.model, f"{self.now:%Y-%m-%d %H:%M}")
        evidence = history.address(self.client, run)
        asking = None
        if version and found.decision.verdict == "retrain":
            asking = self._ask(version, found.decision, jenkins, asked_as_of, evidence)
        found = found.model_copy(update={"findings": self.findings, "asking": asking, "evidence": evidence})
        look = history.Look(
            at=self.now,
            version=found.model_version,
            verdict=found.decision.verdict,
            ratio=max((one.ratio for one in found.drifts), default=None),
            metric=found.now.value if found.now else None,
            pinged=bool(asking and asking.jobs),
        )
        page = ACCOUNT if look.pinged and ACCOUNT.exists() else None
        history.end(self.client, run, look, found.model_dump_json(indent=2), page)
        write_atomically(DOCUMENT, found.model_dump_json(indent=2) + "\n")
        return found

    def _find(self, kind: Literal["fault", "odd", "note"], message: str) -> None:
        self.findings.append(Finding(kind=kind, message=message))

    def _blank(self, message: str, version: Version | None = None) -> Examination:
        """Return an examination that came to nothing."""
        return Examination(
            model=self.model,
            model_version=version.number if version else None,
            source=self.source,
            at=self.now,
            as_of=self.as_of,
            decision=Decision(verdict="not enough data", cause="", message=message),
        )

    def _look(self, version: Version | None) -> Examination:
        """Look at everything that can be looked at."""
        if version is None:
            self._find("note", f"{self.model} has no champion: the first promotion brings one")
            return self._blank("there is no champion")
        try:
            learnt = reference.kept(self.client, version)
            if learnt is None:
                message = f"version {version.number} has no reference: the next version that Compare promotes has one"
                self._find("note", message)
                return self._blank("nothing is known of what the champion learnt", version)
            if self.source == "warehouse":
                return self._compare(version, learnt, newest.read(self.given, self.as_of), None)
            since = self.now - timedelta(days=live.days(self.given) + self.given.data.label_delay_days)
            with log.opened(self.model, since) as opened:
                asked = opened.asked(self.given, version.number, learnt.learnt, self.now)
                if asked is None:
                    self._find("note", "the predictions log has no rows of these days: does anybody ask the servers?")
                    return self._blank("the predictions log is empty", version)
                return self._compare(version, learnt, asked, opened)
        except UserError as problem:
            self._find("fault", str(problem))
            return self._blank("the examination could not be made", version)

    def _compare(self, version: Version, learnt: Reference, asked: Asked, opened: log.Log | None) -> Examination:
        """Hold a window against what was learnt."""
        limits = self.given.monitor
        self.findings += asked.findings
        blank = self._blank(f"{asked.rows:,} rows, and {limits.min_rows:,} are needed", version)
        blank = blank.model_copy(update={"since": asked.since, "until": asked.until, "rows": asked.rows})
        if asked.rows < limits.min_rows:
            return blank
        null_shares = quality.nulls(asked)
        self.findings += quality.check(asked, learnt.learnt, self.given, null_shares)
        window = asked.sample(limits.sample_rows)
        now = self._worth(version, learnt, opened)
        if opened is None:
            try:
                message = newest.answers(version, window, self.given)
                window[PREDICTION] = learnt.learnt.recorded_as(np.asarray(message.answers)).to_numpy()
            except UserError as problem:
                self._find("odd", str(problem))
        seen = drift.look(learnt, window, self.given, null_shares)
        drifts = seen.drifts if seen else []
        ratios = {one.name: one.ratio for one in drifts}
        fall = performance.fall(learnt.learnt.measured, now, limits.false_alarms) if now else None
        if fall:
            ratios[decision.METRIC] = fall.ratio
        as_it_is = (
            model_versions.by_number(self.client, self.model, version.number) or version
        )  # another monitor may be at it too
        state = State.of(as_it_is).after(ratios, limits)
        state.write(self.client, version)
        moved = state.moved(limits)
        odd = len({one.column for one in self.findings if one.kind == "odd" and one.column})
        decided = decision.decide(drifts, learnt.learnt.measured, now, fall, moved=moved, odd=odd, limits=limits)
        if seen and decided.verdict != "none":
            try:
                seen.write(ACCOUNT)
            except UserError as problem:
                self._find("fault", str(problem))
        return blank.model_copy(
            update={
                "decision": decided,
                "drifts": [one.model_copy(update={"moved": one.name in moved}) for one in drifts],
                "then": learnt.learnt.measured,
                "now": now,
            }
        )

    def _worth(self, version: Version, learnt: Reference, opened: log.Log | None) -> Measured | None:
        """Measure what the answers were worth whose truth is known by now; say why, where that cannot be said."""
        data, windows = self.given.data, live.windows(self.given, learnt.learnt, self.as_of)
        if opened and not opened.has_keys(self.given):
            message = f"no labels can be joined: clients do not send {', '.join(data.key)} beside the features"
            self._find("note", message)
            return None
        if not windows:
            days = f"{self.given.monitor.window_days:g} days after those that version {version.number} was judged by"
            self._find("note", f"what the answers are worth cannot be said before the labels are known of {days}")
            return None
        found = None
        try:
            if opened is None:
                drawn = newest.labelled(self.given, windows)
            else:
                drawn = opened.labelled(self.given, windows, version.number, self.as_of, self.now)
            rows = pd.concat([one for one in drawn if len(one)] or drawn, ignore_index=True)
            if len(rows):
                recorded = newest.answers(version, rows, self.given) if opened is None else _recorded(rows, learnt)
                places = np.split(np.arange(len(rows)), np.cumsum([len(one) for one in drawn])[:-1])
                found = performance.measured(recorded, rows[data.target], rows[data.time], places, self.given.compare)
        except UserError as problem:
            self._find("fault", f"what the answers are worth cannot be said: {problem}")
            return None
        if found is None:
            self._find("note", f"labels are known of {len(rows):,} rows, too few for an interval")
        return found

    def _ask(self, version: Version, decided: Decision, jenkins: str, as_of: str | None, evidence: str) -> PingResult:
        """Ask for a training, unless that has been done. Only what was delivered is remembered."""
        message = Ping(
            trigger="drift",
            reason=f"version {version.number}: {decided.cause}",
            as_of=as_of,
            model=self.model,
            model_version=version.number,
            evidence=evidence,
        )

        def rests(champion: Version) -> str | None:
            until = State.of(champion).rests_until(self.given.monitor)
            if until is None or until <= self.now:
                return None
            return f"that was done for version {version.number}, and is not done again before {format_time(until)}"

        asking = ping.trigger_training(self.client, version, message, jenkins, rests)
        if asking.error:
            self._find("fault", asking.error)
        if asking.jobs:
            sent = {"pinged": self.now, "message": connection.clip(decided.message, SAID_LENGTH), "evidence": evidence}
            as_it_is = model_versions.by_number(self.client, self.model, version.number) or version
            State.of(as_it_is).model_copy(update=sent).write(self.client, version)
        return asking


def of(client: MlflowClient, model: str, source: Literal["log", "warehouse"] | None, as_of: str) -> Examiner:
    """Prepare an examination as training.yaml has it; AS_OF as a run takes it."""
    settings = load_settings(model)
    return Examiner(client, model, settings, source or settings.monitor.source, parse_as_of(as_of, settings.data.clock))


def _recorded(rows: pd.DataFrame, learnt: Reference) -> Recorded:
    """Return logged answers as those of a model."""
    answers = np.array(rows["answers"].tolist(), dtype=np.float64)
    if learnt.learnt.classes is None:
        return RecordedRegressor(answers.ravel())
    return RecordedClassifier(answers, np.array(learnt.learnt.classes))
