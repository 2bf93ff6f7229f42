"""AWS as boto3 reaches it: with timeouts, bounded retries, errors in one line, and AWS's own clock."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from botocore.awsrequest import AWSResponse

ATTEMPTS = 6  # of each call, in all; botocore waits up to 20 s between two
PRICES_ARE_IN = "us-east-1"  # the Pricing API answers for all regions from there


class Aws:
    """A client for each service that is asked, made when it is.

    Each of its calls is written out as `aws.<service>.<method>(`: a test holds jenkins/iam-policy.json against them.
    """

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None  # what AWS's clock said last, and when by ours

    @cached_property
    def ec2(self) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes at run time
        """Machines."""
        return self._client("ec2")

    @cached_property
    def s3(self) -> Any:  # noqa: ANN401
        """Files."""
        return self._client("s3")

    @cached_property
    def ssm(self) -> Any:  # noqa: ANN401
        """Parameters: the id of the newest stock image."""
        return self._client("ssm")

    @cached_property
    def pricing(self) -> Any:  # noqa: ANN401
        """What machines cost."""
        return self._client("pricing", PRICES_ARE_IN)

    @property
    def region(self) -> str:
        """The region that boto3 found."""
        return str(self.ec2.meta.region_name)

    @property
    def now(self) -> datetime:
        """The time by AWS's clock, as its last answer told it: this machine's may be wrong."""
        if self._heard is None:
            return datetime.now(UTC)
        told, heard = self._heard
        return told + timedelta(seconds=time.monotonic() - heard)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        import boto3

        return boto3.Session()

    def _client(self, service: str, region: str | None = None) -> Any:  # noqa: ANN401
        from botocore.config import Config

        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            s3={"addressing_style": "path"},  # instances address objects so too, whatever the bucket is called
        )
        with saying(f"ask {service.upper()}"):
            client = self._session.client(service, region_name=region, config=config)
        client.meta.events.register("after-call", self._hear)
        return client

    def _hear(self, http_response: AWSResponse, **_: object) -> None:
        if told := http_response.headers.get("date"):
            self._heard = parsedate_to_datetime(told).astimezone(UTC), time.monotonic()


@contextmanager
def saying(what: str) -> Iterator[None]:
    """Turn an error of AWS's or of the way to it into a UserError that says what could not be done."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise UserError(f"AWS does not {what}: {code(error)}: {error.response['Error'].get('Message', '')}") from error
    except (BotoCoreError, Boto3Error, ResponseParserError) as error:
        raise UserError(f"cannot {what}: {error}") from error


@contextmanager
def unless(codes: set[str]) -> Iterator[None]:
    """Let an error with one of these codes pass: what was asked for is so already."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if code(error) not in codes:
            raise


def code(error: Any) -> str:  # noqa: ANN401 - botocore's ClientError, whose import costs half a second
    """Return AWS's code of an error, such as InsufficientInstanceCapacity."""
    return str(error.response["Error"]["Code"])


def tagged(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of something that EC2 described, by name."""
    return {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
