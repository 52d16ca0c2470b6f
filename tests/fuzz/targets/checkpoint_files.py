"""What is read of somebody's checkpoint. The first byte says which file: the header of the (w)eights,
(c)onfig.json, to(k)enizer_config.json with its chat template, a template in (j)inja, or tokenizer.json.

A template is somebody's program in jinja's sandbox. That it loops for long on purpose is not prevented.
"""

from harness.chat import load_template
from harness.cost import weighed
from harness.engines import is_mixture
from harness.engines.vllm import context_length
from harness.errors import HarnessError
from harness.preflight.model import configured
from harness.types import Message
from harness.vocabulary import Vocabulary
from tests.fuzz.folder import folder

REFUSALS = (HarnessError,)
NAMES = {
    b"w": "a.safetensors",
    b"c": "config.json",
    b"k": "tokenizer_config.json",
    b"j": "chat_template.jinja",
}
WORDS = (
    b'{"model":{"vocab":{"a":1}}', b'"added_tokens":[{"id":1', b'"content":"<s>"', b'"special":true',
    b'"decoder":', b'{"type":"ByteLevel"}', b'"decoders":[', b"null", b'"<0x0A>"', b"\\u2581", b"9" * 40,
    b"[]", b"{}", b"1e400", b'"__metadata__":{}', b'"shape":[2,3]', b"\x00" * 6, b"-1",
    b'"max_position_embeddings":', b'"rope_scaling":{"factor":', b"Infinity", b'"chat_template":',
    b'[{"name":"default","template":"', b'"bos_token":',
)  # fmt: skip


def read(data: bytes) -> None:
    home, kind, rest = folder(), data[:1], data[1:]
    (home / NAMES[b"j"]).unlink(missing_ok=True)
    if kind in NAMES:
        (home / NAMES[kind]).write_bytes(rest)
    match kind:
        case b"w":
            found = weighed(home)
            assert found is None or found.parameters > 0
        case b"c":
            is_mixture(home)
            configured(home)
            context_length(home)
        case b"k" | b"j":
            template = load_template(home)
            if template is not None and kind == b"k":
                template.render((Message(role="user", content="?"),))
        case _:
            (home / "tokenizer.json").write_bytes(data)
            vocabulary = Vocabulary(home / "tokenizer.json")
            known = list(vocabulary.bytes)[:5]
            for token in (*vocabulary.plain(known), *vocabulary.spelt(known)):
                assert isinstance(token, bytes)
