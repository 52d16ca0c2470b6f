"""The student's tokenizer: counts, and the exact token ids and labels that training sees."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from harness.chat import OPEN, load_template, opens_thinking
from harness.errors import DataError
from harness.types import Message


@dataclass(frozen=True)
class Tokenized:
    """Token ids of a conversation; the first `prompt` of them are not learned."""

    ids: list[int]
    prompt: int


class StudentTokens:
    """Token ids of texts and conversations under one checkpoint's tokenizer and chat template."""

    def __init__(self, model: Path) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        template = load_template(model)
        if template is None or "eos_token" not in template.tokens:
            raise DataError(f"{model}: a chat template and an end-of-turn token are needed")
        self.template = template
        self.end_of_turn = template.tokens["eos_token"]

    def count(self, text: str) -> int:
        return len(self.ids(text))

    def ids(self, text: str) -> list[int]:
        encoded: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return encoded

    def ids_and_lengths(self, text: str) -> tuple[list[int], list[int]]:
        """Ids, and the UTF-8 length of each token; the lengths add up to what the tokenizer covers.

        A character that takes several tokens counts for the first of them.
        """
        found = self.tokenizer.encode(text, add_special_tokens=False)
        ends = [0, *(end for _, end in found.offsets)]
        return found.ids, [len(text[start:end].encode()) for start, end in pairwise(ends)]

    def beginning(self, text: str, size: int) -> int:
        """Tokens of `text` that hold a part of its first `size` bytes."""
        _, lengths = self.ids_and_lengths(text)
        places = enumerate(zip(accumulate(lengths, initial=0), lengths, strict=False))
        beyond = (number for number, (start, length) in places if start >= size and length)
        return next(beyond, len(lengths))

    def prefix(self, text: str, tokens: int) -> str:
        """The text of the first `tokens` tokens."""
        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return text[: offsets[tokens - 1][1]] if tokens else ""

    def conversations(self, asked: list[tuple[tuple[Message, ...], str]]) -> list[Tokenized]:
        """Prompts and responses as served, each response closed by the end-of-turn token; on all cores."""
        texts = [prompt_before(self.template.render(messages), response) for messages, response in asked]
        texts += [self.closed(response) for _, response in asked]
        ids = [one.ids for one in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        pairs = zip(ids[: len(asked)], ids[len(asked) :], strict=True)
        return [Tokenized([*prompt, *response], len(prompt)) for prompt, response in pairs]

    def closed(self, response: str) -> str:
        """A response as training sees it, with the end of its turn."""
        return response + self.end_of_turn + "\n"


def prompt_before(rendered: str, response: str) -> str:
    """The prompt that stands before a response: one that brings its own `<think>` needs no other."""
    if opens_thinking(rendered) and response.lstrip().startswith(OPEN):
        return rendered.rstrip().removesuffix(OPEN)
    return rendered
