#!/bin/bash
# run_fuzz.sh DIR SECONDS: runs each fuzz program of DIR for so long, from its seeds in tests/fuzz/corpus/NAME.
set -u
dir=$1 seconds=$2 failed=0 n=0
for program in "$dir"/fuzz_*; do
    [ -x "$program" ] && [ -f "$program" ] || continue
    case $program in *.*) continue ;; esac
    name=${program##*/}
    n=$((n + 1))
    work=$dir/$name.work
    mkdir -p "$work"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    # -rss_limit_mb: what a hostile server sends must not cost memory.
    if timeout -k 5 $((seconds + 60)) "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -artifact_prefix="$work/" -print_final_stats=1 "$work" $seeds >"$program.log" 2>&1 </dev/null; then
        echo "fuzz: $name passed: $(sed -n 's/^stat::number_of_executed_units: *//p' "$program.log") runs"
    else
        echo "fuzz: $name FAILED"
        tail -n 60 "$program.log"
        failed=1
    fi
done
[ $n -gt 0 ] || { echo "fuzz: no fuzz programs" >&2; exit 1; }
exit $failed
