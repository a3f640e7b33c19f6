"""Errors in OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, with the status that its clients go by."""

from starlette.responses import JSONResponse

from luthier.core.errors import LuthierError
from luthier.core.types import JsonObject

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error", 429: "rate_limit_error"}


class ApiError(LuthierError):
    """What a client is told; `param` names the argument that is wrong, `code` is for programs."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def body(self) -> JsonObject:
        """Return what the client is told."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the answer; the client's own retries are left to those errors that another try can mend."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        if self.retry_after is None:
            headers["x-should-retry"] = "false"
        return JSONResponse(self.body(), self.status, headers)


def not_found(kind: str, name: str, param: str = "id") -> ApiError:
    """Return the error for an id that does not exist, or belongs to another project, which must look the same."""
    return ApiError(
        404, f"No such {kind}: {name}", param=param, code=f"{kind.replace(' ', '_').replace('-', '_')}_not_found"
    )


def not_here(what: str, instead: str, param: str | None = None) -> ApiError:
    """Return the error for a part of OpenAI's API that this server does not have."""
    return ApiError(400, f"{what} is not supported by this server. {instead}", param=param, code="not_supported")
