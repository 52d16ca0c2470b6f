"""Timeline: when everything that is left of a recipe will be finished.

Stages run one after the other, in the order in which `harness.store.Runner` runs them. Each change of
checkpoint or engine is a server's start; without GPUs that server comes up while the stage before it
runs. Grading has workers of its own and follows the rows that are being generated: what counts of it is
what is left behind the last of everything else.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from harness.capacity import Span, Wall
from harness.stage import Stage
from harness.store import Running, next_of, server_of


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Seconds from now until all is finished. Of these `tail` are spent waiting for the last long responses,
    `starts` for servers, trainers and passes to come up, and `grading` for verdicts after all else.

    `starts_of` are the seconds that each stage waits for what it needs, by key. `order` are the keys of the
    stages as they run.
    """

    seconds: Span
    tail: float
    starts: float
    grading: float
    starts_of: Mapping[str, float]
    order: tuple[str, ...]


@dataclass(kw_only=True)
class Servers:
    """What a ServerPool does by the clock: one server up, and without GPUs another one on its way."""

    gpus: bool
    fetches_ahead: bool
    up: Running | None = None
    coming: Running | None = None
    begun: float = 0.0

    def fetch(self, server: Running | None, now: float) -> None:
        if self.fetches_ahead and server not in (None, self.up, self.coming):
            self.coming, self.begun = server, now

    def wait(self, server: Running, start: float, now: float) -> float:
        """Seconds until this server is ready, if a start takes `start`."""
        if server == self.up:
            return 0.0
        if server == self.coming:
            start, self.coming = max(0.0, start - (now - self.begun)), None
        self.up = server
        return start


def timeline(
    pending: Collection[Stage],
    walls: Mapping[str, Wall],
    grading: Mapping[str, float],
    gpus: bool,
    cluster: bool = False,
) -> Timeline:
    """The whole of `pending`, inputs first, whose stages take so long by key (`Runner.build` in advance).

    `grading` are the seconds of all workers for each stage that follows another one. `gpus`: models
    compute on GPUs, which one server at a time holds; so it does the places of a `cluster`.
    """
    servers, now, graded = Servers(gpus=gpus, fetches_ahead=not (gpus or cluster)), 0.0, 0.0
    whole, starts = Span(), dict[str, float]()
    followers = {one.follows.key: one.key for one in pending if one.follows is not None}
    for one in pending:
        if one.follows is not None and one.follows.key not in {other.key for other in pending}:
            graded += grading.get(one.key, 0.0)
    for stage, ahead in in_order(pending):
        wall, begun = walls.get(stage.key, Wall()), now
        starts[stage.key] = start = started(stage, ahead, wall, servers, now)
        now += start + wall.seconds.likely
        whole += Span.certain(start) + wall.seconds
        if (follower := followers.get(stage.key)) is not None:
            graded = max(max(graded, begun) + grading.get(follower, 0.0), now)
    left = max(0.0, graded - now)
    return Timeline(
        seconds=whole + Span.certain(left),
        tail=sum(walls[key].tail for key in starts if key in walls),
        starts=sum(starts.values()),
        grading=left,
        starts_of=starts,
        order=tuple(starts),
    )


def started(stage: Stage, ahead: Running | None, wall: Wall, servers: Servers, now: float) -> float:
    """Seconds that a stage waits for its server, trainer or pass; the next server starts meanwhile."""
    server = server_of(stage)
    if server is None:
        if stage.computes and servers.gpus:
            servers.up = None  # it needs them
        start = wall.start
    else:
        start = servers.wait(server, wall.start, now)
    servers.fetch(ahead, now)
    return start


def in_order(pending: Collection[Stage]) -> Iterator[tuple[Stage, Running | None]]:
    """The stages as a Runner runs them, those that follow others left out, each with the server that is
    started ahead while it runs."""
    waiting = [stage for stage in pending if stage.follows is None]
    undone = {stage.key for stage in waiting}
    warm: Running | None = None
    ahead: Running | None = None

    def ready(stage: Stage) -> bool:
        return undone.isdisjoint(read.key for read in stage.inputs)

    while (stage := next_of(filter(ready, waiting), warm, ahead)) is not None:
        waiting.remove(stage)
        if (server := server_of(stage)) is not None:
            warm, ahead = server, None if server == ahead else ahead
        ahead = ahead or next_server(sorted(waiting, key=ready, reverse=True), undone, warm)
        yield stage, ahead
        undone.discard(stage.key)


def next_server(later: list[Stage], undone: Collection[str], warm: Running | None) -> Running | None:
    """The first server that these stages need beside the warm one and whose checkpoint is there."""
    for stage in later:
        service, server = stage.service(), server_of(stage)
        if service is not None and server != warm and service.model.key not in undone:
            return server
    return None
