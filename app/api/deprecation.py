"""Old names of the REST API, marked as deprecated in the schema of OpenAPI."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator

from app.deprecation import message

# The reasons for a rejection that have another name now.
_REASONS = {"surplus": "over_target"}
# A reason for a rejection as a filter takes it: an old name stands for the new one.
Reason = Annotated[str, AfterValidator(lambda reason: _REASONS.get(reason, reason))]


def old_field(old: str, new: str) -> dict:
    """Return the arguments of pydantic's `computed_field` for the old name of a field of a response.

    Args:
        old: The old name of the field.
        new: The name that the field has now.
    """
    return {"description": message(f"`{old}`", f"`{new}`"), "json_schema_extra": {"deprecated": True}}


# RFC 9745: when the old paths became deprecated, in seconds since 1970-01-01 UTC. It is 2026-11-25.
_DEPRECATED_SINCE = "@1795564800"


def old_paths(router: APIRouter, old: str, new: str) -> APIRouter:
    """Return a router that serves the routes of another router by their old paths.

    Every response has the header `Deprecation` (RFC 9745) and a `Link` to the new path (`successor-version`, RFC 5829).

    Args:
        router: The routes; those whose path begins with `new` are served.
        old: The start of the old paths, for example `/v1/reviews`.
        new: The start of the new paths, for example `/v1/maintenance-jobs`.
    """

    class OldPath(APIRoute):
        def get_route_handler(self) -> Callable:
            handle = super().get_route_handler()

            async def handle_and_announce(request: Request) -> Response:
                response = await handle(request)
                successor = new + request.url.path.removeprefix(old)
                response.headers["Deprecation"] = _DEPRECATED_SINCE
                response.headers["Link"] = f'<{successor}>; rel="successor-version"'
                return response

            return handle_and_announce

    aliases = APIRouter(route_class=OldPath)
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path.startswith(new):
            aliases.add_api_route(
                old + route.path.removeprefix(new),
                route.endpoint,
                methods=list(route.methods),
                # OpenAPI demands ids that are unique: the new path has the plain one.
                operation_id=f"{route.operation_id}ByOldPath",
                status_code=route.status_code,
                response_model=route.response_model,
                tags=route.tags,
                description=message(f"`{old}`", f"`{new}`"),
                deprecated=True,
            )
    return aliases
