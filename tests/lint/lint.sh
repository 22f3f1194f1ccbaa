#!/bin/bash
# lint.sh: everything that is judged without running the program. Each finding is one line; fails when there is one.
# LINT_ONLY=tidy,format,... runs some of the parts.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0
parts=${LINT_ONLY:-includes,paths,size,options,format,tidy,python,shell}

found() { # TITLE < lines
    local lines
    lines=$(cat)
    [ -n "$lines" ] || return 0
    printf 'lint: %s\n' "$1"
    printf '%s\n' "$lines" | sed 's/^/    /'
    failed=1
}
has() { case ",$parts," in *",$1,"*) return 0 ;; esac; return 1; }

sources=$(find oss cache fs tests -name '*.c' -not -path '*/node_modules/*' -not -path '*/vectors/*' | sort)
headers=$(find oss cache fs tests -name '*.h' -not -path '*/node_modules/*' -not -path '*/vectors/*' | sort)

if has includes; then
    # An include of ours is written relative: "x.h" in its own directory, "../oss/x.h" from above.
    found 'oss/ includes only oss/' < <(grep -nE '^ *# *include +"[^"]*/' oss/*.[ch] 2>/dev/null)
    found 'cache/ includes only cache/ and oss/' < <(
        grep -nE '^ *# *include +"[^"]*/' cache/*.[ch] 2>/dev/null | grep -vE '"\.\./oss/[a-z0-9_]+\.h"')
    found 'cache/ and oss/ know no FUSE' < <(grep -nE '^ *# *include +<fuse' oss/*.[ch] cache/*.[ch] 2>/dev/null)
    found 'fs/ includes only fs/, cache/ and oss/' < <(
        grep -nE '^ *# *include +"[^"]*/' fs/*.[ch] 2>/dev/null | grep -vE '"\.\./(oss|cache)/[a-z0-9_]+\.h"')
    found 'fs/dist/ includes only fs/ and oss/' < <(
        grep -nE '^ *# *include +"' fs/dist/*.c | grep -vE '"\.\./([a-z_]+|\.\./oss/[a-z0-9_]+)\.h"')
    found 'tests/ossd includes nothing of ours but its own' < <(
        grep -nE '^ *# *include +"[^"]*/' tests/ossd/*.[ch] 2>/dev/null)
    found 'relative include of a file that is not there' < <(
        for f in $sources $headers; do
            grep -noE '^ *# *include +"[^"]+"' "$f" | while IFS= read -r line; do
                name=${line#*\"}
                name=${name%\"}
                [ -e "$(dirname "$f")/$name" ] || [ -e "tests/ossd/$name" ] || echo "$f:$line"
            done
        done)
    # What the compiler has read is more than what a line says.
    found 'tests/ossd is built from headers of ours' < <(
        grep -oE '(^| )(\S*/)?(oss|cache|fs)/[a-z0-9_]+\.h' build/obj/tests/ossd/*.d 2>/dev/null)
fi

if has paths; then
    # Built from pieces, so that this file does not find itself.
    machine="/(w""ork|f""arm)/"
    found 'a path of one machine, or an address that a lock file recorded' < <(
        git ls-files -z --cached --others --exclude-standard | xargs -0 grep -nIE \
            "(^|[^A-Za-z0-9_.])$machine|\"resolved\": *\"https?://|^deb +https?://" /dev/null 2>/dev/null)
    found 'nothing but fs oss cache tests Makefile README.md and dot files at the top' < <(
        git ls-files | sed 's,/.*,,' | sort -u | grep -vxE 'fs|oss|cache|tests|Makefile|README\.md|\..*')
fi

if has size; then
    found 'file over 950 lines: split it by subject' < <(
        for f in $sources $headers; do
            case $f in tests/unit/*) continue ;; esac
            n=$(wc -l <"$f")
            [ "$n" -le 950 ] || echo "$f: $n lines"
        done)
    # The house style puts the braces of a function, and only those, at the beginning of a line.
    lengths=$(awk 'FNR == 1 { start = 0 }
        /^[A-Za-z_].*\(/ { name = $0; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name) }
        /^\{/ { start = FNR }
        /^\}/ && start { if (FNR - start - 1 > 60) print FNR - start - 1, FILENAME ":" start, name; start = 0 }
        ' $sources | sort -rn)
    if [ -n "$lengths" ]; then
        echo "lint: note: functions over 60 lines:"
        printf '%s\n' "$lengths" | sed 's/^/    /'
    fi
    found 'function over 100 lines' < <(printf '%s\n' "$lengths" | awk '$1 > 100')
fi

if has options; then
    # README's table is the option table, word for word.
    if make -s build/option_table; then
        found 'README.md: the table of options is not that of fs/options.c (make readme-options writes it)' < <(
            diff <(build/option_table) <(sed -n '/<!-- options -->/,/<!-- end of options -->/p' README.md | sed '1d;$d'))
    else
        found 'options' <<<'build/option_table cannot be built'
    fi
fi

if has format; then
    found 'clang-format (make format)' < <(
        printf '%s\n' $sources $headers | xargs -P 2 -n 16 clang-format --dry-run -Werror 2>&1 | grep -E 'error:' | head -n 40)
fi

if has tidy; then
    checks=
    [ -z "${LINT_ANALYZER:-}" ] || checks=--checks=clang-analyzer-*,-clang-analyzer-security.insecureAPI.*
    flags="-std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DOSSMOUNT_VERSION=\"lint\" \
        $(pkg-config --cflags fuse3 libcurl libxml-2.0 openssl libmicrohttpd cmocka)"
    # Unit tests and fuzz programs are left to the compilers and sanitizers that run them.
    found 'clang-tidy' < <(
        printf '%s\n' $sources | grep -vE '^tests/(unit|fuzz|lint|bench)/' | sort -R --random-source=Makefile |
            xargs -P "$(nproc)" -n 4 sh -c 'flags=$0; clang-tidy --quiet '$checks' "$@" -- $flags 2>/dev/null' "$flags" |
            grep -E '(warning|error):' | sed "s,^$PWD/,," | sort -u)
fi

if has python; then
    found 'python' < <(
        git ls-files -z --cached --others --exclude-standard '*.py' | xargs -0 -n 1 /usr/bin/python3 -c \
            'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' 2>&1)
fi

if has shell; then
    found 'shell' < <(
        for f in $(git ls-files --cached --others --exclude-standard '*.sh' .ci/run); do bash -n "$f" 2>&1; done)
fi

[ $failed = 0 ] && echo "lint: passed ($parts; $(printf '%s\n' $sources $headers | wc -l) files)"
exit $failed
