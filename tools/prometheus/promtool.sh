#!/usr/bin/env bash
# Prints the path of promtool: the one that is installed, or the one of Debian's package prometheus, unpacked under CACHE
# and not installed, so that no service is started and nobody needs to be root. Fails when there is neither.
#
#   tools/prometheus/promtool.sh CACHE
set -euo pipefail

cache=$(mkdir -p "${1:?CACHE, where to unpack the package}" && cd "$1" && pwd)
command -v promtool && exit
tool=$cache/usr/bin/promtool
if [ ! -x "$tool" ]; then
  command -v apt-get dpkg-deb >/dev/null || { echo "promtool is missing, and there is no apt-get to fetch it: install Prometheus" >&2; exit 1; }
  echo "fetching promtool" >&2
  cd "$cache"
  apt-get -q download prometheus >&2 ||
    { [ "$(id -u)" = 0 ] && apt-get -q update >&2 && apt-get -q download prometheus >&2; } ||
    { echo "promtool is missing and the package prometheus can't be fetched: install it, or run apt-get update as root" >&2; exit 1; }
  dpkg-deb -x prometheus_*.deb "$cache"
  rm prometheus_*.deb
fi
"$tool" --version >&2 || { echo "$tool does not run here: install the package prometheus" >&2; exit 1; }
echo "$tool"
