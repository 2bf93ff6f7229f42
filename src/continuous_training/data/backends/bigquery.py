"""BigQuery through Ibis, for an account with the roles jobUser (run queries) and dataViewer (read a dataset).

Its address is `bigquery://project/dataset`, or `bigquery://project/other.dataset` for the dataset of another project;
the first project pays for the queries. Google's Application Default Credentials name the account. Rows are fetched over
REST, page by page; with `?storage_api=true` over gRPC, for an account that has the role readSessionUser too.
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
    """Ibis' backend with another way to connect and to fetch."""

    md5_returns_bytes = True  # in place of hexadecimal digits: the counts of new rows use MD5

    def do_connect(self, url: str) -> None:
        """Connect without interaction: Ibis would open a browser, and would not look for tables in the dataset."""
        address = urlsplit(url)
        options = parse_qs(address.query)
        dataset = address.path.strip("/")
        if not dataset:
            raise UserError("the warehouse's address has no dataset: write it as bigquery://project/dataset")
        credentials, _ = google.auth.default(scopes=bigquery.Client.SCOPE)
        tables = bigquery.DatasetReference.from_string(dataset, default_project=address.netloc)
        client = bigquery.Client(
            project=address.netloc,
            credentials=credentials,
            location=options.get("location", [None])[0],
            default_query_job_config=bigquery.QueryJobConfig(default_dataset=tables),
        )
        storage = None if options.get("storage_api") == ["true"] else False  # None: Ibis creates the client
        super().do_connect(dataset_id=dataset, client=client, credentials=credentials, storage_client=storage)

    def _to_query(self, *args: Any, **options: Any) -> RowIterator:  # noqa: ANN401 - Ibis' arguments, passed on
        """Run a query; a table that is fetched as a whole comes over REST too, where the client would use gRPC."""
        rows = super()._to_query(*args, **options)
        rows.to_arrow = partial(rows.to_arrow, create_bqstorage_client=False)
        return rows
