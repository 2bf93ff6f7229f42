"""What AWS does and moto does not, if launching instances depends on it."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from moto.ec2.models import ec2_backends

from cloud.call import Call, Handler, Response
from cloud.errors import ApiError, error_response
from cloud.required_permissions import ACCOUNT, REGION

PUBLIC_PARAMETERS = "/aws/service/"  # of SSM, with the ids of stock images
MAX_USER_DATA = 16 * 1024  # bytes, before Base64
MAX_CONSOLE = 64 * 1024  # bytes

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass
class MotoExtensions:
    """Responds in place of moto, or corrects its response.

    `stock_amis` are by the names of SSM's parameters, `prices` are in USD per hour on demand; `consoles` has the file
    with each machine's output.
    """

    handler: Handler
    stock_amis: dict[str, str] = field(default_factory=dict)
    prices: dict[str, float] = field(
        default_factory=lambda: {
            "c7i.large": 0.10185,
            "c7i.xlarge": 0.2037,
            "c6i.xlarge": 0.194,
            "m6i.xlarge": 0.23,
            "g6.xlarge": 1.0059,
        }
    )
    consoles: dict[str, Path] = field(default_factory=dict)
    _launched: dict[tuple[str, str], tuple[dict[str, str], Response]] = field(default_factory=dict)
    _launching: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, call: Call) -> Response:
        operations: dict[tuple[str, str], Callable[[Call], Response]] = {
            ("ec2", "RunInstances"): self._run_instances,
            ("ec2", "CreateImage"): self._create_image,
            ("ec2", "GetConsoleOutput"): self._console,
            ("pricing", "GetProducts"): self._products,
            ("ssm", "GetParameter"): self._parameter,
            ("s3", "PutObject"): self._put_object,
        }
        try:
            return operations.get((call.service, call.operation), self.handler)(call)
        except ApiError as error:
            return error_response(call, error)

    def _run_instances(self, call: Call) -> Response:
        """Launch; a repeated client token returns the same instances in their present states."""
        try:
            user_data = base64.b64decode(call.parameters.get("UserData", ""), validate=True)
        except ValueError:
            raise ApiError("InvalidParameterValue", "Invalid BASE64 encoding of user data.") from None
        if len(user_data) > MAX_USER_DATA:
            raise ApiError("InvalidParameterValue", "User data is limited to 16384 bytes")
        token = call.caller, call.parameters.get("ClientToken", "")
        with self._launching:
            if token not in self._launched:
                response = self.handler(call)
                if response.status == 200 and token[1]:
                    self._launched[token] = call.parameters, response
                return response
            parameters, response = self._launched[token]
        if parameters != call.parameters:
            message = (
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
            )
            raise ApiError("IdempotentParameterMismatch", message)
        return Response(response.status, response.headers, _with_present_states(response.body))

    def _create_image(self, call: Call) -> Response:
        """Remove the tags of snapshots, which moto does not support."""
        snapshots = {
            name.rpartition(".")[0]
            for name, value in call.parameters.items()
            if name.startswith("TagSpecification.") and value == "snapshot"
        }
        parameters = {
            name: value
            for name, value in call.parameters.items()
            if not any(name.startswith(f"{specification}.") for specification in snapshots)
        }
        call.body = urlencode({"Action": call.operation, **parameters}).encode()
        return self.handler(call)

    def _console(self, call: Call) -> Response:
        instance = call.parameters["InstanceId"]
        response = self.handler(call)
        if response.status != 200:
            return response
        path = self.consoles.get(instance)
        message = path.read_bytes()[-MAX_CONSOLE:] if path and path.exists() else b""
        output = f"<output>{base64.b64encode(message).decode()}</output>"
        return Response(
            200, response.headers, re.sub(rb"<output>.*</output>", output.encode(), response.body, flags=re.DOTALL)
        )

    def _products(self, call: Call) -> Response:
        """Return the documents of the price list, reduced to the price."""
        filters = {item["Field"]: item["Value"] for item in call.parameters.get("Filters", [])}
        types = [filters["instanceType"]] if "instanceType" in filters else list(self.prices)
        products = [json.dumps(_product(name, self.prices[name])) for name in types if name in self.prices]
        body = json.dumps({"FormatVersion": "aws_v1", "PriceList": products})
        return Response(200, [("Content-Type", "application/x-amz-json-1.1")], body.encode())

    def _parameter(self, call: Call) -> Response:
        name = call.parameters["Name"]
        if not name.startswith(PUBLIC_PARAMETERS):
            return self.handler(call)
        if name not in self.stock_amis:
            raise ApiError("ParameterNotFound", f"Parameter {name} not found.")
        value = self.stock_amis[name]
        parameter = {"Name": name, "Type": "String", "Value": value, "Version": 1, "DataType": "aws:ec2:image"}
        body = json.dumps({"Parameter": parameter})
        return Response(200, [("Content-Type", "application/x-amz-json-1.1")], body.encode())

    def _put_object(self, call: Call) -> Response:
        if "content-length" not in call.headers:
            message = "A header you provided implies functionality that is not implemented: Transfer-Encoding"
            raise ApiError("NotImplemented", message, 501)
        return self.handler(call)


def _with_present_states(body: bytes) -> bytes:
    ids = re.findall(rb"<instanceId>(i-\w+)</instanceId>", body)
    instances = [ec2_backends[ACCOUNT][REGION].get_instance(instance_id.decode()) for instance_id in ids]
    states = iter(f"<code>{instance.state_code}</code><name>{instance.state}</name>".encode() for instance in instances)
    return re.sub(
        rb"<instanceState>.*?</instanceState>",
        lambda _: b"<instanceState>%s</instanceState>" % next(states),
        body,
        flags=re.DOTALL,
    )


def _product(instance_type: str, usd: float) -> dict[str, object]:
    sku, offer, rate = "ABCDEFGHIJKLMNOP", "JRTCKXETXF", "6YS6EN2CT7"
    dimension = {
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${usd} per On Demand Linux {instance_type} Instance Hour",
        "appliesTo": [],
        "rateCode": f"{sku}.{offer}.{rate}",
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    terms = {"offerTermCode": offer, "sku": sku, "priceDimensions": {f"{sku}.{offer}.{rate}": dimension}}
    attributes = {"instanceType": instance_type, "regionCode": REGION, "operatingSystem": "Linux", "tenancy": "Shared"}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {f"{sku}.{offer}": {**terms, "termAttributes": {}}}},
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    }
