"""What a source is, where its rows go, and what is refused before PyAirbyte is asked anything."""

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
def write(workspace: Path) -> Write:  # noqa: ARG001 - it is where the source is written
    """What writes jenkins/ingest/shop.yaml."""
    source.FOLDER.mkdir(parents=True)

    def write(**message: object) -> None:
        whole = {"connector": "source-shop", "streams": {"orders": {}}} | message
        (source.FOLDER / "shop.yaml").write_text(yaml.safe_dump(whole))

    return write


def test_the_sources_of_this_project_are_well_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for path in source.FOLDER.glob("*.yaml"):
        found = source.load(path.stem)
        assert found.environment is None or (source.FOLDER / found.environment / environments.LOCK).exists()
        assert found.environment is None or str(source.FOLDER / found.environment) in tests.APART


def test_an_unknown_source_is_refused_with_those_there_are(write: Write) -> None:
    write()
    with pytest.raises(UsageError, match="there is no source ship; those in jenkins/ingest are: shop"):
        source.load("ship")


def test_a_path_is_no_source(write: Write) -> None:
    write()
    with pytest.raises(UsageError, match="there is no source"):
        source.load("../ingest/shop")


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"streams": {}}, "streams: .* at least 1 item"),
        ({"stream": "orders"}, "stream: Extra inputs are not permitted"),
        ({"streams": {"orders": {"keys": ["id"]}}}, r"streams\.orders\.keys: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_in_the_file_is_named_in_one_line(write: Write, message: dict[str, object], problem: str) -> None:
    write(**message)
    with pytest.raises(UserError, match=f"jenkins/ingest/shop.yaml: {problem}") as found:
        source.load("shop")
    assert "\n" not in str(found.value)


def test_secrets_are_taken_from_the_environment_wherever_they_stand(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(config={"user": "me", "logins": [{"password": "secret_reference::SHOP"}, "secret_reference::BANK"]})
    monkeypatch.setenv("SHOP", "a")
    monkeypatch.setenv("BANK", "b")
    shop = source.load("shop")
    assert shop.secrets == {"SHOP": "a", "BANK": "b"}
    assert source.filled(shop.config, shop.secrets) == {"user": "me", "logins": [{"password": "a"}, "b"]}


def test_a_secret_that_is_not_set_is_asked_for_by_its_name(write: Write) -> None:
    write(config={"password": "secret_reference::SHOP_PASSWORD"})
    with pytest.raises(UserError, match="source-shop wants SHOP_PASSWORD: set it in the environment"):
        syncing.sync("shop", load_settings("toy"))


def test_a_connector_that_is_not_there_is_named(write: Write) -> None:
    write()
    with pytest.raises(UserError, match="there is no executable source-shop: install it"):
        syncing.sync("shop", load_settings("toy"))


def test_a_source_is_synced_once_at_a_time(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(connector="true")
    monkeypatch.setattr(environments, "python", lambda _: Path("python"))
    syncing.WORK.mkdir()
    with (syncing.WORK / "shop.turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="shop is being synced already"):
            syncing.sync("shop", load_settings("toy"))


def test_what_is_said_ends_with_the_number_of_rows() -> None:
    synced = syncing.Synced(source="shop", streams={"orders": 1200, "items": 34})
    assert synced.summary.splitlines() == ["shop: 1,200 rows of orders, 34 rows of items", "1234"]
    assert syncing.Synced(source="shop", streams={"orders": 0}).summary.splitlines() == ["shop: nothing new", "0"]


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
def test_rows_go_where_the_address_reads_or_into_the_named_schema(
    address: str, schema: str | None, cache: str, arguments: dict[str, object]
) -> None:
    into = destination.of(address, schema)
    assert into.cache == cache
    assert into.arguments.items() >= arguments.items()


def test_what_postgresql_is_asked_behind_the_question_mark_reaches_its_driver() -> None:
    into = destination.of("postgres://me@db/flights?sslmode=require&schema=raw", None)
    assert into.environment == {"PGSSLMODE": "require"}
    assert into.arguments["schema_name"] == "raw"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("redshift://me:s3cret@cluster:5439/flights", "cannot write to redshift://me:.*an Airbyte server"),
        ("postgres://me:s3cret@db/", "does not say its database"),
        ("postgres://me:s3cret@db/flights?sslmod=require", "says sslmod, which cannot be passed on"),
        ("snowflake://me:s3cret@acme/flights/raw?role=etl", "does not say its warehouse"),
        ("bigquery://acme", "does not say its dataset"),
    ],
)
def test_an_address_to_which_nothing_can_be_written_is_refused_without_its_password(address: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as found:
        destination.of(address, None)
    assert "s3cret" not in str(found.value)
