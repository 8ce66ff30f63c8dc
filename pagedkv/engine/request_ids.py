"""Ids of new requests: those that callers choose, and the next free numbers."""

from collections.abc import Container
from itertools import count

from pagedkv.errors import DuplicateRequest, InvalidRequest
from pagedkv.request import RequestId

__all__ = ["RequestIds"]


class RequestIds:
    """Says which id a new request has.

    Args:
        live: ids of the requests that there are; looked at whenever one comes.
    """

    def __init__(self, live: Container[RequestId]) -> None:
        self._live = live
        self._numbers = count()

    def chosen(self, request_id: RequestId | None) -> RequestId:
        """This id, or for None the next free number.

        Raises:
            InvalidRequest: it is neither an int nor a str.
            DuplicateRequest: it is live.
        """
        if request_id is None:
            return next(number for number in self._numbers if number not in self._live)
        if type(request_id) not in (int, str):
            raise InvalidRequest(f"request_id is {request_id!r:.40}; it must be an int or a str")
        if request_id in self._live:
            raise DuplicateRequest(f"request {request_id!r} is live already; choose another id")
        return request_id
