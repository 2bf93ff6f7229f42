"""The YAML file of a source, the destination of a sync, and the errors before PyAirbyte starts."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from continuous_training import environments
from continuous_training.data.ingestion import destination, source, syncing
from continuous_training.errors import UsageError, UserError
from continuous_training.settings import load_settings
from continuous_training.stages import test as tests

Write = Callable[..., None]


@pytest.fixture
def write(workspace: Path) -> Write:  # noqa: ARG001 - for its working directory
    """Return a function that writes jenkins/ingest/shop.yaml."""
    source.FOLDER.mkdir(parents=True)

    def write(**keys: object) -> None:
        content = {"connector": "source-shop", "streams": {"orders": {}}} | keys
        (source.FOLDER / "shop.yaml").write_text(yaml.safe_dump(content))

    return write


def test_the_sources_of_this_project_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for path in source.FOLDER.glob("*.yaml"):
        folder = source.load_source(path.stem).environment
        assert folder is None or (source.FOLDER / folder / environments.LOCK).exists()
        assert folder is None or str(source.FOLDER / folder) in tests.ENVIRONMENTS


def test_an_unknown_source_is_rejected_with_the_names_of_the_others(write: Write) -> None:
    write()
    with pytest.raises(UsageError, match="there is no source ship; the sources in jenkins/ingest are: shop"):
        source.load_source("ship")


def test_a_path_is_rejected_as_a_source(write: Write) -> None:
    write()
    with pytest.raises(UsageError, match="there is no source"):
        source.load_source("../ingest/shop")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"streams": {}}, "streams: .* at least 1 item"),
        ({"stream": "orders"}, "stream: Extra inputs are not permitted"),
        ({"streams": {"orders": {"keys": ["id"]}}}, r"streams\.orders\.keys: Extra inputs are not permitted"),
    ],
)
def test_an_error_in_the_file_is_one_line(write: Write, keys: dict[str, object], problem: str) -> None:
    write(**keys)
    with pytest.raises(UserError, match=f"jenkins/ingest/shop.yaml: {problem}") as error:
        source.load_source("shop")
    assert "\n" not in str(error.value)


def test_secrets_anywhere_in_the_configuration_come_from_the_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config={"user": "me", "logins": [{"password": "secret_reference::SHOP"}, "secret_reference::BANK"]})
    monkeypatch.setenv("SHOP", "a")
    monkeypatch.setenv("BANK", "b")
    shop = source.load_source("shop")
    assert shop.secrets == {"SHOP": "a", "BANK": "b"}
    assert source.insert_secrets(shop.config, shop.secrets) == {"user": "me", "logins": [{"password": "a"}, "b"]}


def test_a_missing_secret_is_named(write: Write) -> None:
    write(config={"password": "secret_reference::SHOP_PASSWORD"})
    with pytest.raises(UserError, match="source-shop needs SHOP_PASSWORD: set it in the environment"):
        syncing.sync("shop", load_settings("toy"))


def test_a_missing_connector_is_named(write: Write) -> None:
    write()
    with pytest.raises(UserError, match="there is no executable source-shop: install it"):
        syncing.sync("shop", load_settings("toy"))


def test_a_source_is_synced_by_one_process_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(connector="true")
    monkeypatch.setattr(environments, "ensure_python", lambda _: Path("python"))
    syncing.WORK.mkdir()
    with (syncing.WORK / "shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="shop is being synced already"):
            syncing.sync("shop", load_settings("toy"))


def test_the_summary_ends_with_the_number_of_rows() -> None:
    result = syncing.SyncResult(source="shop", streams={"orders": 1200, "items": 34})
    assert result.summary.splitlines() == ["shop: 1,200 rows of orders, 34 rows of items", "1234"]
    assert syncing.SyncResult(source="shop", streams={"orders": 0}).summary.splitlines() == ["shop: nothing new", "0"]


@pytest.mark.parametrize(
    ("address", "schema", "cache", "arguments"),
    [
        (
            "duckdb://a/b.duckdb",
            None,
            "DuckDBCache",
            {"db_path": str(Path("a/b.duckdb").absolute()), "schema_name": "main"},
        ),
        ("duckdb:///a/b.duckdb", "raw", "DuckDBCache", {"db_path": "/a/b.duckdb", "schema_name": "raw"}),
        ("postgres://me@db/flights", None, "PostgresCache", {"host": "db", "port": 5432, "schema_name": "public"}),
        ("postgresql://me:a%2Fb@db:1/flights/raw", None, "PostgresCache", {"password": "a%2Fb", "schema_name": "raw"}),
        ("postgres://me:a+b@db/flights", "raw", "PostgresCache", {"password": "a%20b", "schema_name": "raw"}),
        (
            "snowflake://me:a%2Fb@acme/flights/raw?warehouse=small&role=etl",
            None,
            "SnowflakeCache",
            {"account": "acme", "username": "me", "password": "a/b", "warehouse": "small", "role": "etl"},
        ),
        ("bigquery://acme/flights", None, "BigQueryCache", {"project_name": "acme", "dataset_name": "flights"}),
    ],
)
def test_rows_are_written_to_the_schema_of_the_address_or_to_the_named_one(
    address: str, schema: str | None, cache: str, arguments: dict[str, object]
) -> None:
    target = destination.parse_destination(address, schema)
    assert target.cache == cache
    assert target.arguments.items() >= arguments.items()


def test_options_of_a_postgresql_address_reach_its_driver() -> None:
    target = destination.parse_destination("postgres://me@db/flights?sslmode=require&schema=raw", None)
    assert target.environment == {"PGSSLMODE": "require"}
    assert target.arguments["schema_name"] == "raw"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("redshift://me:s3cret@cluster:5439/flights", "cannot write to redshift://me:.*an Airbyte server"),
        ("postgres://me:s3cret@db/", "has no database"),
        ("postgres://me:s3cret@db/flights?sslmod=require", "has the option sslmod, which PyAirbyte does not support"),
        ("snowflake://me:s3cret@acme/flights/raw?role=etl", "has no warehouse"),
        ("bigquery://acme", "has no dataset"),
    ],
)
def test_an_unsuitable_address_is_rejected_and_its_password_is_not_shown(address: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        destination.parse_destination(address, None)
    assert "s3cret" not in str(error.value)
