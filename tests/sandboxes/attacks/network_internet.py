"""Network: TCP, UDP and DNS over IPv4 and IPv6, to the host's addresses and to the world."""
#: seconds = 60
import json, socket

facts = json.loads(input())
tried = 0
for address in [*facts["addresses"], "1.1.1.1", "2606:4700:4700::1111", "169.254.169.254", "224.0.0.1", "255.255.255.255"]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in [*facts["ports"].values(), 53, 80, 2375]:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            tried += 1
            try:
                with socket.socket(family, kind) as reach:
                    reach.settimeout(0.2)
                    if kind == socket.SOCK_DGRAM:
                        reach.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                        reach.sendto(b"hello", (address, port))
                    else:
                        reach.connect((address, port))
                        print("GOT a connection to", address, port)
            except OSError:
                pass
try:
    print("GOT an address", socket.getaddrinfo("example.com", 80))
except OSError:
    pass
print("TRIED", tried)
