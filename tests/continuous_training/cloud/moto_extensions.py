"""What AWS does and moto does not, as far as launching machines depends on it."""

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

from cloud.call import Answer, Call, Handler
from cloud.errors import Refusal, document
from cloud.required_permissions import ACCOUNT, REGION

UBUNTU = "/aws/service/canonical/ubuntu/"  # SSM's public parameters with the ids of Ubuntu's images
LONGEST_USER_DATA = 16 * 1024  # bytes, before Base64
CONSOLE = 64 * 1024  # bytes that EC2 keeps of it

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


@dataclass
class Amendments:
    """Answers in moto's place, or corrects what it answers.

    `prices` are in USD an hour on demand; `consoles` has the file to which each machine prints.
    """

    handler: Handler
    stock_ami: str = ""
    prices: dict[str, float] = field(
        default_factory=lambda: {"c7i.large": 0.10185, "c7i.xlarge": 0.2037, "c6i.xlarge": 0.194, "m6i.xlarge": 0.23}
    )
    consoles: dict[str, Path] = field(default_factory=dict)
    _launched: dict[tuple[str, str], tuple[dict[str, str], Answer]] = field(default_factory=dict)
    _launching: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, call: Call) -> Answer:
        amended: dict[tuple[str, str], Callable[[Call], Answer]] = {
            ("ec2", "RunInstances"): self._run_instances,
            ("ec2", "CreateImage"): self._create_image,
            ("ec2", "GetConsoleOutput"): self._console,
            ("pricing", "GetProducts"): self._products,
            ("ssm", "GetParameter"): self._parameter,
            ("s3", "PutObject"): self._put_object,
        }
        try:
            return amended.get((call.service, call.operation), self.handler)(call)
        except Refusal as refusal:
            return document(call, refusal)

    def _run_instances(self, call: Call) -> Answer:
        """Launch; a call with the token of one that succeeded is answered with its instances as they are now."""
        try:
            user_data = base64.b64decode(call.parameters.get("UserData", ""), validate=True)
        except ValueError:
            raise Refusal("InvalidParameterValue", "Invalid BASE64 encoding of user data.") from None
        if len(user_data) > LONGEST_USER_DATA:
            raise Refusal("InvalidParameterValue", "User data is limited to 16384 bytes")
        token = call.caller, call.parameters.get("ClientToken", "")
        with self._launching:
            if token not in self._launched:
                answer = self.handler(call)
                if answer.status == 200 and token[1]:
                    self._launched[token] = call.parameters, answer
                return answer
            asked, answer = self._launched[token]
        if asked != call.parameters:
            message = (
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
            )
            raise Refusal("IdempotentParameterMismatch", message)
        return Answer(answer.status, answer.headers, _with_present_states(answer.body))

    def _create_image(self, call: Call) -> Answer:
        """Leave out the tags of snapshots, on which moto breaks."""
        snapshots = {
            name.rpartition(".")[0]
            for name, value in call.parameters.items()
            if name.startswith("TagSpecification.") and value == "snapshot"
        }
        kept = {
            name: value
            for name, value in call.parameters.items()
            if not any(name.startswith(f"{specification}.") for specification in snapshots)
        }
        call.body = urlencode({"Action": call.operation, **kept}).encode()
        return self.handler(call)

    def _console(self, call: Call) -> Answer:
        instance = call.parameters["InstanceId"]
        answer = self.handler(call)
        if answer.status != 200:
            return answer
        path = self.consoles.get(instance)
        message = path.read_bytes()[-CONSOLE:] if path and path.exists() else b""
        output = f"<output>{base64.b64encode(message).decode()}</output>"
        return Answer(
            200, answer.headers, re.sub(rb"<output>.*</output>", output.encode(), answer.body, flags=re.DOTALL)
        )

    def _products(self, call: Call) -> Answer:
        """Answer with the price list's documents, cut down to what tells the price."""
        wanted = {given["Field"]: given["Value"] for given in call.parameters.get("Filters", [])}
        kinds = [wanted["instanceType"]] if "instanceType" in wanted else list(self.prices)
        products = [json.dumps(_product(kind, self.prices[kind])) for kind in kinds if kind in self.prices]
        body = json.dumps({"FormatVersion": "aws_v1", "PriceList": products})
        return Answer(200, [("Content-Type", "application/x-amz-json-1.1")], body.encode())

    def _parameter(self, call: Call) -> Answer:
        name = call.parameters["Name"]
        if not name.startswith(UBUNTU):
            return self.handler(call)
        found = {"Name": name, "Type": "String", "Value": self.stock_ami, "Version": 1, "DataType": "aws:ec2:image"}
        body = json.dumps({"Parameter": found})
        return Answer(200, [("Content-Type", "application/x-amz-json-1.1")], body.encode())

    def _put_object(self, call: Call) -> Answer:
        if "content-length" not in call.headers:
            message = "A header you provided implies functionality that is not implemented: Transfer-Encoding"
            raise Refusal("NotImplemented", message, 501)
        return self.handler(call)


def _with_present_states(body: bytes) -> bytes:
    ids = re.findall(rb"<instanceId>(i-\w+)</instanceId>", body)
    instances = [ec2_backends[ACCOUNT][REGION].get_instance(found.decode()) for found in ids]
    states = iter(f"<code>{one.state_code}</code><name>{one.state}</name>".encode() for one in instances)
    return re.sub(
        rb"<instanceState>.*?</instanceState>",
        lambda _: b"<instanceState>%s</instanceState>" % next(states),
        body,
        flags=re.DOTALL,
    )


def _product(kind: str, usd: float) -> dict[str, object]:
    sku, offer, rate = "ABCDEFGHIJKLMNOP", "JRTCKXETXF", "6YS6EN2CT7"
    dimension = {
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${usd} per On Demand Linux {kind} Instance Hour",
        "appliesTo": [],
        "rateCode": f"{sku}.{offer}.{rate}",
        "pricePerUnit": {"USD": f"{usd:.10f}"},
    }
    terms = {"offerTermCode": offer, "sku": sku, "priceDimensions": {f"{sku}.{offer}.{rate}": dimension}}
    attributes = {"instanceType": kind, "regionCode": REGION, "operatingSystem": "Linux", "tenancy": "Shared"}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {f"{sku}.{offer}": {**terms, "termAttributes": {}}}},
        "version": "20260101000000",
        "publicationDate": "2026-01-01T00:00:00Z",
    }
