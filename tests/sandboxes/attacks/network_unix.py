"""Network: Unix sockets by path and by abstract name, the Docker engine's among them."""
import json, socket

facts = json.loads(input())
names = [facts["unix"], "\0" + facts["abstract"], "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/dbus/system_bus_socket", "/run/systemd/private", "\0/containerd-shim"]
for name in [*names, *(f"/proc/1/root{name}" for name in names if name[0] == "/")]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try:
            with socket.socket(socket.AF_UNIX, kind) as reach:
                reach.connect(name)
                print("GOT", repr(name))
        except OSError:
            pass
print("TRIED")
