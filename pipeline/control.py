"""Control tokens in questions: text that a tokenizer would read as markers of its own.

A chat template pastes a question into a prompt as it is. One that holds `<|im_end|>` or `<|channel|>` would
end its own turn, or open one in another's name. Those of harmony, of Qwen's template and of most others
are spelt alike, so all that are spelt so are meant, known or not.
"""

import re

CONTROL = re.compile(r"<\|[A-Za-z_]+\|>")
REASON = "control token"


def holds_control_token(text: str) -> bool:
    """Whether a text has something like `<|end|>` in it."""
    return CONTROL.search(text) is not None
