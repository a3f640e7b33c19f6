"""/v1/models: the given ones and the tuned ones."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier.server import catalogue
from luthier.server.control import caller, control_of
from luthier.server.errors import ApiError, not_found


def list_models(request: Request) -> Response:
    """List the models that a project may name."""
    found = catalogue.listed(control_of(request), caller(request).project_id, request.app.state.started)
    return JSONResponse({"object": "list", "data": found})


def retrieve(request: Request) -> Response:
    """Show a model."""
    name = request.path_params["model"]
    found = catalogue.one(control_of(request), caller(request).project_id, name, request.app.state.started)
    if found is None:
        raise not_found("model", name, "model")
    return JSONResponse(found)


def delete(request: Request) -> Response:
    """Take a tuned model out of the list."""
    name, control = request.path_params["model"], control_of(request)
    if name == catalogue.STARTER or name in control.serving.models:
        raise ApiError(
            403, f"The model {name!r} is given by the server's settings.", param="model", code="model_not_yours"
        )
    if not control.jobs.delete_model(caller(request).project_id, name):
        if control.runs.find(name) is not None:
            message = f"The model {name!r} is a run in a folder of the server, and belongs to all projects."
            raise ApiError(403, message, param="model", code="model_not_yours")
        raise not_found("model", name, "model")
    return JSONResponse({"id": name, "object": "model", "deleted": True})
