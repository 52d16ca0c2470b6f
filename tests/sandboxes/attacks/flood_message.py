"""Output: an error whose message has 50 MB, and a result that claims one, to fill the rows of verdicts."""
#: endings = ["crash", "runtime_error", "output_limit"]
#: seconds = 30
import json, os, struct

record = {"status": "runtime_error", "message": "z" * (50 * 2**20), "seconds": 0, "alarmed": False}
head = json.dumps(record).encode()
data = memoryview(struct.pack(">II", len(head), 0) + head)
while data:
    data = data[os.write(3, data):]
os._exit(0)
