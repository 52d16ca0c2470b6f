"""published.toml and ambiguities.toml: claims of a paper, and what it leaves open."""

from harness.errors import HarnessError
from reports.published import Published, Register, claims, load
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'kind = "paper"\n', b'title = ""\n', b'sampling = ""\n', b"draws = 64\n", b"rounding = 0.1\n",
    b"[margins]\n", b"aime24 = 2.0\n", b"[[models]]\n", b'name = "a"\n', b'source = "a"\n', b'recipe = "r"\n',
    b'rows = ["a"]\n', b"values = {aime24 = 1.0}\n", b"[protocol]\n", b"[[ambiguities]]\n",
    b'varied_on = "new training"\n', b"9" * 60, b"nan", b"{a={", b"a.a.", b"\xef\xbb\xbf", b"\r", b"'''",
)  # fmt: skip


def read(data: bytes) -> None:
    home = folder()
    (home / "published.toml").write_bytes(data)
    errors = 0
    for kind in (Register, Published):
        try:
            found = load(str(home), "published.toml", kind)
        except HarnessError:
            errors += 1
            continue
        if isinstance(found, Published):
            claims(found, "r")
    assert errors, "no file is both"
