"""Who calls, and whether they may: every signature is verified and every permission asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto.iam.access_control import AssumedRoleAccessKey, CreateAccessKeyFailure, IAMUserAccessKey, create_access_key

from cloud.call import Answer, Call, Handler
from cloud.errors import Refusal, document, protocol
from cloud.iam_policies import Document, Permission, allowed
from cloud.required_permissions import ACCOUNT, listing, needed
from cloud.signature import NO_KEY, NO_TOKEN, refusal, verify

TEST = "AKIATESTTESTTESTTEST"  # the key with which a test itself looks at the cloud: it may do anything

Caller = IAMUserAccessKey | AssumedRoleAccessKey


class Gate:
    """Lets a call through to `handler`, and the test's own calls to `unhindered`.

    `denied` keeps what was refused, in words. Policies are asked for once `enforced`, signatures always.
    """

    def __init__(self, handler: Handler, unhindered: Handler, now: Callable[[Call], datetime]) -> None:
        self.enforced = False
        self.denied: list[tuple[Call, str]] = []
        self._handler = handler
        self._unhindered = unhindered
        self._now = now

    def __call__(self, call: Call) -> Answer:
        if call.access_key == TEST:
            return self._unhindered(call)
        try:
            documents = self._admit(call)
        except Refusal as refused:
            self.denied.append((call, f"{refused.code}: {refused.message}"))
            return document(call, refused)
        answer = self._handler(call)
        if answer.status == 404 and call.operation in ("GetObject", "HeadObject") and self.enforced:
            return self._absent(call, documents, answer)
        return answer

    def _admit(self, call: Call) -> list[Document]:
        if not call.access_key:
            raise Refusal("AccessDenied", "Access Denied", 403)
        caller = self._caller(call)
        call.caller = caller.arn.rpartition("/")[2]
        credentials = caller.create_credentials()
        verify(call, credentials.secret_key, self._now(call))
        documents = [_document(policy) for policy in caller.collect_policies()]
        for permission in needed(call) if self.enforced else ():
            if not allowed(documents, permission):
                raise _unauthorized(call, caller, permission)
        return documents

    def _caller(self, call: Call) -> Caller:
        token = call.headers.get("x-amz-security-token")
        headers = {"X-Amz-Security-Token": token} if token else {}
        try:
            return create_access_key(ACCOUNT, "aws", call.access_key, headers)
        except CreateAccessKeyFailure as failure:
            if failure.reason == "InvalidToken":
                raise refusal(call, NO_TOKEN, "The provided token is malformed or otherwise invalid.") from None
            raise refusal(call, NO_KEY, "The AWS Access Key Id you provided does not exist in our records.") from None

    def _absent(self, call: Call, documents: list[Document], answer: Answer) -> Answer:
        if allowed(documents, listing(call)):
            return answer
        self.denied.append((call, f"{listing(call)}: so an object that is not there cannot be told from a secret one"))
        return document(call, Refusal("AccessDenied", "Access Denied", 403))


def _document(policy: Any) -> Document:
    """Return the document of a policy in any of the forms in which moto gives them."""
    if hasattr(policy, "versions"):
        policy = next(version.document for version in policy.versions if version.is_default)
    found: Document = json.loads(policy if isinstance(policy, str) else policy["policy_document"])
    return found


def _unauthorized(call: Call, caller: Caller, permission: Permission) -> Refusal:
    message = f"User: {caller.arn} is not authorized to perform: {permission}"
    match protocol(call.service):
        case "ec2":
            return Refusal("UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", 403)
        case "json":
            return Refusal("AccessDeniedException", message, 400)
    return Refusal("AccessDenied", message, 403)
