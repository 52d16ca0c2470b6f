"""A response and its prompt as the tokens that a model would read and write.

Prompt and response are tokenized apart, as in training. Where the chat template itself opens `<think>`
and the response brings its own, the template's is left out: the model sees it once, as it was trained.
A model that speaks harmony gets the response in its channels.
"""

from itertools import pairwise

from harness import harmony
from harness.evaluate import conversation
from pipeline.logprobs import Encoded, Unscorable
from pipeline.responses import Response
from pipeline.tokenizer import StudentTokens, prompt_before


def encoded(
    row: Response, tokens: StudentTokens, system: str | None, effort: str = "", date: str = ""
) -> Encoded:
    """The tokens of a response and of the prompt before it; `effort` and `date` as in Sample.

    Raises Unscorable where the tokens do not make the response's text.
    """
    rendered = tokens.template.render(conversation(row.kept.prompt, system), effort=effort, date=date)
    if harmony.speaks_harmony(tokens.template):
        prompt, (response, lengths) = tokens.ids(rendered), in_channels(row, tokens)
    else:
        prompt = tokens.ids(prompt_before(rendered, row.text))
        response, lengths = tokens.ids_and_lengths(row.text)
    size = len(row.text.encode())
    if not prompt or sum(lengths) != size:
        raise Unscorable(
            row.key,
            "the tokenizer leaves out a part of the text",
            f"the tokenizer covers {sum(lengths)} of {size} bytes of response {row.key}, "
            f"behind {len(prompt)} tokens of prompt",
        )
    return Encoded(key=row.key, prompt=prompt, response=response, lengths=lengths)


def in_channels(row: Response, tokens: StudentTokens) -> tuple[list[int], list[int]]:
    """Ids of a response in harmony's own form, and the UTF-8 length of each in the response's text.

    Tokens of headers have length 0; the marker that opens a message has that of the tags before it.
    """
    form = harmony.continued(row.text)
    found = tokens.tokenizer.encode(form, add_special_tokens=False)
    ends = [0, *(end for _, end in found.offsets)]
    reading = harmony.read(form[start:end] for start, end in pairwise(ends))
    if "".join(reading.text) != row.text or harmony.MARKER.search(row.text):
        raise Unscorable(
            row.key,
            "harmony's channels cannot say the text",
            f"response {row.key} in harmony's channels reads otherwise: other white space stands around its "
            "tags than gpt-oss's answers get, or it holds tags or markers inside",
        )
    return found.ids, reading.lengths
