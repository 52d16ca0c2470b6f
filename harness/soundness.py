"""Whether an answer can be what it says: a fault of a server or of the wire must not become a row.

A flaw is what no honest answer has. A doubt is what an honest server can have done, and what is oftener a
fault: it is believed where the same request is answered so again. A count that could be true is believed:
how many tokens a text has is known to the server alone.
"""

from harness.asking import Request
from harness.completion import ENDS, Choice, Completion, Usage
from harness.endpoint import Endpoint

ATTEMPTS = 3
"""At a request whose answers have flaws: each of them is paid for."""
PAUSE = 1.0
"""Seconds between them: an overloaded server is well again, or a proxy has found another one."""
LONGEST_TOKEN = 1024
"""Bytes of text: no vocabulary has a longer token."""
MARKERS = 4
"""Tokens without a text that a model writes in place of an answer: `</think>`, a line's end, the end."""


def is_counted(usage: Usage) -> bool:
    """Whether the server told token counts at all."""
    return bool(usage.prompt_tokens or usage.completion_tokens)


def flaw(completion: Completion, request: Request, endpoint: Endpoint, counted: bool = False) -> str:
    """What of a completion cannot be; "" where nothing is. `counted`: this server tells token counts."""
    choice, usage = completion.choices[0], completion.usage
    told, most = usage.completion_tokens, request.sampling.max_tokens
    sent = len(choice.token_ids or choice.tokens or ())
    if choice.finish_reason is None:
        return "it does not say why it ended"
    if choice.finish_reason not in ENDS and not told:
        return ""
    if not is_counted(usage):
        return "its tokens are not counted, and those of others are" if counted else ""
    if told > most:
        return f"{told:,} tokens are counted, and no more than {most:,} were asked for"
    # Reasoning that came apart from the text is counted by some and not by others.
    if len(choice.answer.encode("utf-8", "surrogatepass")) > LONGEST_TOKEN * told or sent > usage.sampled + 1:
        return f"{told:,} tokens are counted, fewer than came"
    if (lost := unseen(choice, usage, endpoint)) > MARKERS:
        return f"{lost:,} tokens are counted, and no text came"
    if not choice.whole_text and not usage.sampled:
        return "it is empty: no text came, and no token is counted, not even its end"
    return ""


def doubt(completion: Completion, request: Request, endpoint: Endpoint) -> str:
    """What of a completion without a flaw is believed only where another answer to the same request has the
    very same; "" where nothing is."""
    if not is_counted(completion.usage):
        return ""
    if is_cut_off(completion, request):
        told, most = completion.usage.completion_tokens, request.sampling.max_tokens
        return f"it was cut off after {told:,} tokens, and {most:,} were asked for"
    if (lost := unseen(completion.choices[0], completion.usage, endpoint)) > 1:
        return f"{lost:,} tokens are counted, and no text came"
    return ""


def is_cut_off(completion: Completion, request: Request) -> bool:
    """Whether it was cut off before it had the tokens that were asked for. A wire or an overloaded server
    does so anywhere; twice at the same place is a limit of the server's own."""
    sampled, most = completion.usage.sampled, request.sampling.max_tokens
    return completion.choices[0].finish_reason == "length" and sampled < most


def unseen(choice: Choice, usage: Usage, endpoint: Endpoint) -> int:
    """The tokens of an answer that its model ended and that has no text: but for those of a reasoning that
    the server keeps to itself. A local engine is known to hide no others than markers."""
    if choice.whole_text or choice.finish_reason != "stop" or choice.calls_tools or endpoint.engine.local:
        return 0
    return usage.sampled - usage.reasoning_tokens


def own_limit(told: int, most: int) -> str:
    """The line about a limit of the server's own."""
    return (
        f"the server ends answers after {told:,} tokens though {most:,} were asked for: its own limit; they "
        "count as truncated"
    )
