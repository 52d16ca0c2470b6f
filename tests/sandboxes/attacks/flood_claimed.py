"""Output: claims a result of 500 MB and sends it, empty lists inside, to fill the judge's memory."""
#: endings = ["crash"]
#: seconds = 60
import json, posix, struct

size = 500 * 2**20
head = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
posix.write(3, struct.pack(">II", len(head), size) + head)
piece = b"[],{}," * 100000
for _ in range(size // len(piece)):
    posix.write(3, piece)
