"""Network: sockets of every other family and raw ones, netlink changes, vsock to the hypervisor and the host."""
import errno, json, socket, struct

facts = json.loads(input())
for family in range(1, 64):
    for kind in (1, 2, 3, 5, 10):
        for protocol in (0, 1, 3, 255, 768):
            try:
                opened = socket.socket(family, kind, protocol)
            except OSError:
                continue
            # Local sockets, IPv4 and IPv6 without a network, and netlink are harmless by themselves.
            if family not in (1, 2, 10, 16) or (kind == 3 and family in (2, 10)) or kind == 10:
                print("GOT a socket of family", family, "kind", kind, "protocol", protocol)
            opened.close()
for number in (0, 1, 2, 3, 0xFFFFFFFF):
    for port in (facts["ports"].get("vsock", 5555), 1024, 22):
        try:
            with socket.socket(40, socket.SOCK_STREAM) as reach:
                reach.settimeout(0.2)
                reach.connect((number, port))
                print("GOT vsock", number)
        except OSError as error:
            if error.errno in (errno.ECONNRESET, errno.ECONNREFUSED):
                print("GOT an answer by vsock", number)
try:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    link.settimeout(1)
    # RTM_NEWLINK with NLM_F_REQUEST | NLM_F_ACK: bring up loopback, then an address of our own.
    for kind, body in ((16, struct.pack("BxHiII", 0, 0, 1, 0x1, 0x1)), (20, struct.pack("BBBBI", 2, 24, 0, 0, 1) + struct.pack("HH4s", 8, 2, b"\n\0\0\1"))):
        link.send(struct.pack("IHHII", 16 + len(body), kind, 5 | 0x400, 1, 0) + body)
        if struct.unpack_from("i", link.recv(4096), 16)[0] == 0:
            print("GOT a change of the network by netlink", kind)
except OSError:
    pass
print("TRIED")
