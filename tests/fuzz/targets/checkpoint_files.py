"""What is read of somebody's checkpoint: tokenizer.json, and the header of its weights (first byte w)."""

from harness.cost import weighed
from harness.errors import HarnessError
from harness.vocabulary import Vocabulary
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
WORDS = (
    b'{"model":{"vocab":{"a":1}}', b'"added_tokens":[{"id":1', b'"content":"<s>"', b'"special":true',
    b'"decoder":', b'{"type":"ByteLevel"}', b'"decoders":[', b"null", b'"<0x0A>"', b"\\u2581", b"9" * 40,
    b"[]", b"{}", b"1e400", b'"__metadata__":{}', b'"shape":[2,3]', b"\x00" * 6, b"-1",
)  # fmt: skip


def read(data: bytes) -> None:
    home = folder()
    if data[:1] == b"w":
        (home / "a.safetensors").write_bytes(data[1:])
        found = weighed(home)
        assert found is None or found.parameters > 0
        return
    (home / "tokenizer.json").write_bytes(data)
    vocabulary = Vocabulary(home / "tokenizer.json")
    known = list(vocabulary.bytes)[:5]
    for token in (*vocabulary.plain(known), *vocabulary.spelt(known)):
        assert isinstance(token, bytes)
