"""BigQuery as Ibis has it, for an account that may only run queries (jobUser) and read a dataset (dataViewer).

Its address is `bigquery://project/dataset`, or `bigquery://project/another.dataset` for the dataset of another project,
read at the expense of the first. Who asks is told by Google's Application Default Credentials. Rows come over REST,
page by page; `?storage_api=true` has them come over gRPC, for an account that is readSessionUser too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import google.auth
from google.cloud import bigquery
from ibis.backends.bigquery import Backend

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from google.cloud.bigquery.table import RowIterator


class BigQuery(Backend):  # type: ignore[misc] # Ibis has no types
    """Ibis' backend, but for how it connects and fetches."""

    def do_connect(self, url: str) -> None:
        """Connect with no one's help: Ibis would open a browser, and not look for tables in the dataset."""
        given = urlsplit(url)
        options = parse_qs(given.query)
        dataset = given.path.strip("/")
        if not dataset:
            raise UserError("the warehouse's address names no dataset: write it as bigquery://project/dataset")
        credentials, _ = google.auth.default(scopes=bigquery.Client.SCOPE)
        tables = bigquery.DatasetReference.from_string(dataset, default_project=given.netloc)
        client = bigquery.Client(
            project=given.netloc,
            credentials=credentials,
            location=options.get("location", [None])[0],
            default_query_job_config=bigquery.QueryJobConfig(default_dataset=tables),
        )
        storage = None if options.get("storage_api") == ["true"] else False  # None is Ibis' word for: make one
        super().do_connect(dataset_id=dataset, client=client, credentials=credentials, storage_client=storage)

    def _to_query(self, *asked: Any, **how: Any) -> RowIterator:  # noqa: ANN401 - Ibis' own, passed on
        """Ask, and have a table that is fetched whole come as one in batches does: the client would take to gRPC."""
        rows = super()._to_query(*asked, **how)
        rows.to_arrow = partial(rows.to_arrow, create_bqstorage_client=False)
        return rows
