"""Whether the hub answers. Asked only with --network: what is here already needs none."""

import email.utils
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from harness.doctor.finding import Finding, State
from harness.hubs import MODELSCOPE, HubName

SECONDS = 5.0
SKEW = 300.0  # seconds that a clock may be wrong
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def network(hub: HubName) -> Iterator[Finding]:
    """The hub's answer, whatever it is, and what its clock says about ours."""
    switched_off = next(
        (name for name in OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), ""
    )
    if switched_off and hub == "huggingface":
        yield told("warning", f"{switched_off} is set: nothing is downloaded", f"unset {switched_off}")
        return
    try:
        date = asked(address(hub))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        yield told("warning", f"the hub does not answer: {reason}", REMEDY)
        return
    skew = abs(time.time() - date) if date else 0.0
    if skew > SKEW:
        yield told(
            "warning", f"the hub answers; its clock and this one differ by {skew:,.0f} s", "set the clock"
        )
    else:
        yield told("ok", "the hub answers")


REMEDY = (
    "a proxy (HTTPS_PROXY), a mirror (HF_ENDPOINT), or a data folder that was filled elsewhere (docs/data.md)"
)


def told(state: State, found: str, remedy: str = "") -> Finding:
    return Finding(area="network", name="hub", state=state, found=found, remedy=remedy, provides=("network",))


def address(hub: HubName) -> str:
    if hub == "modelscope":
        given = os.environ.get("MODELSCOPE_ENDPOINT") or MODELSCOPE
        return given if "://" in given else f"https://{given}"
    from huggingface_hub.constants import ENDPOINT

    return ENDPOINT


def asked(url: str) -> float:
    """The time that a server's answer bears, 0 where it bears none. Raises OSError where none comes."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - the hub's own address
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:  # an answer, too
        date = error.headers.get("Date")
    return email.utils.parsedate_to_datetime(date).timestamp() if date else 0.0
