"""What a page carries in itself: its scripts, and the policy that lets it fetch nothing and run nothing else.

A page from disk can have no header, so the policy stands in a `meta` element. Scripts run by their hash:
what slipped through the escaping of a model's words would still not run. Styles may stand anywhere, as
pictures have them in attributes; with nothing to fetch they can carry nothing away.
"""

import hashlib
from base64 import b64encode
from importlib.resources import files

from markupsafe import Markup


def script(name: str) -> Markup:
    """The text of `templates/<name>`, as it must stand between the tags for its hash to hold."""
    return Markup(text_of(name))  # noqa: S704  our own file


def policy(*scripts: str) -> str:
    """The Content-Security-Policy of a page with these scripts of ours and no others."""
    hashes = [
        f"'sha256-{b64encode(hashlib.sha256(text_of(name).encode()).digest()).decode()}'" for name in scripts
    ]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(hashes) or repr('none')}",
            "style-src 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def text_of(name: str) -> str:
    return files("reports").joinpath("templates", name).read_text(encoding="utf-8")
