"""The boto3 clients: with timeouts, bounded retries, one-line errors, and AWS's clock."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from continuous_training.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.awsrequest import AWSResponse

MAX_ATTEMPTS = 6  # of each call, the first included; botocore waits up to 20 s between two
PRICING_REGION = "us-east-1"  # whose Pricing API has the prices of all regions


class Aws:
    """One client for each service that the code uses, created at first use.

    Write each call as `aws.<service>.<method>(`: a test compares these calls with jenkins/iam-policy.json.
    """

    def __init__(self) -> None:
        self._clock: tuple[datetime, float] | None = (
            None  # AWS's time in its last response, and the monotonic time then
        )

    @cached_property
    def ec2(self) -> Any:  # noqa: ANN401 - boto3 creates its clients' classes at run time
        """Instances, images and volumes."""
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
        """Prices of instance types."""
        return self._client("pricing", PRICING_REGION)

    @property
    def region(self) -> str:
        """The region that boto3 found."""
        return str(self.ec2.meta.region_name)

    @property
    def now(self) -> datetime:
        """The time by AWS's clock, from the `Date` of its last response: this machine's clock may be wrong."""
        if self._clock is None:
            return datetime.now(UTC)
        date, monotonic = self._clock
        return date + timedelta(seconds=time.monotonic() - monotonic)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401
        import boto3

        return boto3.Session()

    def _client(self, service: str, region: str | None = None) -> Any:  # noqa: ANN401
        from botocore.config import Config

        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
            s3={"addressing_style": "path"},  # as instances address objects, whatever the bucket's name is
        )
        with translate_errors(f"create the client of {service.upper()}"):
            client = self._session.client(service, region_name=region, config=config)
        client.meta.events.register("after-call", self._set_clock)
        return client

    def _set_clock(self, http_response: AWSResponse, **_: object) -> None:
        if date := http_response.headers.get("date"):
            self._clock = parsedate_to_datetime(date).astimezone(UTC), time.monotonic()


@contextmanager
def translate_errors(action: str) -> Iterator[None]:
    """Turn an error of AWS, or of the connection to it, into a UserError that names the action that failed.

    Args:
        action: completes the sentence 'cannot …', such as 'list the instances'.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        message = error.response["Error"].get("Message", "")
        raise UserError(f"cannot {action}: AWS answers {error_code(error)}: {message}") from error
    except (BotoCoreError, Boto3Error, ResponseParserError) as error:
        raise UserError(f"cannot {action}: {error}") from error


@contextmanager
def ignore_errors(codes: set[str]) -> Iterator[None]:
    """Ignore errors with one of these codes, which mean that the resource is already in the requested state."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error_code(error) not in codes:
            raise


def error_code(error: Any) -> str:  # noqa: ANN401 - botocore's ClientError, whose import takes half a second
    """Return AWS's code of an error, such as 'InsufficientInstanceCapacity'."""
    return str(error.response["Error"]["Code"])
