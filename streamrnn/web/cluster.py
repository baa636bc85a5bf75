"""What a member of a cluster shows in place of the page of streams: all members, and who has which shard."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

_PAGE = Path(__file__).parent / "static" / "cluster.html"


@dataclass(frozen=True)
class ClusterViews:
    """``status`` returns what there is to see, JSON-ready, and must not block."""

    status: Callable[[], dict[str, Any]]


def cluster_routes(views: ClusterViews) -> list[Route]:
    """The page, and /api/cluster that it asks."""

    async def page(request: Request) -> Response:
        return FileResponse(_PAGE)

    async def status(request: Request) -> Response:
        return JSONResponse(views.status())

    return [Route("/", page), Route("/api/cluster", status)]
