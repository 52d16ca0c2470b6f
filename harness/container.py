"""A model server in a Docker container: the same command, run from the image that machine.toml names.

    [engines.vllm]
    image = "vllm/vllm-openai:v0.32.0"

The container's first process is `supervise.py`, and its standard input is ours: where the harness dies, or
the `docker` client does, the engine closes it, the supervisor ends the server, and the engine removes the
container. It shares the host's network, so that a server that binds to loopback is reached there and from
nowhere else. What it may read is mounted at the same paths, read-only. A secret goes by its variable's
name: it stands in no command line.
"""

from collections.abc import Iterable
from pathlib import Path

SUPERVISOR = Path(__file__).with_name("supervise.py")


def in_image(image: str, *options: str) -> list[str]:
    """The image's Python, with what the container may use."""
    return ["docker", "run", "--rm", *options, "--entrypoint", "python3", image]


def contained(
    command: list[str],
    image: str,
    *,
    mounts: Iterable[Path],
    variables: Iterable[str],
    gpus: bool,
    grace: float,
) -> list[str]:
    """The command in a container, to be started in one of `mounts` with a pipe as its standard input.

    The last of `mounts` is the working directory. `variables` are passed on from the client's environment.
    The supervisor's parent, of which it waits for the death, is the container's none: 0.
    """
    folders = list(dict.fromkeys(str(folder.resolve()) for folder in mounts))
    options = [
        *("--interactive", "--network", "host", "--ipc", "host"),
        *(("--gpus", "all") if gpus else ()),
        *(word for folder in folders for word in ("--volume", f"{folder}:{folder}:ro")),
        *("--volume", f"{SUPERVISOR}:/supervise.py:ro"),
        *("--workdir", folders[-1]),
        *(word for name in sorted(set(variables)) for word in ("--env", name)),
    ]
    return [*in_image(image, *options), "-I", "-S", "/supervise.py", "0", str(grace), "", "--", *command]
