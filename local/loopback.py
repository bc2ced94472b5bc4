"""Which HTTP requests the servers of one machine answer: those that were meant for this machine."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSED = (
    "This server answers requests to localhost or 127.0.0.1 only, on any port. "
    "From another machine, forward the port: ssh -L 8080:127.0.0.1:<its port> <this machine>\n"
)


class LoopbackOnly:
    """Lets requests through whose Host is this machine, and whose Origin, if there is one, is too.

    There is no login. A page on the internet can let the browser send requests to this machine, directly (then Origin
    names the page) or under a name of its own that it makes resolve to 127.0.0.1 (then Host has that name).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 403."""
        if scope["type"] in ("http", "websocket") and not _is_for_this_machine(Headers(scope=scope)):
            await PlainTextResponse(_REFUSED, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_for_this_machine(headers: Headers) -> bool:
    hosts = [f"//{host}" for host in headers.getlist("host")]
    return len(hosts) == 1 and all(_is_loopback(address) for address in hosts + headers.getlist("origin"))


def _is_loopback(address: str) -> bool:
    try:
        name = urlsplit(address).hostname
        return name == "localhost" or ip_address(name or "").is_loopback
    except ValueError:  # neither a name nor an address that we know
        return False
