"""nightly.toml, which a person writes."""

from harness.errors import HarnessError
from harness.nightly.config import load_nightly
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b"[[checkpoints]]\n", b'model = "a"\n', b'benchmarks = ["micro_math:3"]\n', b"[gate]\n", b"alpha = ",
    b"k = ", b"[history]\n", b"[notify]\n", b"command = [", b"name = ", b"base_url = ", b"engine = ",
    b"system = ", b"0.01", b"9" * 60, b"nan", b"inf", b"[[a]]", b"{a={", b"a.a.", b"\xef\xbb\xbf", b"\r",
    b"'''",
)  # fmt: skip


def read(data: bytes) -> None:
    path = folder() / "nightly.toml"
    path.write_bytes(data)
    load_nightly(path)
