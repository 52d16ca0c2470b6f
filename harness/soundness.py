"""Whether an answer can be what it says: a fault of a server or of the wire must not become a row.

Each rule is one that no honest answer breaks. A count that could be true is believed: how many tokens a
text has is known to the server alone.
"""

from harness.asking import Request
from harness.completion import Completion, Usage
from harness.endpoint import Endpoint

LONGEST_TOKEN = 1024
"""Bytes of text: no vocabulary has a longer token."""


def is_counted(usage: Usage) -> bool:
    """Whether the server told token counts at all."""
    return bool(usage.prompt_tokens or usage.completion_tokens)


def flaw(completion: Completion, request: Request, endpoint: Endpoint, counted: bool = False) -> str:
    """What of a completion cannot be; "" where nothing is. `counted`: this server tells token counts."""
    choice, told = completion.choices[0], completion.usage.completion_tokens
    most, text = request.sampling.max_tokens, choice.whole_text
    sent = len(choice.token_ids or choice.tokens or ())
    if choice.finish_reason is None:
        return "it does not say why it ended"
    if not is_counted(completion.usage):
        return "its tokens are not counted, and those of others are" if counted else ""
    if told > most:
        return f"{told:,} tokens are counted, and no more than {most:,} were asked for"
    if choice.finish_reason == "length" and told < most:
        return f"it was cut off after {told:,} tokens, and {most:,} were asked for"
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST_TOKEN * told or sent > told + 1:
        return f"{told:,} tokens are counted, fewer than came"
    if not text and choice.finish_reason == "stop" and told > 1 and not endpoint.engine.local:
        return f"{told:,} tokens are counted, and no text came"
    return "" if text or told else "it is empty: no text came, and no token is counted, not even its end"
