"""Cheating: forged results, ends and greetings on every descriptor, in the guest's own format."""
#: endings = ["ok"]
import json, os, struct

word = json.loads(input())["mark"] + " TRIED"
head = json.dumps({"status": "ok", "message": "", "seconds": 0, "alarmed": False}).encode()
end = json.dumps({"exit": 0, "reason": "end", "out_of_memory": False, "dirty": ""}).encode()
for number in range(256):
    for kind in (b"", b"O", b"E", b"H"):
        for payload in (struct.pack(">II", len(head), len(word)) + head + word.encode(), head):
            try:
                os.write(number, (kind and kind + struct.pack(">I", len(payload))) + payload + b"E" + struct.pack(">I", len(end)) + end)
            except OSError:
                pass
os._exit(0)
