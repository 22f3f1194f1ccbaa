#!/bin/bash
# run_fuzz.sh DIR SECONDS: runs each fuzz program of DIR for so long, one for each processor at a time, from its seeds in
# tests/fuzz/corpus/NAME.
set -u
dir=$1
export SECONDS_EACH=$2

run_one() {
    local program=$1 name=${1##*/} work=$1.work seeds
    mkdir -p "$work"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    # -rss_limit_mb: what a hostile server sends must not cost memory.
    # shellcheck disable=SC2086
    if timeout -k 5 $((SECONDS_EACH + 60)) "$program" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$work/" -print_final_stats=1 "$work" $seeds >"$program.log" 2>&1 </dev/null; then
        echo "fuzz: $name passed: $(sed -n 's/^stat::number_of_executed_units: *//p' "$program.log") runs"
    else
        echo "fuzz: $name FAILED"
        tail -n 60 "$program.log"
        return 1
    fi
}
export -f run_one

programs=()
for program in "$dir"/fuzz_*; do
    case $program in *.*) continue ;; esac
    [ -x "$program" ] && [ -f "$program" ] && programs+=("$program")
done
[ ${#programs[@]} -gt 0 ] || { echo "fuzz: no fuzz programs" >&2; exit 1; }
printf '%s\0' "${programs[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'run_one "$0"' || exit 1
