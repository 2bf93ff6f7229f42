"""Authentication and authorization of calls: signatures and permissions."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto.iam.access_control import AssumedRoleAccessKey, CreateAccessKeyFailure, IAMUserAccessKey, create_access_key

from cloud.call import Call, Handler, Response
from cloud.errors import ApiError, error_response, protocol
from cloud.iam_policies import Document, Permission, is_allowed
from cloud.required_permissions import ACCOUNT, list_permission, required_permissions
from cloud.signature import NO_KEY, NO_TOKEN, credentials_error, verify

TEST_KEY = "AKIATESTTESTTESTTEST"  # of the test itself, which has all permissions

Caller = IAMUserAccessKey | AssumedRoleAccessKey


class Authorizer:
    """Passes authorized calls to `handler`, and the test's own calls to `test_handler`.

    `denied` has the refused calls with the errors. Signatures are always verified, policies if they are `enforced`.
    """

    def __init__(self, handler: Handler, test_handler: Handler, now: Callable[[Call], datetime]) -> None:
        self.enforced = False
        self.denied: list[tuple[Call, str]] = []
        self._handler = handler
        self._test_handler = test_handler
        self._now = now

    def __call__(self, call: Call) -> Response:
        if call.access_key == TEST_KEY:
            return self._test_handler(call)
        try:
            documents = self._authorize(call)
        except ApiError as error:
            self.denied.append((call, f"{error.code}: {error.message}"))
            return error_response(call, error)
        response = self._handler(call)
        if response.status == 404 and call.operation in ("GetObject", "HeadObject") and self.enforced:
            return self._hide_missing_object(call, documents, response)
        return response

    def _authorize(self, call: Call) -> list[Document]:
        if not call.access_key:
            raise ApiError("AccessDenied", "Access Denied", 403)
        caller = self._find_caller(call)
        call.caller = caller.arn.rpartition("/")[2]
        credentials = caller.create_credentials()
        verify(call, credentials.secret_key, self._now(call))
        documents = [_read_document(policy) for policy in caller.collect_policies()]
        for permission in required_permissions(call) if self.enforced else ():
            if not is_allowed(documents, permission):
                raise _unauthorized_error(call, caller, permission)
        return documents

    def _find_caller(self, call: Call) -> Caller:
        token = call.headers.get("x-amz-security-token")
        headers = {"X-Amz-Security-Token": token} if token else {}
        try:
            return create_access_key(ACCOUNT, "aws", call.access_key, headers)
        except CreateAccessKeyFailure as failure:
            if failure.reason == "InvalidToken":
                raise credentials_error(
                    call, NO_TOKEN, "The provided token is malformed or otherwise invalid."
                ) from None
            raise credentials_error(
                call, NO_KEY, "The AWS Access Key Id you provided does not exist in our records."
            ) from None

    def _hide_missing_object(self, call: Call, documents: list[Document], response: Response) -> Response:
        if is_allowed(documents, list_permission(call)):
            return response
        self.denied.append(
            (call, f"{list_permission(call)}: required to distinguish a missing object from a secret one")
        )
        return error_response(call, ApiError("AccessDenied", "Access Denied", 403))


def _read_document(policy: Any) -> Document:
    """Return the document of a policy, in any of moto's representations."""
    if hasattr(policy, "versions"):
        policy = next(version.document for version in policy.versions if version.is_default)
    document: Document = json.loads(policy if isinstance(policy, str) else policy["policy_document"])
    return document


def _unauthorized_error(call: Call, caller: Caller, permission: Permission) -> ApiError:
    message = f"User: {caller.arn} is not authorized to perform: {permission}"
    match protocol(call.service):
        case "ec2":
            return ApiError(
                "UnauthorizedOperation", f"You are not authorized to perform this operation. {message}", 403
            )
        case "json":
            return ApiError("AccessDeniedException", message, 400)
    return ApiError("AccessDenied", message, 403)
