"""Alibaba Cloud through its official SDKs: credentials, endpoints, repeats, errors in words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from builder.launch.deployment import Deployment
from entrypoint.common import address
from entrypoint.common.errors import Refused
from entrypoint.common.language import _

Result = TypeVar("Result")

ATTEMPTS: Final = 5
PAUSE: Final = 1.0  # seconds before the first repeat, doubled before each further one
NO_ANSWER: Final = "NoAnswer"  # beside the cloud's own codes
CONNECT, READ = 10_000, 30_000  # milliseconds


def misfits(endpoint: str) -> Iterator[tuple[str, str]]:
    """Look at the address of a private cloud, which its SDK would stumble over much later."""
    whole = endpoint if "://" in endpoint else f"https://{endpoint}"
    if endpoint and address.parse(whole) is None:
        yield "endpoint", _("An endpoint is a host, or http:// or https:// and a host.")


def configuration(deployment: Deployment, endpoint: str) -> Any:
    """Return what a client of one product needs; `endpoint` is empty for the region's own.

    Raises Refused if there are no credentials.
    """
    from alibabacloud_credentials.client import Client
    from alibabacloud_credentials.exceptions import CredentialException
    from alibabacloud_tea_openapi.models import Config

    logging.getLogger("credentials").disabled = True  # it logs what it raises, three times over
    scheme, _separator, host = endpoint.rpartition("://")
    try:
        credential = Client()
        credential.get_credential()
    except CredentialException as error:
        raise Refused(
            _("There are no credentials for Alibaba Cloud."),
            str(error),
            _("Set ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET, or run: aliyun configure"),
        ) from None
    return Config(
        credential=credential,
        region_id=deployment.region,
        endpoint=host or None,
        protocol=scheme or "https",
        connect_timeout=CONNECT,
        read_timeout=READ,
    )


def call(operation: Callable[..., Result], *arguments: Any) -> Result:
    """Call an operation that may be repeated, and repeat it where that can help.

    It can if the cloud throttles, fails or does not answer in time. Raises Refused with the cloud's
    words.
    """
    import tenacity

    try:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(PAUSE),
            reraise=True,
        )(operation, *arguments)
    except Exception as error:
        if not (code(error) or _is_no_answer(error)):
            raise
        raise Refused(
            _("Alibaba Cloud refused the request: {code}.").format(code=code(error) or NO_ANSWER),
            str(getattr(error, "message", "") or error),
            _("Nothing of this launch is left behind; what was there before still is."),
        ) from error


def find(operation: Callable[..., Result], *arguments: Any) -> Result | None:
    """Call an operation that looks at one thing; return None if there is no such thing."""
    try:
        return call(operation, *arguments)
    except Refused as refused:
        if status(refused.__cause__) == 404:  # noqa: PLR2004 - as HTTP has it
            return None
        raise


def code(error: BaseException | None) -> str:
    """Return the cloud's code of an error, "" for other errors."""
    return str(getattr(error, "code", "") or "")


def status(error: BaseException | None) -> int:
    """Return the HTTP status of the cloud's answer, 0 for other errors."""
    return int(getattr(error, "status_code", None) or getattr(error, "statusCode", None) or 0)


def _may_pass(error: BaseException) -> bool:
    return code(error).startswith("Throttling") or status(error) >= 500 or _is_no_answer(error)  # noqa: PLR2004


def _is_no_answer(error: BaseException) -> bool:
    """Tell whether a request or its answer was lost; the SDKs wrap such errors in their own."""
    import requests

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, requests.RequestException | TimeoutError | ConnectionError):
            return True
        inner = getattr(cause, "inner_exception", None)
        cause = inner or cause.__cause__ or cause.__context__
    return False
