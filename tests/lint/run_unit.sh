#!/bin/bash
# run_unit.sh LOGDIR PROGRAM...: runs the unit test programs, two for each processor at a time (many of them wait), each
# within UNIT_SECONDS.
# Prints cmocka's own last lines of each and the whole output of those that failed, once more at the end the names and
# last lines of those; fails when one did.
set -u
logs=$1
shift
[ $# -gt 0 ] || { echo "unit: no test programs" >&2; exit 1; }

export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

run_one() {
    local log=$1/${2##*/}.log
    if timeout -k 5 "${UNIT_SECONDS:-300}" "$2" >"$log" 2>&1 </dev/null; then
        # A program that ran nothing proves nothing.
        if grep -q '^\[  PASSED  \] [1-9]' "$log"; then
            printf '%-28s %s\n' "${2##*/}" "$(grep '^\[  PASSED  \]' "$log" | tr '\n' ' ')"
            return 0
        fi
        echo "${2##*/}: ended with 0 but no test passed"
    else
        echo "${2##*/}: FAILED, exit $?"
    fi
    sed "s/^/    /" "$log"
    touch "$log.failed"
    return 1
}
export -f run_one
rm -f "$logs"/*.log.failed
printf '%s\0' "$@" | xargs -0 -n 1 -P "${UNIT_JOBS:-$((2 * $(nproc)))}" bash -c 'run_one "$0" "$1"' "$logs"
r=$?
total=$(cat "${@/%/.log}" 2>/dev/null | sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' | awk '{ n += $1 } END { print n + 0 }')
if [ $r = 0 ]; then
    echo "unit: $total tests passed in $# programs"
else
    for failed in "$logs"/*.log.failed; do
        tail -n 40 "${failed%.failed}" | sed "s/^/$(basename "$failed" .log.failed): /"
    done
    echo "unit: FAILED ($total tests passed in $# programs)"
    exit 1
fi
