#!/usr/bin/env bash
# Makes sure that PostgreSQL 15 is installed, and that the regression suite of just that
# version is built under CACHE. Prints the suite's directory. Installing needs root; everything else doesn't.
#
#   tools/postgres/prepare.sh CACHE          the server and the regression suite
#   tools/postgres/prepare.sh --server       only the server
set -euo pipefail

binaries=/usr/lib/postgresql/15/bin
say() { echo "prepare: $*" >&2; }

install_server() {
  [ -x $binaries/postgres ] && return
  [ "$(id -u)" = 0 ] || { say "PostgreSQL 15 is missing: install postgresql-15 as root"; exit 1; }
  say "installing PostgreSQL 15"
  # The tests start servers of their own: the package must not make a cluster.
  mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/logcore.conf
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql-15 postgresql-client-15; } >&2
}

build_tools() {
  local missing=()
  for tool in gcc make bison flex perl dpkg-source; do
    command -v $tool >/dev/null || missing+=("$tool")
  done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || { say "missing: ${missing[*]}"; exit 1; }
  apt-get install -qy --no-install-recommends gcc libc6-dev make bison flex perl dpkg-dev >&2
}

# fetch_source downloads the source package with lists of its own, so that the machine's apt
# stays as it is.
fetch_source() {
  local lists=$cache/apt suite
  mkdir -p "$lists/lists/partial" "$lists/empty"
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  cat >"$lists/sources.list" <<SOURCES
deb-src http://deb.debian.org/debian $suite main
deb-src http://deb.debian.org/debian $suite-updates main
deb-src http://deb.debian.org/debian-security $suite-security main
SOURCES
  local apt=(apt-get -q -o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::Etc::SourceParts=$lists/empty" -o "Dir::State::Lists=$lists/lists" -o APT::Sandbox::User=root)
  "${apt[@]}" update >&2
  "${apt[@]}" source --download-only "postgresql-15=$version" >&2 || { say "no source of $version: the newest is taken"; "${apt[@]}" source --download-only postgresql-15 >&2; }
}

install_server
[ "${1:?CACHE, where to keep the source, or --server}" != --server ] || exit 0
cache=$(mkdir -p "$1" && cd "$1" && pwd)
version=$(dpkg-query -W -f '${Version}' postgresql-15)
tree=$cache/$version
regress=$tree/src/test/regress
if [ ! -e "$tree/built.2" ]; then
  build_tools
  say "building the regression suite of PostgreSQL $version; takes about two minutes"
  work=$(mktemp -d "$cache/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  fetch_source
  mkdir tree
  tar -xf postgresql-15_*.orig.tar.* -C tree --strip-components 1
  cd tree
  ./configure --without-readline --without-zlib --quiet >&2
  make -s -C src/backend generated-headers >&2
  make -s -C src/test/regress >&2
  # Headers are links to where they were made, which is not where they stay.
  find src/include -type l | while read -r link; do cp --remove-destination "$(readlink -f "$link")" "$link"; done
  touch built.2
  chmod -R a+rX .
  rm -rf "$tree"
  mv "$work/tree" "$tree"
fi
ln -sfn "$version" "$cache/tree"
# The server runs as a user of its own, who has to get there: when a directory above is closed to
# others, as that of a private clone is, the suite is copied to where everybody may look.
for dir in "$regress" "$tree" "$cache"; do chmod a+rx "$dir"; done
if [ "$(id -u)" = 0 ] && ! runuser -u postgres -- test -r "$regress/parallel_schedule"; then
  open=/var/tmp/logcore-pg-regress-$version
  rm -rf "$open"
  cp -r "$regress" "$open"
  chmod -R a+rX "$open"
  runuser -u postgres -- test -r "$open/parallel_schedule" || { say "user postgres can't read $open either"; exit 1; }
  regress=$open
fi
echo "$regress"
