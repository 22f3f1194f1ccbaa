#!/bin/bash
# demo.sh: what ossmount does, in half a minute, without an account; called by `make demo`.
#
# Starts the local OSS server on a free port of 127.0.0.1 with its store in a temporary directory, mounts its bucket,
# copies real trees into the mount with cp -r and rsync -a, lists what the server holds, mounts anew with nothing in
# the cache and compares. STAY=1 leaves everything running until Ctrl-C. It always cleans up behind itself.
set -eu
cd "$(dirname "$0")/.."
ossmount=$PWD/build/ossmount ossd=$PWD/build/ossd
top=$(mktemp -d "${TMPDIR:-/tmp}/ossmount-demo.XXXXXX")
mnt=$top/mnt store=$top/store server=0

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command, and runs it.
run() {
    printf '  $ %s\n' "$*"
    "$@"
}

cleanup() {
    local status=$?
    trap - EXIT INT TERM
    cd /
    if mountpoint -q "$mnt"; then
        # Something of the user's may still be in there: then the mount goes as soon as it is left.
        fusermount3 -u "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" || true
    fi
    # The daemon sends what is unsent, then drops its lock; the server has to outlive it.
    wait_daemon || true
    if [ "$server" != 0 ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$top"
    [ $status = 0 ] || echo "demo: FAILED (exit $status)" >&2
    exit $status
}
trap cleanup EXIT
trap "exit 130" INT
trap "exit 143" TERM

wait_daemon() {
    local lock
    for lock in "$top"/state/*/lock; do
        [ -e "$lock" ] || continue
        # Released when the daemon has ended.
        for _ in $(seq 300); do
            kill -0 "$(cat "$lock")" 2>/dev/null || break
            sleep 0.1
        done
    done
}

options() {
    echo "url=$url,region=cn-test,passwd_file=$top/passwd,cache_dir=$top/state"
}

# What the server says about its bucket, from its control port.
objects() {
    curl -sf "$control/objects?bucket=demo-bucket" | python3 -c '
import json, sys
found = json.load(sys.stdin)
found = found["objects"] if isinstance(found, dict) else found
files = [o for o in found if not o["key"].endswith("/")]
for o in files[:: max(1, len(files) // 8)][:8]:
    print("  %9d bytes  %s" % (o["size"], o["key"]))
print("  ... in all %d objects, %d directory markers, %d bytes"
      % (len(files), len(found) - len(files), sum(o["size"] for o in files)))'
}
requests() {
    curl -sf "$control/counters" | python3 -c '
import json, sys
found = json.load(sys.stdin)["requests"]
found = {k: n for k, n in found.items() if n and k != "total"}
print("  %d requests: %s" % (sum(found.values()), ", ".join("%d %s" % (n, k) for k, n in sorted(found.items()))))'
    curl -sf -X POST "$control/reset" >/dev/null
}

if [ ! -c /dev/fuse ]; then
    echo "demo: /dev/fuse is missing: load the kernel module (modprobe fuse), or start the container with --device" \
        "/dev/fuse --cap-add SYS_ADMIN" >&2
    exit 1
fi
mkdir "$mnt" "$store"
(umask 077 && echo "demo:demo-secret" >"$top/passwd")

say "1. A local OSS server with an empty bucket"
setsid "$ossd" --store "$store" --port 0 --control-port 0 --bucket demo-bucket --key demo:demo-secret --region cn-test \
    >"$top/ossd.out" 2>"$top/ossd.err" </dev/null &
server=$!
for _ in $(seq 100); do
    grep -q listening "$top/ossd.out" && break
    kill -0 $server 2>/dev/null || break
    sleep 0.1
done
if ! read -r _ _ url _ control < <(grep listening "$top/ossd.out"); then
    echo "demo: the server did not start:" >&2
    cat "$top/ossd.out" "$top/ossd.err" >&2
    exit 1
fi
echo "  it answers at $url"

say "2. Mount the bucket"
run "$ossmount" demo-bucket "$mnt" -o "$(options)"

trees=(oss cache fs tests)
say "3. cp -r of this program's sources, rsync -a of /usr/include/linux"
mkdir "$mnt/src"
run cp -r "${trees[@]}" "$mnt/src/"
requests
if [ -d /usr/include/linux ]; then
    run rsync -a /usr/include/linux "$mnt/"
    requests
    echo "  once more, with nothing changed:"
    run rsync -a --stats /usr/include/linux "$mnt/" | grep -E '^  \$|files transferred'
    requests
fi

say "4. What the server holds now"
objects

say "5. Unmount, forget everything local, mount again, compare"
run fusermount3 -u "$mnt"
wait_daemon
rm -rf "$top/state"
run "$ossmount" demo-bucket "$mnt" -o "$(options)"
for tree in "${trees[@]}"; do
    run diff -r "$tree" "$mnt/src/$tree"
done
[ ! -d /usr/include/linux ] || run diff -r /usr/include/linux "$mnt/linux"
echo "  identical"

if [ "${STAY:-}" = 1 ]; then
    say "Mounted, for you to play with"
    cat <<END
  The bucket:      cd $mnt
  As the server sees it: curl -s '$control/objects?bucket=demo-bucket'
  Its store:       $store
  To stop:         Ctrl-C here (everything of the demo is removed then)
END
    # A signal ends this wait at once; the server ends only when something went wrong.
    trap 'exit 0' INT TERM
    wait $server || true
    echo "demo: the server ended:" >&2
    cat "$top/ossd.err" >&2
    exit 1
fi
cat <<END

All of it is unmounted and removed now. To stay mounted and play on:   make demo STAY=1   (Ctrl-C stops it)
With a bucket of your own: README.md, "Mount your own bucket".
END
