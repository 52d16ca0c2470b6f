"""What comes over the wire is cut, spoilt or not what it says it is."""

from functools import partial

from tests.faults import healing

KIND = "wire"
passing, early, staying = (partial(each, KIND) for each in (healing.passing, healing.early, healing.staying))

reset = passing("wire: connection reset in an answer", "reset")
reset_stream = passing("wire: connection reset in a stream", "reset", streamed=True)
ended = passing("wire: answer ends half-way", "ended")
ended_stream = passing("wire: stream ends half-way", "ended", streamed=True)
malformed = passing("wire: malformed JSON", "malformed")
malformed_stream = passing("wire: malformed event", "malformed", streamed=True)
stream_error = passing("wire: error inside a stream", "stream-error", streamed=True)
html = passing("wire: a page instead of an answer", "200-html")
error_in_200 = passing("wire: an error with status 200", "200-error")
null_content = passing("wire: null content", "null-content")
null_stream = passing("wire: null content in a stream", "null-content", streamed=True)
empty_content = passing("wire: empty content", "empty-content")
no_choices = passing("wire: no choices", "no-choices")
no_end = passing("wire: no finish_reason", "no-finish-reason")

early_malformed = early("wire: malformed JSON in the preflight", "malformed")
early_null = early("wire: null content in the preflight", "null-content")
early_reset = early("wire: connection reset in the preflight", "reset", streamed=True)

always_malformed = staying("wire: malformed JSON for good", "malformed", "answered no OpenAI completion")
always_malformed_stream = staying(
    "wire: malformed events for good", "malformed", "an event is no completion chunk", streamed=True
)
always_null = staying("wire: null content for good", "null-content", "no text came")
always_empty = staying("wire: empty content for good", "empty-content", "no text came", streamed=True)
always_reset = staying("wire: every connection reset", "reset", "keeps failing")
