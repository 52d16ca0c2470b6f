"""`harness serve`: one checkpoint on an OpenAI-compatible endpoint, in the foreground.

    serve(decided(model, engine, machine, wanted), machine, log, told, ready)

The engine answers itself: what is ours is the checkpoint's presentation (`harness.presented`), the choice of
its arguments, and that nothing outlives us. The server runs below `supervise.py`, which ends it however this
process ends.
"""

import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.chat import OPEN, ChatTemplate, load_template
from harness.engines import Engine, Serving
from harness.errors import ServerError, UsageError
from harness.machine import Machine
from harness.presented import (
    Presented,
    checked_template,
    configuration,
    context_of,
    own_sampling,
    thinking_of,
)
from harness.scratch import new_folder
from harness.serve import Server, Service, answers
from harness.types import Sampling
from harness.weights import not_run, trusting

CONTEXT = 262_144  # tokens; as the report's checkpoints are published
KEY_VARIABLE = "HARNESS_API_KEY"
NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)  # it becomes a folder's name, too
POLL = 0.25
PROBE_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line says; None and "" are not said. `context` is in tokens."""

    context: int | None = None
    replicas: int = 1
    tensor_parallel: int | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    system: str | None = None
    parser: str = ""
    key: str = field(default="", repr=False)
    key_variable: str = ""
    open_to_all: bool = False


@dataclass(frozen=True, kw_only=True)
class Model:
    """The checkpoint to serve. `system` and `sampling` are those of its row, where it is one; `trained`
    says that a recipe made it."""

    folder: Path
    name: str
    system: str | None = None
    sampling: Sampling | None = None
    trained: bool = False


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A server that is decided on. `notes` are what a user should know of the decisions."""

    model: Model
    engine: Engine
    serving: Serving
    port: int
    system: str
    template: ChatTemplate | None
    sampling: Sampling
    context: int
    key: str = field(repr=False)
    key_variable: str
    notes: tuple[str, ...]

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server, without the version path."""
        return f"http://{reachable(self.serving.host)}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Ready:
    """What is known once the server answers. `context` is what the engine says, in tokens."""

    offer: Offer
    context: int
    seconds: float
    log: Path
    notes: tuple[str, ...]


def key_of(variable: str | None, without: bool) -> tuple[str, str]:
    """The API key and the name of its variable; "" where there is none.

    Raises UsageError where the variable that was named is not set, or where both were given.
    """
    if without:
        if variable:
            raise UsageError("--api-key-env and --no-api-key contradict each other", "Give one of them.")
        return "", ""
    key = os.environ.get(variable or KEY_VARIABLE, "").strip()
    if variable and not key:
        raise UsageError(f"--api-key-env {variable}: the variable is not set", f"export {variable}=…")
    if not key.isascii() or not key.isprintable() or " " in key or key.startswith("-"):
        raise UsageError(
            f"the key in {variable or KEY_VARIABLE} cannot be sent as a header or given to every engine",
            "Take letters, digits and punctuation without spaces, not beginning with a hyphen.",
        )
    return key, variable or KEY_VARIABLE


def decided(model: Model, engine: Engine, machine: Machine, wanted: Wanted) -> Offer:
    """What to start. Raises HarnessError for what the engine, the machine or the checkpoint cannot do."""
    check_before(engine, machine, wanted)
    if not NAME.fullmatch(model.name):
        raise UsageError(
            f"a model cannot be called {model.name!r}", "Give --name with letters, digits, . _ - and /."
        )
    named = engine.argument(machine, ("--max-model-len", "--context-length"))
    said = wanted.context or (int(named) if named.isdigit() else None)
    parser, doubt = parser_of(
        model, engine, wanted.parser or engine.argument(machine, ("--reasoning-parser",))
    )
    context, lowered = context_for(model, engine, said)
    system, template = system_for(model, engine, wanted.system)
    serving = Serving(
        host=wanted.host,
        context=0 if said is None and context == context_of(model.folder) else context,
        parser=parser,
        replicas=wanted.replicas,
        tensor_parallel=copies(engine, machine, wanted),
        keyed=bool(wanted.key),
    )
    bare = "" if load_template(model.folder) else "the checkpoint has no chat template: ask /v1/completions"
    trusted = trusting(model.folder, machine)
    notes = [doubt, lowered, bare, idle(engine, machine, wanted), *shortcomings(engine)]
    notes.append("" if trusted else not_run(model.folder))
    if wanted.open_to_all and not is_loopback(wanted.host):
        notes.append(f"whoever reaches {wanted.host} may use the model: --no-api-key was given")
    return Offer(
        model=model,
        engine=engine,
        serving=serving,
        port=free_or_refused(wanted.host, wanted.port),
        system=system,
        template=template,
        sampling=model.sampling or own_sampling(model.folder),
        context=context,
        key=wanted.key,
        key_variable=wanted.key_variable if wanted.key else "",
        notes=tuple(note for note in notes if note),
    )


def check_before(engine: Engine, machine: Machine, wanted: Wanted) -> None:
    """What can be refused before a checkpoint is looked for, which may be a long download.

    Raises UsageError, and ServerError where the port is taken.
    """
    if not engine.local:
        raise UsageError(f"the engine {engine.name} serves nothing itself", "Give --engine vllm.")
    check_exposure(engine, wanted)
    copies(engine, machine, wanted)
    free_or_refused(wanted.host, wanted.port)


def check_exposure(engine: Engine, wanted: Wanted) -> None:
    """Raises UsageError where strangers could reach a server without a key, or a key would be ignored."""
    if wanted.key and not engine.keys:
        raise UsageError(
            f"{engine.name} serve knows no API key and would answer anybody",
            f"Use --engine vllm, or give --no-api-key; {wanted.key_variable} is set.",
        )
    if not wanted.key and not wanted.open_to_all and not is_loopback(wanted.host):
        raise UsageError(
            f"--host {wanted.host} lets other computers in, and there is no API key",
            f"Set a secret (export {KEY_VARIABLE}=$(openssl rand -hex 32)), or name another variable with "
            "--api-key-env; or give --no-api-key where the network itself keeps strangers out.",
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable(host: str) -> str:
    """The host as it stands in a URL; what binds to all addresses is reached at loopback."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def parser_of(model: Model, engine: Engine, given: str) -> tuple[str, str]:
    """The engine's name for the reasoning parser, "" for none; and a doubt about it."""
    if given == "none":
        return "", ""
    if given:
        if not engine.parsers:
            raise UsageError(f"{engine.name} serve has no choice of reasoning parsers", "Use --engine vllm.")
        return given, ""
    thinking, doubt = thinking_of(model.folder, model.trained)
    if doubt and engine.parsers:
        doubt = (
            f"no reasoning parser: {doubt}. Where it thinks, give --reasoning-parser {engine.parsers['tags']}"
        )
    return engine.parsers.get(thinking, ""), doubt if engine.parsers else ""


def context_for(model: Model, engine: Engine, given: int | None) -> tuple[int, str]:
    """Tokens of prompt and response together, and a note where that is less than was wanted."""
    allowed = context_of(model.folder)
    if not engine.limits_context:
        if given is not None and given != allowed:
            raise UsageError(f"{engine.name} serve cannot limit the context", "Leave --context, or use vllm.")
        return allowed, ""
    wanted = CONTEXT if given is None else given
    if not allowed or wanted <= allowed:
        return wanted, ""
    return allowed, f"context lowered from {wanted:,} to {allowed:,} tokens, which is what config.json allows"


def copies(engine: Engine, machine: Machine, wanted: Wanted) -> int:
    """GPUs for each copy of the model: --tensor-parallel, else machine.toml's, else an equal share of all,
    a power of two: engines refuse a number that a model's heads do not divide by, and most have 16, 32, 64.

    Raises UsageError where the engine or the number of GPUs does not allow it.
    """
    several = wanted.replicas > 1 or (wanted.tensor_parallel or 1) > 1
    if several and not engine.copies:
        raise UsageError(
            f"{engine.name} serve runs one copy on one device", "Use --engine vllm or sglang for more."
        )
    if not machine.gpus:
        if (wanted.tensor_parallel or 1) > 1:
            raise UsageError("--tensor-parallel needs GPUs, and none is seen here", "Leave it out.")
        return 1
    each = max(1, machine.gpus // wanted.replicas)
    share = named_share(engine, machine, wanted) or 1 << (each.bit_length() - 1)
    if engine.copies and wanted.replicas * share > machine.gpus:
        raise UsageError(
            f"{wanted.replicas} replicas on {share} GPUs each need {wanted.replicas * share} GPUs, "
            f"and there are {machine.gpus}",
            "Lower --replicas or --tensor-parallel (gpus in machine.toml says how many there are).",
        )
    return share


def named_share(engine: Engine, machine: Machine, wanted: Wanted) -> int:
    """GPUs for each copy as somebody said; 0 where nobody did."""
    named = engine.argument(machine, ("--tensor-parallel-size", "-tp", "--tp", "--tp-size"))
    return wanted.tensor_parallel or int(named or 0)


def idle(engine: Engine, machine: Machine, wanted: Wanted) -> str:
    """A note about GPUs that the default share leaves over; "" where there are none."""
    if not engine.copies or named_share(engine, machine, wanted):
        return ""
    left = machine.gpus - wanted.replicas * copies(engine, machine, wanted)
    if left <= 0:
        return ""
    return f"{left} of {machine.gpus} GPUs stay idle: --replicas and --tensor-parallel would use them"


def system_for(model: Model, engine: Engine, given: str | None) -> tuple[str, ChatTemplate | None]:
    """The default system prompt and the template that carries it; None for the checkpoint's own.

    Raises UsageError or DataError where a prompt that was asked for cannot arrive.
    """
    system = (model.system if given is None else given) or ""
    if not system:
        return "", None
    template = load_template(model.folder)
    if template is None:
        if given:
            raise UsageError(
                "the checkpoint has no chat template, so no system prompt", "Leave --system out."
            )
        return "", None
    gpt_oss = configuration(model.folder, "config.json").get("model_type") == "gpt_oss"
    if gpt_oss and engine.renders_harmony:
        raise UsageError(
            f"{engine.name} renders gpt-oss's prompts itself and reads no chat template",
            'Give --system "" and send the system message with each request, or use --engine sglang.',
        )
    return system, checked_template(template, system)


def shortcomings(engine: Engine) -> list[str]:
    """What of the usual endpoints and settings an engine does not have."""
    found = []
    if not engine.metrics:
        found.append(f"{engine.name} serve has no metrics endpoint")
    if not engine.limits_context:
        found.append(f"{engine.name} serve answers over the context, too, and one request after the other")
    if not engine.parsers:
        found.append(f"{engine.name} serve itself takes thinking apart, as reasoning_content")
    return found


def free_or_refused(host: str, port: int) -> int:
    """The port, or one that the system picks for 0. Raises ServerError where it cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                "Give another --port (0 picks a free one), or stop what listens there: "
                f"`ss -ltnp 'sport = :{port}'` names it.",
            ) from error
        return int(probe.getsockname()[1])


class Foreground(Server):
    """The server of an offer."""

    def __init__(self, offer: Offer, machine: Machine, log: Path, scratch: Path) -> None:
        service = Service(
            engine=offer.engine, model=offer.model.folder, served_as=offer.model.name, sampling=None
        )
        super().__init__(service, machine, log, scratch)
        self.offer = offer
        self.port = offer.port
        self.secrets: set[Path] = set()

    def start(self) -> None:
        """Presents the checkpoint in the scratch folder, which nobody else can read, and starts."""
        offer, engine = self.offer, self.offer.engine
        presented = Presented(
            model=offer.model.folder,
            template=offer.template,
            sampling=offer.sampling,
            top_k_off=engine.top_k_off,
            max_new_tokens=0 if engine.limits_context else offer.context,
        )
        folder = presented.write(self.scratch / offer.model.name)
        before = set(self.scratch.iterdir())
        variables = engine.prepare_serving(self.scratch, offer.key)
        self.secrets = set(self.scratch.iterdir()) - before
        command = engine.command(folder, offer.model.name, self.port, self.machine)
        arguments = engine.serving_arguments(offer.serving, self.scratch)
        self.launch([*command, *arguments, *trusting(offer.model.folder, self.machine)], variables)

    def check(self) -> None:
        """Raises ServerError, with the end of its log, where the server has ended."""
        if self.alive():
            return
        code = self.process.returncode if self.process is not None else None
        if self.port_was_taken():
            raise ServerError(f"port {self.port} was taken by another program", "Give another --port.")
        raise ServerError(
            f"{self.service.name} ended with exit code {code}; its log ends:\n{self.tail()}",
            f"The whole log is {self.log}. Where memory did not suffice, give a smaller --context.",
        )

    def await_ready(self, told: Callable[[str], None]) -> None:
        """Waits until the server is healthy, and says now and then what it is busy with.

        Raises ServerError where it ends or is not healthy in the machine's `start_timeout`.
        """
        limit = self.machine.engine(self.offer.engine.name).start_timeout
        url = self.offer.url + self.offer.engine.health
        while not answers(url):
            self.check()
            seconds = time.monotonic() - self.started
            if seconds > limit:
                raise ServerError(
                    f"{self.service.name} did not come up in {limit:.0f} s; its log ends:\n{self.tail()}",
                    f"The whole log is {self.log}; engines.{self.offer.engine.name}.start_timeout in "
                    "machine.toml gives it longer.",
                )
            told(f"{seconds:3.0f} s, waiting for {url}: {last_line(self.tail())}")
            time.sleep(POLL)
        for file in self.secrets:
            file.unlink(missing_ok=True)


def last_line(text: str) -> str:
    """The last line that says something, cut to what fits beside the rest."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:120] if lines else "nothing logged yet"


def serve(
    offer: Offer, machine: Machine, log: Path, told: Callable[[str], None], ready: Callable[[Ready], None]
) -> None:
    """Serves until the process is interrupted, and leaves nothing behind.

    `told` hears what a start is waiting for, `ready` once what is offered. Returns when it was interrupted
    after that; raises KeyboardInterrupt before, and ServerError where the server does not start or ends.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scratch = new_folder("serve")
    server = Foreground(offer, machine, log, scratch)
    found = None
    try:
        server.start()
        server.await_ready(told)
        found = looked_at(server)
        ready(found)
        while True:
            server.check()
            time.sleep(POLL)
    except KeyboardInterrupt:
        if found is None:
            raise
    finally:
        server.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def looked_at(server: Foreground) -> Ready:
    """What the server says of itself. Raises ServerError where it does not answer for the model."""
    offer = server.offer
    listed = asked(offer, "/v1/models")["data"] if offer.engine.limits_context else []
    context = next((one.get("max_model_len") for one in listed if one["id"] == offer.model.name), None)
    notes = list(offer.notes)
    if context and context < offer.context:
        notes.append(f"context lowered to {context:,} tokens, which is what fits into memory")
    seconds = time.monotonic() - server.started
    if thinks_aloud(offer):
        wanted = offer.engine.parsers.get("tags", "")
        notes.append(f"answers begin with {OPEN}: --reasoning-parser {wanted} would keep them apart")
    return Ready(
        offer=offer, context=context or offer.context, seconds=seconds, log=server.log, notes=tuple(notes)
    )


def thinks_aloud(offer: Offer) -> bool:
    """Asks for a few tokens, so that a model that cannot answer is known; whether thinking shows in them."""
    body: dict[str, Any]
    path, body = "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}
    if load_template(offer.model.folder) is None:
        path, body = "/v1/completions", {"prompt": "Hello"}
    answer = asked(offer, path, {"model": offer.model.name, "max_tokens": PROBE_TOKENS, **body})
    if not offer.engine.is_model(offer.model.name, answer["model"]):
        raise ServerError(f"the server answers for {answer['model']!r}, not for {offer.model.name!r}")
    content = answer["choices"][0].get("message", {}).get("content") or ""
    return bool(offer.engine.parsers) and content.lstrip().startswith(OPEN)


def asked(offer: Offer, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request, with the key. Raises ServerError where it is not answered 200."""
    headers = {"Content-Type": "application/json"}
    if offer.key:
        headers["Authorization"] = f"Bearer {offer.key}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(offer.url + path, data=data, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read(500).decode(errors="replace")
        raise ServerError(f"{offer.model.name} does not answer: {path} gave {error.code}: {text}") from error
    except (OSError, ValueError) as error:
        raise ServerError(f"{offer.model.name} does not answer at {offer.url}{path}: {error}") from error
    return found


def as_json(ready: Ready) -> str:
    """One line for a program that started the server. The key's variable is named, the key is not told."""
    offer = ready.offer
    serving = offer.serving
    return json.dumps(
        {
            "url": f"{offer.url}/v1",
            "model": offer.model.name,
            "engine": offer.engine.name,
            "context": ready.context,
            "reasoning_parser": serving.parser or None,
            "system": offer.system or None,
            "sampling": sampling_words(offer.sampling),
            "replicas": serving.replicas,
            "tensor_parallel": serving.tensor_parallel,
            "api_key_env": offer.key_variable or None,
            "health": offer.url + offer.engine.health,
            "metrics": offer.url + offer.engine.metrics if offer.engine.metrics else None,
            "log": str(ready.log),
            "notes": list(ready.notes),
            "seconds": round(ready.seconds, 1),
        },
        ensure_ascii=False,
    )


def as_text(ready: Ready) -> str:
    """What a person reads once the server answers."""
    offer, serving = ready.offer, ready.offer.serving
    metrics = f", {offer.url}{offer.engine.metrics}" if offer.engine.metrics else ""
    rows = {
        "url": f"{offer.url}/v1",
        "model": offer.model.name,
        "context": f"{ready.context:,} tokens",
        "reasoning": serving.parser or ("no parser" if offer.engine.parsers else "by the engine"),
        "system": json.dumps(offer.system, ensure_ascii=False) if offer.system else "none",
        "sampling": ", ".join(f"{name} {value:g}" for name, value in sampling_words(offer.sampling).items()),
        "copies": f"{serving.replicas}, tensor parallel {serving.tensor_parallel}",
        "key": f"${offer.key_variable}" if offer.key else "none",
        "health": f"{offer.url}{offer.engine.health}{metrics}",
        "log": str(ready.log),
    }
    lines = [f"  {name:10} {value}" for name, value in rows.items()]
    notes = [f"  note       {note}" for note in ready.notes]
    return "\n".join(
        [f"{offer.engine.name} answers after {ready.seconds:.0f} s", *lines, *notes, "", curl(offer), ""]
    )


def sampling_words(sampling: Sampling) -> dict[str, float]:
    """The defaults that a request without parameters gets; what is off is left out."""
    neutral = Sampling(temperature=0.0, max_tokens=0)
    found = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    for name in ("top_k", "min_p", "repetition_penalty"):
        if getattr(sampling, name) != getattr(neutral, name):
            found[name] = getattr(sampling, name)
    return found


def curl(offer: Offer) -> str:
    """A request to copy. The shell, not this line, knows the key."""
    body: dict[str, Any] = {"model": offer.model.name}
    path = "completions"
    if load_template(offer.model.folder) is None:
        body["prompt"] = "Hello"
    else:
        path, body["messages"] = "chat/completions", [{"role": "user", "content": "Hello"}]
    key = f' -H "Authorization: Bearer ${offer.key_variable}"' if offer.key else ""
    data = shlex.quote(json.dumps(body))
    return f"curl {offer.url}/v1/{path} -H 'Content-Type: application/json'{key} -d {data}"


def without_limits(sampling: Sampling) -> Sampling:
    """What of a benchmark's sampling is a default for people: not its length, draws and seed."""
    return replace(sampling, max_tokens=0, draws=1, seed=0)
