"""machine.toml, which a person writes."""

from harness.errors import HarnessError
from harness.machine import load_machine
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b"gpus = ", b"port = ", b"[engines.vllm]\n", b"[sandbox]\n", b"[cluster]\n", b"[training]\n",
    b"arguments = [", b"environment = {", b'data = "~', b'"~nobody/x"', b"hub = ", b"columns = ",
    b"[[engines]]\n", b"9" * 60, b"1e400", b"nan", b"-inf", b"1979-05-27", b"'''", b'"""', b"\\ud800",
    b"{a={", b"a.a.", b"\xef\xbb\xbf", b"\r",
)  # fmt: skip


def read(data: bytes) -> None:
    path = folder() / "machine.toml"
    path.write_bytes(data)
    load_machine(path).engine("vllm")
