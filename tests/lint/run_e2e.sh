#!/bin/bash
# run_e2e.sh [ARGUMENTS OF PYTEST]: the tests at a real mount, with the programs $OSSMOUNT and $OSSD.
# Two for each processor at a time: most tests wait for time to pass now and then.
set -u
# A make that a test runs is not ours.
unset MAKEFLAGS MAKELEVEL MFLAGS MAKEOVERRIDES
if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
    echo "e2e: /dev/fuse is not there or not permitted: these tests need a real mount (run as root, load fuse)" >&2
    exit 1
fi
# Files that are named are what runs; else all.
what=tests/e2e
for arg in "$@"; do
    [ -e "${arg%%::*}" ] && what=
done
# shellcheck disable=SC2086
exec timeout -k 30 "${E2E_SECONDS:-2400}" /usr/bin/python3 -m pytest -p no:cacheprovider -q \
    -n "${E2E_JOBS:-$((2 * $(nproc)))}" --timeout="${E2E_TIMEOUT:-200}" $what "$@"
