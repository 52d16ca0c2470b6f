#!/bin/sh
# Starts a Docker engine where we are root on Debian (or Ubuntu) and none answers.
# Quick and silent about it when one already runs. Exit 0: an engine answers.
set -eu

log="${DOCKERD_LOG:-/var/log/dasd-harness-dockerd.log}"
socket=/var/run/docker.sock

answers() {
    python3 - "$socket" 2>/dev/null <<'PY'
import socket, sys
with socket.socket(socket.AF_UNIX) as engine:
    engine.settimeout(5)
    engine.connect(sys.argv[1])
    engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
    sys.exit(b"200 OK" not in engine.recv(4096).split(b"\r\n", 1)[0])
PY
}

fail() {
    echo "start-engine: $1" >&2
    exit 1
}

install_packages() {
    missing=""
    command -v dockerd >/dev/null 2>&1 || missing="$missing docker.io"
    command -v debootstrap >/dev/null 2>&1 || missing="$missing debootstrap"
    command -v bwrap >/dev/null 2>&1 || missing="$missing bubblewrap"
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || fail "no apt-get here: install and start Docker by hand"
    echo "start-engine: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log.apt" 2>&1 ||
        fail "apt-get could not install$missing; see $log.apt"
}

[ -z "${DOCKER_HOST:-}" ] || { echo "start-engine: DOCKER_HOST is set, that engine is used"; exit 0; }
if answers; then
    echo "start-engine: an engine already answers"
    exit 0
fi
[ "$(id -u)" = 0 ] || fail "no engine answers on $socket and we are not root: start Docker, or join its group"
# Two of us at once would install and start two: the second waits, and finds the first one's engine.
if command -v flock >/dev/null 2>&1; then
    exec 9>/var/lock/dasd-harness-start-engine
    flock 9
fi
answers || install_packages
if answers; then
    exit 0
fi
rm -f /var/run/docker.pid
# overlay2, because vfs copies the whole image for every container. The sandbox needs no network.
setsid dockerd --storage-driver=overlay2 --bridge=none --iptables=false --ip6tables=false \
    >"$log" 2>&1 </dev/null 9>&- &

tries=0
until answers; do
    tries=$((tries + 1))
    [ "$tries" -lt 120 ] || { tail -n 15 "$log" >&2; fail "dockerd did not answer within 60 s; see $log"; }
    sleep 0.5
done
echo "start-engine: Docker engine ready (log $log)"
