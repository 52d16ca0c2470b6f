"""Token counts that cannot be, and what is said to have been cut off and was not the model's doing."""

from functools import partial

from tests.faults import healing

KIND = "token counts"
passing, early, staying = (partial(each, KIND) for each in (healing.passing, healing.early, healing.staying))

missing = passing("counts: none in some answers", "count-missing")
missing_stream = passing("counts: none in some streams", "count-missing", streamed=True)
negative = passing("counts: negative", "count-negative")
too_many = passing("counts: more than max_tokens", "count-too-many")
zero = passing("counts: no token for a text", "count-zero", streamed=True)
words = passing("counts: words for numbers", "count-text")
cut_short = passing("counts: cut off before max_tokens", "cut-short", most=1)

early_missing = early("counts: none in the preflight", "count-missing")
early_cut = early("counts: cut off in the preflight", "cut-short")

always_missing = staying("counts: none from then on", "count-missing", "tokens are not counted")
always_missing_stream = staying(
    "counts: none in streams from then on", "count-missing", "without token counts", streamed=True
)
always_negative = staying("counts: negative from then on", "count-negative", "answered no OpenAI completion")
always_too_many = staying(
    "counts: more than max_tokens from then on", "count-too-many", "no more than 40 were asked for"
)
always_zero = staying("counts: no token for a text from then on", "count-zero", "fewer than came")
always_cut = staying(
    "counts: cut off before max_tokens from then on", "cut-short", r"was cut off after \d tokens"
)
always_cut_stream = staying(
    "counts: streams cut off from then on", "cut-short", r"was cut off after \d tokens", streamed=True
)
