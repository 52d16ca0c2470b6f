"""Runs inside vLLM: asks for the API key wherever vLLM itself does not. Standard library only.

vLLM 0.32.0 guards /v1, /v2, /inference and /cohere. /invocations generates just as /v1 does, /tokenize and
others read the model, and all of them answer without the key. Health and metrics stay open, as they are
for probes; and OPTIONS, as with vLLM: a browser asks it before it may send the key, and nothing is
generated. Given as `--middleware vllm_gate.Gate`.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/health", "/metrics")
REFUSAL = b'{"error": "Unauthorized"}'


class Gate:
    """An ASGI middleware; the key is VLLM_API_KEY, as for vLLM itself."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.expected = b"Bearer " + os.environ["VLLM_API_KEY"].encode()

    def admits(self, scope: Scope) -> bool:
        """Whether a request may pass."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            return True
        if scope.get("method") == "OPTIONS":
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return hmac.compare_digest(scheme.capitalize() + b" " + key, self.expected)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.admits(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})
