#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes sure that a fresh Debian 12 has what a verb of the Makefile needs.
# As root it installs what is missing; otherwise it prints the line and stops.
set -eu

build="gcc libc6-dev make"
demo="$build mmdebstrap curl openssl python3"
test="$demo musl-tools binutils perl util-linux docker.io skopeo jq procps iproute2 python3-flask"
bench="$test"

case "${1:-}" in
    build) wanted=$build ;;
    demo) wanted=$demo ;;
    test) wanted=$test ;;
    bench) wanted=$bench ;;
    *)
        echo "usage: setup.sh build|demo|test|bench" >&2
        exit 2
        ;;
esac

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "setup: these Debian packages are missing; install them and try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --yes --no-install-recommends$missing" >&2
    exit 1
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >&2
# shellcheck disable=SC2086
apt-get -qq install --yes --no-install-recommends $missing >/dev/null
