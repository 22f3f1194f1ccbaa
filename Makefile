# ossmount: build, try, check, install.
#
#   make                 build/ossmount (the program) and build/ossd (a local OSS server)
#   make demo            mounts a bucket of the local server and copies real trees into it
#   make check           everything that must hold, at most 20 minutes; make check-long: the same with more of it
#   make deps            installs what is missing (Debian and Ubuntu, as root), or says what to install
#   make install         PREFIX=/usr/local DESTDIR=; make uninstall
#   make deb             build/deb/ossmount_VERSION_ARCH.deb; make deb-check: judged by lintian
#
# For work on the program:
#   make FLAVOUR=asan    one build directory for each flavour: plain (build), asan, tsan, clang, fuzz (build-FLAVOUR)
#   make unit            all unit tests; make unit/test_plan: one of them
#   make e2e             the tests at a real mount; make e2e ARGS='-k rename -x'
#   make lint format fuzz
#   make bench           beside s3fs and rclone on the same local server; ARGS=--quick: a few minutes
#   make budget          what each operation costs, counted; make readme-budget: the table in README.md
#   make CC=gcc-13 CFLAGS='-O3 -march=native' WERROR=-Werror

SHELL   := /bin/bash
VERSION := 0.1.0
FLAVOUR ?= plain
PREFIX  ?= /usr/local
DESTDIR ?=
CFLAGS  ?= -O2 -g
LDFLAGS ?=
ARGS    ?=

FUZZ_SECONDS ?= 6

# ------------------------------------------------------------------------------------------------- packages
# The one list of what is needed; NAME:COMMAND is satisfied by the command, whoever installed it.

DEPS_demo  := gcc libc6-dev make pkg-config libfuse3-dev fuse3 libcurl4-openssl-dev libssl-dev libxml2-dev liblmdb-dev \
              libmicrohttpd-dev ca-certificates curl:curl python3:python3 rsync:rsync
DEPS_check := $(DEPS_demo) git:git clang libclang-rt-dev clang-tidy clang-format llvm libcmocka-dev python3-pytest \
              python3-pytest-timeout python3-pytest-xdist npm:npm openssl:openssl procps sqlite3:sqlite3 vim-tiny:vi \
              binutils:ar patch:patch attr:setfattr acl:setfacl util-linux:flock strace:strace fio:fio man-db:man \
              mandoc:mandoc dpkg-dev:dpkg-shlibdeps systemd:systemd-analyze samba smbclient:smbclient
DEPS_bench := $(DEPS_demo) s3fs:s3fs rclone:rclone gnuplot-nox:gnuplot git:git openssl:openssl

DEPS_FEDORA := gcc make pkgconf fuse3-devel fuse3 libcurl-devel openssl-devel libxml2-devel lmdb-devel libmicrohttpd-devel \
               curl python3 rsync; to check: git clang clang-tools-extra libcmocka-devel python3-pytest \
               python3-pytest-timeout python3-pytest-xdist nodejs-npm sqlite vim patch attr acl strace fio man-db mandoc dpkg-dev \
               systemd samba samba-client libasan libtsan libubsan; to bench: s3fs-fuse rclone gnuplot
DEPS_ARCH   := base-devel fuse3 curl openssl libxml2 lmdb libmicrohttpd python rsync; to check: git clang cmocka \
               python-pytest python-pytest-timeout python-pytest-xdist npm sqlite vim patch attr acl strace fio man-db \
               mandoc dpkg systemd samba smbclient; to bench: s3fs-fuse rclone gnuplot
DEPS_ALPINE := build-base linux-headers pkgconf fuse3-dev fuse3 curl-dev openssl-dev libxml2-dev lmdb-dev libmicrohttpd-dev \
               curl python3 rsync; to check: git bash clang clang-extra-tools cmocka-dev py3-pytest \
               py3-pytest-timeout py3-pytest-xdist npm sqlite vim patch attr acl strace fio mandoc man-db dpkg-dev samba \
               samba-client; to bench: s3fs-fuse rclone gnuplot

# What to install for: demo, check or bench.
FOR ?= check

# -------------------------------------------------------------------------------------------------- flavours

B := $(if $(filter plain,$(FLAVOUR)),build,build-$(FLAVOUR))

ifeq ($(FLAVOUR),plain)
FLAVOUR_CFLAGS  := $(CFLAGS) -fstack-protector-strong $(if $(filter -O%,$(CFLAGS)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
FLAVOUR_LDFLAGS := -Wl,-z,relro,-z,now
else ifeq ($(FLAVOUR),clang)
CC := clang
FLAVOUR_CFLAGS := -O0
WERROR := -Werror
else ifeq ($(FLAVOUR),asan)
FLAVOUR_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
                  -Wno-maybe-uninitialized
WERROR := -Werror
else ifeq ($(FLAVOUR),tsan)
FLAVOUR_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=thread -Wno-maybe-uninitialized
WERROR := -Werror
else ifeq ($(FLAVOUR),fuzz)
CC := clang
FLAVOUR_CFLAGS := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
                  -fno-sanitize-recover=undefined
else
$(error FLAVOUR is one of plain, clang, asan, tsan, fuzz)
endif

# "cc" is make's built-in default: the sanitizers and warnings are tried with gcc.
ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar

# Not while only the packages are looked for: pkg-config may be one of the missing.
pkg_cflags = $(shell pkg-config --cflags $(1) 2>/dev/null)
pkg_libs   = $(shell pkg-config --libs $(1) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
BASE     := -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -pthread $(WARNINGS)

ifneq ($(filter-out deps clean lint format check check-long help,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(call pkg_cflags,fuse3 libcurl libxml-2.0 openssl lmdb)
LIBS_OSS   := $(call pkg_libs,libcurl libxml-2.0 libssl libcrypto lmdb)
LIBS_FUSE  := $(call pkg_libs,fuse3)
LIBS_OSSD  := $(call pkg_libs,libmicrohttpd libxml-2.0 libcrypto)
LIBS_UNIT  := $(call pkg_libs,cmocka)
endif

# One word a file; make V=1 shows the whole commands.
Q   := $(if $(V),,@)
say  = $(if $(V),,$(if $(findstring s,$(firstword -$(MAKEFLAGS))),,@echo '  $(1)  $@'))

COMPILE = $(Q)$(CC) $(BASE) $(WERROR) $(CPPFLAGS) $(PKG_CFLAGS) $(FLAVOUR_CFLAGS) -MMD -MP -c -o $@ $<
LINK    = $(Q)$(CC) -pthread $(FLAVOUR_CFLAGS) $(FLAVOUR_LDFLAGS) $(LDFLAGS) -o $@

# --------------------------------------------------------------------------------------------------- sources

objects = $(patsubst %.c,$(B)/obj/%.o,$(1))

OSS_SRC   := $(sort $(wildcard oss/*.c))
CACHE_SRC := $(sort $(wildcard cache/*.c))
FS_SRC    := $(sort $(filter-out fs/main.c,$(wildcard fs/*.c)))
OSSD_SRC  := $(sort $(wildcard tests/ossd/*.c))
UNIT_SRC  := $(sort $(wildcard tests/unit/test_*.c))
UNIT_HELP := $(sort $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/fuzz_*.c))
# These start no thread: nothing for the thread sanitizer to see.
ONE_THREAD := $(addprefix test_,attr buf crc64 cred_source error explain extent format headers kv mountpoint options \
    ossd_pure path plan plan_random retry runtime sign state_dir stats time url xattr xml)
UNIT_BIN  := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
ifeq ($(FLAVOUR),tsan)
UNIT_BIN  := $(filter-out $(ONE_THREAD:%=$(B)/unit/%),$(UNIT_BIN))
endif
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzz/%)

# Archives, in the order in which they may use each other.
LIBS_OURS := $(if $(FS_SRC),$(B)/libfs.a) $(if $(CACHE_SRC),$(B)/libcache.a) $(if $(OSS_SRC),$(B)/liboss.a)

.PHONY: all ossmount ossd demo check check-long install uninstall clean deps bench unit e2e lint fuzz format \
        unit-programs fuzz-programs readme-options budget readme-budget man deb deb-check help FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(B)/ossmount $(B)/ossd $(B)/guard $(B)/dist/ossmount.1 $(B)/dist/ossmount.bash
ossmount: $(B)/ossmount
ossd: $(B)/ossd $(B)/guard

$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC)
	$(COMPILE)

$(B)/obj/fs/connect.o $(B)/obj/fs/options.o: CPPFLAGS += -DOSSMOUNT_VERSION='"$(VERSION)"'

# Objects are made again when the compiler or its flags have changed.
FLAGS_NOW := $(CC) $(WERROR) $(FLAVOUR_CFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(VERSION)
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' >$@

archive = @rm -f $@; $(AR) rcs $@ $(filter %.o,$^)
$(B)/liboss.a: $(call objects,$(OSS_SRC))
	$(archive)
$(B)/libcache.a: $(call objects,$(CACHE_SRC))
	$(archive)
$(B)/libfs.a: $(call objects,$(FS_SRC))
	$(archive)
$(B)/libunit.a: $(call objects,$(UNIT_HELP))
	$(archive)

$(B)/ossmount: $(B)/obj/fs/main.o $(LIBS_OURS)
	$(call say,LD)
	$(LINK) $^ $(LIBS_FUSE) $(LIBS_OSS)

$(B)/ossd: $(call objects,$(OSSD_SRC))
	$(call say,LD)
	$(LINK) $^ $(LIBS_OSSD)

# Below it the daemons of tests run.
$(B)/guard: $(B)/obj/tests/e2e/guard.o
	$(call say,LD)
	$(LINK) $^

# A unit test takes from the archives what it uses: a test of oss/ builds also while cache/ does not.
module = $(patsubst test_%,%,$(notdir $(1)))
unit_libs = $(if $(wildcard oss/$(call module,$(1)).c),$(B)/liboss.a,\
            $(if $(wildcard cache/$(call module,$(1)).c),$(filter %/libcache.a %/liboss.a,$(LIBS_OURS)),$(LIBS_OURS)))
.SECONDEXPANSION:
$(B)/unit/%: $(B)/obj/tests/unit/%.o $(if $(UNIT_HELP),$(B)/libunit.a) $$(call unit_libs,%)
	@mkdir -p $(@D)
	$(call say,LD)
	$(LINK) $^ $(LIBS_UNIT) $(LIBS_FUSE) $(LIBS_OSS)

$(B)/fuzz/%: $(B)/obj/tests/fuzz/%.o $(LIBS_OURS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(LINK) -fsanitize=fuzzer $^ $(LIBS_FUSE) $(LIBS_OSS)

-include $(wildcard $(B)/obj/*/*.d $(B)/obj/*/*/*.d)

# ----------------------------------------------------------------------------------------------------- tests

unit-programs: $(UNIT_BIN)
fuzz-programs: $(FUZZ_BIN)

# Some of them talk to the local server.
unit: $(UNIT_BIN)
	@$(MAKE) --no-print-directory FLAVOUR=plain ossd
	@tests/lint/run_unit.sh $(B)/unit $(UNIT_BIN)

unit/%: $(B)/unit/% FORCE
	@tests/lint/run_unit.sh $(B)/unit $(B)/$@

# The server is always the plain one: it is not what these tests look at.
e2e: $(B)/ossmount
	@$(MAKE) --no-print-directory FLAVOUR=plain ossd
	OSSMOUNT=$(CURDIR)/$(B)/ossmount OSSD=$(CURDIR)/build/ossd tests/lint/run_e2e.sh $(ARGS)

# The request budget, counted: the table that README.md shows.
budget: $(B)/ossmount
	@$(MAKE) --no-print-directory FLAVOUR=plain ossd
	@OSSMOUNT_BUDGET=$(CURDIR)/$(B)/budget $(MAKE) --no-print-directory -s e2e ARGS='tests/e2e/test_budget.py $(ARGS)'
	@cat $(B)/budget

readme-budget: budget
	@sed -i -e '/<!-- budget -->/,/<!-- end of budget -->/{/<!-- budget -->/r $(B)/budget' -e '/<!--/!d}' README.md

lint:
	@tests/lint/lint.sh

# README.md shows the table of options that fs/options.c holds.
$(B)/option_table: $(B)/obj/tests/lint/option_table.o $(B)/obj/fs/options.o $(B)/obj/fs/message.o
	$(call say,LD)
	$(LINK) $^

readme-options: $(B)/option_table
	@sed -i -e '/<!-- options -->/,/<!-- end of options -->/{/<!-- options -->/r /dev/stdin' \
	    -e '/<!--/!d}' README.md < <($<)

# The recursion is for the flavour: a fuzz program needs objects of its own.
fuzz:
	@$(MAKE) --no-print-directory FLAVOUR=fuzz fuzz-programs
	@tests/lint/run_fuzz.sh build-fuzz/fuzz $(FUZZ_SECONDS)

format:
	clang-format -i $(wildcard oss/*.[ch] cache/*.[ch] fs/*.[ch] fs/dist/*.[ch] tests/*/*.[ch])

bench: all
	@$(MAKE) --no-print-directory deps FOR=bench || echo 'make bench: without what is not installed'
	@OSSMOUNT=$(CURDIR)/$(B)/ossmount OSSD=$(CURDIR)/$(B)/ossd tests/bench/run $(ARGS)

check:
	@tests/lint/check.sh

check-long:
	@tests/lint/check.sh --long

demo:
	@$(MAKE) --no-print-directory deps FOR=demo
	@$(MAKE) --no-print-directory -j$(shell nproc) all
	@STAY=$(STAY) tests/demo.sh

# ------------------------------------------------------------------------------------------------------ rest

deps:
	@FEDORA='$(DEPS_FEDORA)' ARCH='$(DEPS_ARCH)' ALPINE='$(DEPS_ALPINE)' tests/lint/deps.sh $(DEPS_$(FOR))

# What the program's own tables tell is filled into the man page and the completion.
DIST := $(B)/dist
DATE := $(shell date -u -d @$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || date +%s)} +%Y-%m-%d)
$(DIST)/generate: $(B)/obj/fs/dist/generate.o $(LIBS_OURS)
	@mkdir -p $(@D)
	$(call say,LD)
	$(LINK) $^ $(LIBS_FUSE) $(LIBS_OSS)
$(DIST)/ossmount.1: fs/dist/ossmount.1.in $(DIST)/generate
	$(call say,MAN)
	$(Q)$(DIST)/generate <$< | sed -e 's/@VERSION@/$(VERSION)/' -e 's/@DATE@/$(DATE)/' >$@
$(DIST)/ossmount.bash: fs/dist/ossmount.bash.in $(DIST)/generate
	$(Q)$(DIST)/generate <$< >$@
man: $(DIST)/ossmount.1

# The links are how mount(8) and fstab find the program: for -t ossmount and for -t fuse.ossmount.
SBINDIR ?= /sbin
BINDIR  := $(PREFIX)/bin
MANDIR  := $(PREFIX)/share/man/man1
BASHDIR := $(PREFIX)/share/bash-completion/completions
UNITDIR := $(PREFIX)/lib/systemd/system
DOCDIR  := $(PREFIX)/share/doc/ossmount
install: $(B)/ossmount $(DIST)/ossmount.1 $(DIST)/ossmount.bash
	install -D -m 755 $(B)/ossmount $(DESTDIR)$(BINDIR)/ossmount
	install -D -m 644 $(DIST)/ossmount.1 $(DESTDIR)$(MANDIR)/ossmount.1
	install -D -m 644 $(DIST)/ossmount.bash $(DESTDIR)$(BASHDIR)/ossmount
	install -D -m 644 fs/dist/example.conf $(DESTDIR)$(DOCDIR)/examples/example.conf
	install -d $(DESTDIR)$(UNITDIR)
	sed 's,@BINDIR@,$(BINDIR),' fs/dist/ossmount@.service.in >$(DESTDIR)$(UNITDIR)/ossmount@.service
	chmod 644 $(DESTDIR)$(UNITDIR)/ossmount@.service
	@if mkdir -p $(DESTDIR)$(SBINDIR) && [ -w $(DESTDIR)$(SBINDIR) ]; then \
	    ln -sfn $(BINDIR)/ossmount $(DESTDIR)$(SBINDIR)/mount.ossmount && \
	    ln -sfn $(BINDIR)/ossmount $(DESTDIR)$(SBINDIR)/mount.fuse.ossmount; \
	else echo "make install: no link for mount(8) and fstab: $(SBINDIR) is not writable"; fi

# Directories go when nothing of others is in them and they are ours.
uninstall:
	rm -f $(DESTDIR)$(BINDIR)/ossmount $(DESTDIR)$(MANDIR)/ossmount.1 $(DESTDIR)$(BASHDIR)/ossmount
	rm -f $(DESTDIR)$(UNITDIR)/ossmount@.service $(DESTDIR)$(DOCDIR)/examples/example.conf
	rm -f $(DESTDIR)$(SBINDIR)/mount.ossmount $(DESTDIR)$(SBINDIR)/mount.fuse.ossmount
	@for d in $(DOCDIR)/examples $(DOCDIR) $(dir $(DOCDIR)) $(MANDIR) $(BASHDIR) $(dir $(BASHDIR)) $(UNITDIR) $(dir $(UNITDIR)); do \
	    rmdir $(DESTDIR)$$d 2>/dev/null || true; done

# Its name ends in the architecture, which make need not know.
$(B)/deb/.made: $(B)/ossmount $(DIST)/ossmount.1 $(DIST)/ossmount.bash $(wildcard fs/dist/* fs/dist/debian/*)
	+@fs/dist/deb.sh $(B) $(VERSION)
deb: $(B)/deb/.made
	@ls -l $(B)/deb/*.deb

# lintian brings a hundred packages: only who wants its word installs it.
deb-check: deb
	@tests/lint/deps.sh lintian:lintian
	lintian --fail-on error --allow-root $(B)/deb/*.deb

clean:
	rm -rf build build-asan build-tsan build-clang build-fuzz

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

FORCE:
