"""The judged twin of a champion that is a refit: the model of the same recipe that was judged before.

A refit was trained until its own run, so it has seen fresh rows of the next ones. Later, a candidate that is held back
would have to beat one that was not, though its own refit will have as many more rows. The twin was held back from the
newest rows as the candidate is: the two recipes are compared on equal terms. The twin's address stands in the refit's
signed lineage, and it is opened as any version is.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from continuous_training.comparison import rules
from continuous_training.comparison.rules import JudgedTwin
from continuous_training.comparison.stored_model import open_model
from continuous_training.errors import UserError
from continuous_training.registry import refits, runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    import pandas as pd

    from continuous_training.comparison.stored_model import StoredModel
    from continuous_training.documents import Rule
    from continuous_training.registry.model_versions import Version
    from continuous_training.settings import Settings


def choose_model(
    stack: ExitStack,
    champion: Version,
    model: StoredModel,
    lineage: Mapping[str, str],
    settings: Settings,
    fresh: pd.DataFrame,
    fresh_since: datetime,
) -> tuple[StoredModel, Rule]:
    """Return the model that is compared with, and the rule that it was not trained on the fresh rows.

    It is the judged twin of a champion that is a refit. If the twin cannot be opened, it is the champion, which the
    rule refuses if it has seen fresh rows.

    Args:
        stack: closes the twin.
        champion: the champion.
        model: its model.
        lineage: what the champion's candidate was made from.
        settings: the settings of the model.
        fresh: the fresh rows.
        fresh_since: the time of the first of them.
    """
    signed = model.manifest.lineage
    address = signed.get(refits.JUDGED_MODEL)
    if address is None:
        return model, rules.check_trained_until(_trained_until(lineage), fresh_since)
    refit_until = _trained_until(signed)
    if refit_until is None:
        return model, rules.check_trained_until(None, fresh_since)
    try:
        twin = stack.enter_context(open_model(address, champion.run_id, champion.name, settings, fresh))
    except UserError as error:
        loss = JudgedTwin(refit_until, f"cannot be opened ({' '.join(str(error).split())})")
        return model, rules.check_trained_until(refit_until, fresh_since, loss)
    judged_until = _trained_until(twin.manifest.lineage)
    return twin, rules.check_trained_until(judged_until, fresh_since, JudgedTwin(refit_until))


def _trained_until(lineage: Mapping[str, str]) -> datetime | None:
    """Return the time before which all training rows of a model lie; None if it is not known."""
    text = lineage.get(runs.TRAINED_UNTIL)
    return datetime.fromisoformat(text) if text else None
