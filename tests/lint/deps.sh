#!/bin/sh
# deps.sh PACKAGE[:COMMAND]...: sees to it that the packages are there; called by `make deps`.
# A package with a command counts as there when the command is. With nothing missing it does nothing, fast.
set -eu

debian=no
command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1 && debian=yes

by_name=
missing=
all=
for item in "$@"; do
    name=${item%%:*}
    all="$all $name"
    case $item in
    *:*) command -v "${item#*:}" >/dev/null 2>&1 || missing="$missing $name" ;;
    *) by_name="$by_name $name" ;;
    esac
done

if [ $debian = yes ]; then
    # shellcheck disable=SC2086
    there=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $by_name 2>/dev/null | sed -n 's/ installed$//p' || true)
    for name in $by_name; do
        printf '%s\n' "$there" | grep -qxF -e "$name" || missing="$missing $name"
    done
    [ -n "$missing" ] || exit 0
    if [ "$(id -u)" != 0 ]; then
        echo "make deps: missing:$missing" >&2
        echo "make deps: only root may install them: sudo apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "make deps: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # The test of Samba starts a server of its own: installing it is not to start one, nor the next boot.
    server=no
    case " $missing " in *' samba '*) server=yes SYSTEMD_OFFLINE=1 && export SYSTEMD_OFFLINE ;; esac
    # The lists of a fresh image are empty or stale: without an update the first install would fail.
    apt-get update -qq </dev/null
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing </dev/null >/dev/null
    [ $server = no ] || systemctl --quiet disable smbd nmbd samba-ad-dc >/dev/null 2>&1 || true
    exit 0
fi

# Elsewhere the compiler is the judge: what the build needs is looked for, the names are for the reader.
for package in fuse3 libcurl openssl libxml-2.0 libmicrohttpd; do
    pkg-config --exists "$package" 2>/dev/null || missing="$missing $package"
done
for command in gcc make fusermount3; do
    command -v $command >/dev/null 2>&1 || missing="$missing $command"
done
[ -n "$missing" ] || exit 0
cat >&2 <<END
make deps: missing:$missing
This installs only with apt-get. The packages are called:
  Debian, Ubuntu:$all
  Fedora: $FEDORA
  Arch: $ARCH
  Alpine: $ALPINE
END
exit 1
