#!/bin/sh
# Checks this folder, loads the image and starts the service. It needs Docker, and no network.
# Written by ./llmdeploy export; run again, it does nothing where nothing is new.
# 校验本目录、载入镜像并启动服务；只需要 Docker，不需要网络。重复运行不会有副作用。
set -eu
key=${1:-} # the public key of whoever signed it
case $key in "" | /*) ;; *) key=$PWD/$key ;; esac
cd "$(dirname "$0")"

name="@NAME@"
image="@IMAGE@"
base="@BASE@" # the image that an update builds upon
keys="@KEYS@" # the file of API keys, if there have to be some
before="$name-before"

case ${LLMDEPLOY_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}} in
zh*) say() { echo "load.sh：$2" >&2; } ;;
*) say() { echo "load.sh: $1" >&2; } ;;
esac

# fail CODE ENGLISH CHINESE: the exit codes are those of llmdeploy.
fail() {
    say "$2" "$3"
    exit "$1"
}

check() {
    [ -f SHA256SUMS ] || fail 6 "SHA256SUMS is missing. Copy the whole folder." \
        "缺少 SHA256SUMS，请复制整个目录。"
    while read -r sum file; do
        [ -f "$file" ] || fail 6 "$file is missing. Copy the whole folder again." \
            "缺少 $file，请重新复制整个目录。"
        [ "$(sha256sum <"$file")" = "$sum  -" ] ||
            fail 5 "$file is damaged: it is not what was exported. Nothing was loaded; copy it again." \
                "$file 已损坏，与导出的内容不符。没有载入任何内容，请重新复制。"
    done <SHA256SUMS
}

# Whoever changes a file can write SHA256SUMS anew. A signature tells.
verify() {
    if [ -z "$key" ]; then
        [ ! -f SHA256SUMS.sig ] ||
            say "The folder is signed. To check that: sh load.sh KEY.pub" "本目录已签名，如需验证：sh load.sh KEY.pub"
        return
    fi
    [ -f "$key" ] || fail 2 "There is no file $key." "文件 $key 不存在。"
    [ -f SHA256SUMS.sig ] || fail 32 "The folder is not signed. Nothing was loaded." \
        "本目录没有签名。没有载入任何内容。"
    command -v openssl >/dev/null || fail 9 "The signature cannot be checked: openssl is not installed." \
        "无法验证签名：没有安装 openssl。"
    base64 -d SHA256SUMS.sig | openssl dgst -sha256 -verify "$key" -signature /dev/stdin SHA256SUMS >/dev/null 2>&1 ||
        fail 32 "The folder was signed with another key, or changed since. Nothing was loaded." \
            "本目录由另一把密钥签名，或在签名后被改动。没有载入任何内容。"
}

prepared() {
    [ -z "$keys" ] || [ -s "$keys" ] ||
        fail 4 "The service is for keys only. Make one: openssl rand -hex 32 > keys" \
            "该服务只接受密钥访问，请先生成：openssl rand -hex 32 > keys"
}

engine() {
    command -v docker >/dev/null || fail 9 "Docker is not installed." "没有安装 Docker。"
    if answer=$(docker version 2>&1); then return; fi
    case $answer in
    *"ermission denied"*) fail 10 "This user may not use Docker: sudo sh load.sh" \
        "当前用户无权使用 Docker：sudo sh load.sh" ;;
    esac
    fail 9 "Docker does not answer. Start it: systemctl start docker" \
        "Docker 没有响应，请先启动：systemctl start docker"
}

running() {
    docker container inspect \
        --format '{{.State.Running}} {{index .Config.Labels "io.llmdeploy.export"}}' "$name" 2>/dev/null
}

load() {
    [ -z "$base" ] || docker image inspect "$base" >/dev/null 2>&1 ||
        fail 11 "This is an update of $base, which is not here. Load that export first." \
            "这是对 $base 的更新，而本机没有该镜像，请先载入它的导出。"
    say "loading the image" "正在载入镜像"
    if command -v zstd >/dev/null; then
        zstd -dcq image.tar.zst | docker load >/dev/null
    else
        docker load --input image.tar.zst >/dev/null # from Docker 23 on it reads zstd itself
    fi || fail 19 "Docker did not take the image. Before version 23 it needs the program zstd; for an update, the store of images that it had before." \
        "Docker 没有接收镜像。23 之前的版本需要 zstd 程序；更新时需要原来的镜像存储。"
    docker image inspect "$image" >/dev/null 2>&1 ||
        fail 19 "Docker did not take the image $image." "Docker 没有接收镜像 $image。"
}

ready() {
    left=@PATIENCE@
    until docker exec "$name" @PROBE@ >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 1
    done
}

# What ran before is stopped, kept, and started again if the new one does not become ready.
start() {
    docker network inspect "$name" >/dev/null 2>&1 ||
        docker network create @NETWORK@ "$name" >/dev/null
    if docker container inspect "$before" >/dev/null 2>&1; then # an earlier run was broken off
        docker rm --force "$name" >/dev/null 2>&1 || :
    else
        docker rename "$name" "$before" 2>/dev/null || :
    fi
    docker stop "$before" >/dev/null 2>&1 || :
    # shellcheck disable=SC2086 # the mount is two words or none
    docker run --detach --name "$name" --network "$name" --label "io.llmdeploy.export=$stamp" \
        ${keys:+--volume "$PWD/$keys:/run/secrets/keys:ro"} \
        @OPTIONS@ "$image" @WORDS@ >/dev/null
}

check
verify
prepared
engine
stamp=$(sha256sum <SHA256SUMS)
stamp=${stamp%% *}
if [ "$(running)" = "true $stamp" ] && ready; then
    say "nothing changed; @URL@ answers" "没有变化；@URL@ 正在服务"
    exit
fi
load
say "starting the service" "正在启动服务"
if start && ready; then
    docker rm "$before" >/dev/null 2>&1 || :
    say "ready: @URL@" "已就绪：@URL@"
    exit
fi
docker logs --tail 10 "$name" >&2 || :
docker rm --force "$name" >/dev/null 2>&1 || :
if docker rename "$before" "$name" 2>/dev/null; then docker start "$name" >/dev/null; fi
fail 30 "The service did not become ready within @PATIENCE@ seconds; what ran before runs again." \
    "服务没有在 @PATIENCE@ 秒内就绪，已恢复之前的服务。"
