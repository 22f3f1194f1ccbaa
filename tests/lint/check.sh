#!/bin/bash
# check.sh [--long]: everything that must hold, stage by stage; `make check`.
#
# The tests at real mounts wait for time to pass now and then: while they run, the other flavours are built with what
# the processors have left.
# Each stage runs even when one before it failed (but for the build, without which nothing can); the end is a table of
# stages with their minutes, the runners' own last lines, and exit status 1 when any stage failed.
# CHECK_ONLY="unit e2e" runs only these stages. Output of each stage: build/check/STAGE.log.
set -u
cd "$(dirname "$0")/../.." || exit 1
long=no
[ "${1:-}" = --long ] && long=yes
logs=build/check
mkdir -p $logs
table=() failed=0 begin=$(date +%s)
# A make above us must not hand its options down: each stage is a make of its own.
unset MAKEFLAGS MAKELEVEL MFLAGS FLAVOUR
jobs=$(nproc)

# User and system seconds of all that has ended so far.
cpu() {
    awk 'NR == 2 { gsub(/[ms]/, " "); split($0, t, " "); printf "%.0f", t[1] * 60 + t[2] + t[3] * 60 + t[4] }'
}

minutes() { awk -v s="$1" 'BEGIN { printf "%5.1f min", s / 60 }'; }

stage() { # NAME COMMAND...
    local name=$1 start end r before after took
    shift
    case " ${CHECK_ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    printf '\n=== %s\n' "$name"
    start=$(date +%s)
    times >"$logs/times"
    before=$(cpu <"$logs/times")
    "$@" </dev/null 2>&1 | tee "$logs/$name.log"
    r=${PIPESTATUS[0]}
    end=$(date +%s)
    times >"$logs/times"
    after=$(cpu <"$logs/times")
    took="$(minutes $((end - start))) $(minutes $((after - before)))"
    if [ "$r" = 0 ]; then
        table+=("$took  ok      $name")
    else
        table+=("$took  FAILED  $name")
        failed=1
    fi
    printf '=== %s: %s, %s\n' "$name" "$([ "$r" = 0 ] && echo ok || echo FAILED)" "$(minutes $((end - start)))"
    return "$r"
}

finish() {
    printf '\n     took processor\n'
    printf '%s\n' "${table[@]}"
    printf '%s            in all\n\n' "$(minutes $(($(date +%s) - begin)))"
    # The runners' own words; awk sums up what many programs say one by one.
    for log in "$logs"/unit*.log; do
        [ "$log" -nt "$logs/.begin" ] &&
            grep -hE '^(unit: |test_[a-z0-9_]*: )' "$log" | sed "s/^/$(printf '%-10s ' "$(basename "$log" .log)")/"
    done
    for log in "$logs"/fuzz.log; do
        [ "$log" -nt "$logs/.begin" ] && grep -h '^fuzz: ' "$log"
    done
    for log in "$logs"/e2e*.log; do
        [ "$log" -nt "$logs/.begin" ] &&
            printf '%-10s %s\n' "$(basename "$log" .log)" "$(grep -E '^[=]* ?[0-9]+ (passed|failed|error|skipped)' "$log" | tail -n 1)"
    done
    if [ $failed = 0 ]; then echo "check: passed"; else echo "check: FAILED"; fi
    exit $failed
}
touch $logs/.begin

quiet_make() { make --no-print-directory -s -j"$jobs" "$@"; }
build() { quiet_make all && ls -l build/ossmount build/ossd; }
clang() { quiet_make FLAVOUR=clang all unit-programs; }
unit() { quiet_make "$@" unit-programs && make --no-print-directory -s "$@" unit; }
fuzz() { quiet_make FLAVOUR=fuzz fuzz-programs && make --no-print-directory -s fuzz FUZZ_SECONDS="$1"; }
# The whole set with the plain build; of those marked `sanitizer`, what moves data or runs at the same time once more,
# a fifth of the cases with one sanitizer and a fifth with the other. With --long all of them with both.
e2e() { quiet_make all && make --no-print-directory -s e2e; }
e2e_flavour() {
    local args="-m sanitizer -k 'not test_posix_attributes and not test_posix_names and not test_interop' --part $2"
    [ $long = no ] || args=
    quiet_make all && quiet_make FLAVOUR="$1" ossmount &&
        E2E_TIMEOUT=300 make --no-print-directory -s FLAVOUR="$1" e2e ARGS="$args"
}
e2e_asan() { e2e_flavour asan 1/5; }
e2e_tsan() { e2e_flavour tsan 3/5; }

# What does not build fails in its own stage, which makes it again and shows why.
build_ahead() {
    [ -z "${CHECK_ONLY:-}" ] || return 0
    (
        renice -n 19 $BASHPID
        for flavour in clang asan tsan; do
            quiet_make -k FLAVOUR=$flavour all unit-programs
        done
        quiet_make -k unit-programs
        quiet_make -k FLAVOUR=fuzz fuzz-programs
    ) </dev/null >$logs/ahead.log 2>&1 &
}

stage deps make --no-print-directory -s deps || finish
stage build build || finish
fuzz_seconds=6
if [ $long = yes ]; then
    export OSSMOUNT_LONG=1 E2E_SECONDS=10800
    fuzz_seconds=300
fi
build_ahead
stage e2e e2e
wait
stage clang clang
stage lint make --no-print-directory -s lint
stage unit unit
stage unit-asan unit FLAVOUR=asan
stage unit-tsan unit FLAVOUR=tsan
stage e2e-asan e2e_asan
stage e2e-tsan e2e_tsan
stage fuzz fuzz $fuzz_seconds
finish
