"""Endpoint: a model that answers, wherever it runs, and all that must be known to ask it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.chat import ChatTemplate
from harness.engines import Engine
from harness.types import Sampling
from harness.vocabulary import Vocabulary, vocabulary_of


class Watched(Protocol):
    """A server process that can be asked whether it is still there."""

    def check(self) -> None: ...

    def tail(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model that answers, and all that a client must know to ask it.

    `base_url` ends in the version path. `sampling` is set where the server fixed it at start-up:
    then no other can be asked for. `server` and `folder`, the checkpoint's, are None where somebody else
    runs it. `replicas` are further servers of the same checkpoint, engine and settings: the generation
    loop spreads its requests over all of them, everything else asks this one. Answers to requests for
    `stream_from` tokens or more are streamed; 0 is never. `copies` of the model work behind this one URL.
    """

    base_url: str
    model: str
    engine: Engine
    fingerprint: dict[str, str]
    accepts: tuple[str, ...]
    api_key: str = field(default="", repr=False)
    template: ChatTemplate | None = None
    sampling: Sampling | None = None
    server: Watched | None = None
    folder: Path | None = None
    replicas: "tuple[Endpoint, ...]" = ()
    stream_from: int = 0
    copies: int = 1

    @property
    def servers(self) -> "tuple[Endpoint, ...]":
        """This one and its replicas."""
        return (self, *self.replicas)

    def streams(self, max_tokens: int) -> bool:
        """Whether the answer to a request for so many tokens is streamed."""
        return 0 < self.stream_from <= max_tokens

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The checkpoint's vocabulary; None where its folder is not at hand."""
        return vocabulary_of(self.folder) if self.folder is not None else None

    @property
    def health_url(self) -> str:
        """Answers 200 while the server is well."""
        if not self.engine.health:
            return f"{self.base_url}/models"
        return self.base_url.removesuffix("/v1") + self.engine.health

    @property
    def label(self) -> str:
        """Engine and version, as rows carry it."""
        return f"{self.engine.name} {self.fingerprint['version']}"

    def check(self) -> None:
        """Raises ServerError, with the end of its log, where the server's process has ended."""
        if self.server is not None:
            self.server.check()
