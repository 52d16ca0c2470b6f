"""Tokens and keys: whether they are there. Their values, or parts of them, are never told."""

import importlib.util
import os
from collections.abc import Iterator

from harness.discover import engines
from harness.doctor.environments import provided
from harness.doctor.finding import Finding
from harness.doctor.limits import SERVE
from harness.errors import UsageError
from harness.machine import Machine

TOKEN = "Hugging Face token"  # noqa: S105 - its name
VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def keys(machine: Machine, gated: bool) -> Iterator[Finding]:
    """The hub's token, then those of servers. `gated`: what is wanted and not here needs the token."""
    yield hugging_face(gated)
    if machine.hub == "modelscope":
        yield modelscope()
    yield served_key()
    for name, engine in engines().items():
        if not engine.local and machine.engine(name).base_url:
            yield remote_key(name, machine)


def hugging_face(gated: bool) -> Finding:
    from huggingface_hub import get_token

    there = get_token() is not None
    variable = next((name for name in VARIABLES if os.environ.get(name)), "")
    source = f"${variable}" if variable else "stored by hf auth login"
    return Finding(
        area="keys",
        name=TOKEN,
        state="ok" if there or not gated else "missing",
        found=source if there else "none; what is gated needs one",
        remedy="" if there or not gated else "hf auth login (or export HF_TOKEN=…)",
        provides=(TOKEN,),
    )


def modelscope() -> Finding:
    """`hub = "modelscope"` needs its package; its token only for what is private."""
    there = importlib.util.find_spec("modelscope_hub") is not None
    token = "$MODELSCOPE_API_TOKEN is set" if os.environ.get("MODELSCOPE_API_TOKEN") else "no token"
    return Finding(
        area="keys",
        name="ModelScope",
        state="ok" if there else "missing",
        found=token if there else 'machine.toml says hub = "modelscope", and modelscope-hub is not installed',
        remedy="" if there else "python -m pip install 'dasd-harness[modelscope]'",
    )


def served_key() -> Finding:
    """The key that clients of `harness serve` must send."""
    from harness.serving import KEY_VARIABLE, key_of

    try:
        key, _ = key_of(None, without=False)
    except UsageError as error:
        found, remedy, fine = error.message, error.remedy, False
    else:
        found = (
            f"${KEY_VARIABLE} is set" if key else f"${KEY_VARIABLE} is not set: harness serve asks for no key"
        )
        remedy, fine = "", True
    return Finding(
        area="keys",
        name="key of harness serve",
        state="ok" if fine else "warning",
        found=found,
        remedy=remedy,
        provides=(SERVE,),
    )


def remote_key(name: str, machine: Machine) -> Finding:
    """The key of a server that machine.toml names. Its URL is not told: it may hold a secret."""
    variable = machine.engine(name).api_key_env
    there = bool(os.environ.get(variable))
    return Finding(
        area="keys",
        name=f"key of {name}",
        state="ok" if there else "warning",
        found=f"${variable} is {'set' if there else 'not set: its server is asked without a key'}",
        remedy="" if there else f"export {variable}=…, if the server asks for one",
        provides=(provided(name),),
    )
