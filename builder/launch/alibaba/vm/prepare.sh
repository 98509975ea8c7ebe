#!/bin/sh
# What the service needs before each start: an engine, its API keys, its image. All of it is asked
# for again at every start, so that nothing has to be repaired by hand.
# The variables are those of service.env, which systemd hands on.
set -eu

if ! command -v dockerd >/dev/null; then
    if command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update
        apt-get install -y --no-install-recommends docker.io apparmor iptables
    else
        dnf install -y docker
    fi
fi
systemctl start docker
docker rm --force llmdeploy >/dev/null 2>&1 || true

# Without masquerading nothing beyond this machine can answer the container.
docker network inspect closed >/dev/null 2>&1 ||
    docker network create --opt com.docker.network.bridge.enable_ip_masquerade=false closed

umask 077
ask=/usr/local/lib/llmdeploy/role.py
if [ -n "$SECRET" ]; then
    python3 "$ask" secret "$ROLE" "$REGION" "$SECRET" >/run/llmdeploy/new
    mv /run/llmdeploy/new /run/llmdeploy/keys
else
    # Nobody named a secret: this machine makes a key of its own, once. Root reads it here.
    keys=/var/lib/llmdeploy/keys
    [ -s "$keys" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$keys"
    cp "$keys" /run/llmdeploy/keys
fi
chown 10001 /run/llmdeploy/keys

docker image inspect "$IMAGE" >/dev/null 2>&1 && exit
if [ -n "$INSTANCE" ]; then
    python3 "$ask" registry "$ROLE" "$REGION" "$INSTANCE" |
        docker login --username "$(python3 "$ask" user "$ROLE" "$REGION" "$INSTANCE")" \
            --password-stdin "${IMAGE%%/*}"
fi
docker pull "$IMAGE"
