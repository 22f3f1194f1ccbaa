#!/bin/bash
# check.sh [--long]: everything that must hold, stage by stage; `make check`.
#
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

minutes() { awk -v s="$1" 'BEGIN { printf "%5.1f min", s / 60 }'; }

stage() { # NAME COMMAND...
    local name=$1 start end r
    shift
    case " ${CHECK_ONLY:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    printf '\n=== %s\n' "$name"
    start=$(date +%s)
    "$@" </dev/null 2>&1 | tee "$logs/$name.log"
    r=${PIPESTATUS[0]}
    end=$(date +%s)
    if [ "$r" = 0 ]; then
        table+=("$(minutes $((end - start)))  ok      $name")
    else
        table+=("$(minutes $((end - start)))  FAILED  $name")
        failed=1
    fi
    printf '=== %s: %s, %s\n' "$name" "$([ "$r" = 0 ] && echo ok || echo FAILED)" "$(minutes $((end - start)))"
    return "$r"
}

finish() {
    printf '\n'
    printf '%s\n' "${table[@]}"
    printf '%s  in all\n\n' "$(minutes $(($(date +%s) - begin)))"
    # The runners' own words; awk sums up what many programs say one by one.
    for log in "$logs"/unit*.log; do
        [ "$log" -nt "$logs/.begin" ] && printf '%-10s %s\n' "$(basename "$log" .log)" "$(tail -n 1 "$log")"
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
# The whole set with the plain build; of those marked `sanitizer`, what moves data or runs at the same time once more with
# each sanitizer. With --long all of them.
e2e() { quiet_make all && make --no-print-directory -s e2e; }
e2e_flavour() {
    local args="-m sanitizer -k '$2'"
    [ $long = no ] || args=
    quiet_make all && quiet_make FLAVOUR="$1" ossmount &&
        E2E_TIMEOUT=300 make --no-print-directory -s FLAVOUR="$1" e2e ARGS="$args"
}
e2e_asan() { e2e_flavour asan 'not test_posix_attributes and not test_posix_names and not test_interop'; }
e2e_tsan() { e2e_flavour tsan 'not test_posix and not test_interop'; }

stage deps make --no-print-directory -s deps || finish
stage build build || finish
stage clang clang
stage lint make --no-print-directory -s lint
stage unit unit
stage unit-asan unit FLAVOUR=asan
stage unit-tsan unit FLAVOUR=tsan
fuzz_seconds=10
if [ $long = yes ]; then
    export OSSMOUNT_LONG=1 E2E_SECONDS=10800
    fuzz_seconds=300
fi
stage e2e e2e
stage e2e-asan e2e_asan
stage e2e-tsan e2e_tsan
stage fuzz fuzz $fuzz_seconds
finish
