# SPDX-License-Identifier: GPL-3.0-or-later
# memwatch. `make` alone lists the targets. V=1 shows the commands; CC=clang, WERROR=1, SANITIZE=address,undefined, B=DIR.

VERSION := 0.1.0
B       ?= build
PREFIX  ?= /usr/local
CFLAGS  ?= -O2 -g

ifeq ($(origin CC),default)
CC := gcc
endif
CXX     ?= g++
PKG     := libelf libdw libcjson libprotobuf-c zlib
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

STD     := -std=gnu17 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
SAN     := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
DEFS    := -DMEMWATCH_VERSION='"$(VERSION)"'
COMPILE  = $(CC) $(STD) $(DEFS) $(CPPFLAGS) -Iinclude -Isrc -isystem $(B)/gen $(CFLAGS) $(WARN) $(SAN) -MMD -MP
LIBS    := $(shell pkg-config --libs $(PKG) 2>/dev/null) -liberty -lm
INSTALL := install

SRC     := $(sort $(shell find src -name '*.c' -not -path '*/probe/blob/*'))
MAIN    := $(B)/obj/src/main.o
OBJ     := $(SRC:%.c=$(B)/obj/%.o)
LIB     := $(B)/libmemwatch.a
# The blob runs inside the target: none of the flags above, no library, no sanitizer, no vector registers.
BLOB    := src/sites/probe/blob
BLOB_O  := $(B)/obj/$(BLOB)
BLOBCC   = $(CC) -std=gnu17 -O2 -g0 -ffreestanding -fPIE -fvisibility=hidden -fno-stack-protector -mgeneral-regs-only \
	-fcf-protection=none -fno-builtin -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-jump-tables \
	-Wframe-larger-than=512 -Isrc $(WARN) -MMD -MP
# What protoc-c writes from src/*/*.proto: compiled without our warnings, seen as <report/NAME.pb-c.h>.
GEN     := $(patsubst src/%.proto,$(B)/gen/%.pb-c.c,$(wildcard src/*/*.proto))
HEADERS := $(shell find include -name '*.h')
SUPPORT := $(patsubst %.c,$(B)/obj/%.o,$(wildcard test/unit/support_*.c))
UNIT    := $(patsubst %.c,$(B)/%,$(wildcard test/unit/test_*.c))
BENCH   := $(patsubst %.c,$(B)/%,$(wildcard test/bench/bench_*.c))
# The bench of the verdicts: labelled series, and of the program only what judges them, which is pure.
JUDGE   := $(patsubst %.c,$(B)/obj/%.o,$(wildcard test/bench/*verdicts*.c test/unit/support_labelled*.c) \
           test/unit/support_series.c) $(filter $(addprefix $(B)/obj/src/,base/% series/% verdict/% model.o),$(OBJ))
FUZZ    := $(patsubst %.c,$(B)/%,$(wildcard test/fuzz/fuzz_*.c))
# Victims are never sanitised: they show what real programs do. So they live in one place, whatever B is.
VICTIM_DIR := build/test/victims
VICTIMS := $(patsubst test/victims/%.c,$(VICTIM_DIR)/%,$(wildcard test/victims/*.c)) \
           $(patsubst test/victims/%.cc,$(VICTIM_DIR)/%,$(wildcard test/victims/*.cc))

.DEFAULT_GOAL := help
.PHONY: help all tests victims demo check unit headers bench bench-verdicts fuzz asan ubsan style format bootstrap install uninstall clean
.SECONDARY:
.DELETE_ON_ERROR:

help: ##       this list
	@echo 'memwatch $(VERSION): make TARGET'
	@sed -n 's/^\([a-z-]*\):[^#]*## */  \1\t/p' Makefile | expand -t 18
	@echo 'variables: PREFIX=$(PREFIX) DESTDIR= CC=$(CC) CFLAGS WERROR=1 SANITIZE=... B=$(B) V=1'

all: $(B)/memwatch ##        build build/memwatch
tests: $(UNIT) $(BENCH) $(FUZZ) $(VICTIMS) ##      build every test program
victims: $(VICTIMS)
bootstrap: ##  install what the build and the tests need (Debian, Ubuntu)
	$(Q)scripts/bootstrap --if-needed

demo: bootstrap ##       watch a leaking server for 20 seconds and print the verdict
	$(Q)$(MAKE) --no-print-directory all $(VICTIM_DIR)/demo_server
	$(B)/memwatch run -- $(VICTIM_DIR)/demo_server 20

check: bootstrap ##      everything: two compilers, unit, sanitizers, fuzz, layers, style, end to end
	+$(Q)MAKE='$(MAKE)' scripts/check

unit: $(UNIT) victims ##       unit tests
	$(Q)set -e; for t in $(UNIT); do $$t; done

bench: all $(BENCH) victims ##      run every benchmark
	$(Q)set -e; for t in $(BENCH) $(wildcard test/bench/*.py); do echo "== $$t"; $$t; done

bench-verdicts: $(B)/test/bench/bench_verdicts ## how good the verdicts are, on labelled series (ARGS=--tuning ...)
	$(Q)$< $(ARGS)

fuzz: ##       fuzz every parser for a minute each (SECONDS_EACH=60)
	$(Q)$(MAKE) --no-print-directory B=build/asan SANITIZE=address,undefined run-fuzz SECONDS_EACH=$(or $(SECONDS_EACH),60)
run-fuzz: $(FUZZ)
	$(Q)set -e; for t in $(FUZZ); do $$t -s $(or $(SECONDS_EACH),3) test/fuzz/seeds/$$(basename $$t); done

asan: ##       unit tests under AddressSanitizer and UBSan
	$(Q)$(MAKE) --no-print-directory B=build/asan SANITIZE=address,undefined unit
ubsan: ##      unit tests under UBSan alone
	$(Q)$(MAKE) --no-print-directory B=build/ubsan SANITIZE=undefined unit

style: ##      layers, file and function lengths, licences, clang-format
	$(Q)scripts/check-layers
	$(Q)scripts/check-style
format:
	$(Q)find include src test -name '*.[ch]' | xargs clang-format -i

headers: $(HEADERS:%=$(B)/%.ok) # each one compiles alone

$(B)/%.h.ok: %.h
	$(call say,HEADER,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(STD) -Iinclude $(WARN) -Werror -fsyntax-only -include $< -x c /dev/null
	$(Q)touch $@

$(B)/memwatch: $(MAIN) $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(SAN) $(LDFLAGS) -Wl,--as-needed -o $@ $^ $(LIBS)

$(B)/gen/%.pb-c.c: src/%.proto
	$(call say,PROTO,$<)
	$(Q)mkdir -p $(B)/gen
	$(Q)protoc-c --proto_path=src --c_out=$(B)/gen $<

$(B)/gen/%.o: $(B)/gen/%.c
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu17 -isystem $(B)/gen $(CFLAGS) $(SAN) -w -c -o $@ $<

$(B)/obj/src/report/pprof.o $(B)/obj/test/unit/test_report_formats.o: $(GEN)

$(LIB): $(filter-out $(MAIN),$(OBJ)) $(GEN:.c=.o)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/obj/%.o: %.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(if $(filter test/%,$<),-Isrc) -c -o $@ $<

$(BLOB_O)/%.o: $(BLOB)/%.c Makefile
	$(call say,BLOB,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(BLOBCC) -c -o $@ $<

$(BLOB_O)/offsets.h: $(BLOB)/offsets.c Makefile # constants of C for the assembler
	$(call say,BLOB,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(BLOBCC) -MT $@ -S -o $(@:.h=.s) $<
	$(Q)sed -n 's/^.*"->\([A-Z0-9_]*\) [$$]\(.*\)".*$$/#define \1 \2/p' $(@:.h=.s) >$@

$(BLOB_O)/entry.o: $(BLOB)/arch/x86_64.S $(BLOB_O)/offsets.h
	$(call say,BLOB,$<)
	$(Q)$(CC) -I$(BLOB_O) -c -o $@ $<

# The linker script refuses relocations, a GOT and writable data, the linker itself undefined symbols, but not the weak ones and not a GOT that it
# could do without: so the parts are looked at together before; and readelf has the last word.
$(BLOB_O)/blob.elf: $(BLOB)/blob.lds $(addprefix $(BLOB_O)/,entry.o slow.o record.o setup.o)
	$(call say,BLOB,$@)
	$(Q)ld.bfd -r -o $(@:.elf=.all.o) $(filter %.o,$^)
	$(Q)! nm -u $(@:.elf=.all.o) | grep -v ' probe_text_end$$' >&2
	$(Q)! readelf -rW $(@:.elf=.all.o) | grep GOT >&2
	$(Q)$(CC) -fuse-ld=bfd -nostdlib -pie -Wl,-T,$<,--no-dynamic-linker,-z,text,-z,defs,-z,norelro,--build-id=none,--fatal-warnings \
		-o $@ $(filter %.o,$^)
	$(Q)LC_ALL=C readelf -rW $@ | grep -q '^There are no relocations in this file' || { echo '$@ has relocations' >&2; exit 1; }

$(BLOB_O)/blob.bin: $(BLOB_O)/blob.elf
	$(Q)objcopy -O binary -j .blob $< $@

$(BLOB_O)/embed.o: $(BLOB)/embed.S $(BLOB_O)/blob.bin
	$(call say,BLOB,$@)
	$(Q)$(CC) -DBLOB='"$(BLOB_O)/blob.bin"' -c -o $@ $<

$(LIB): $(BLOB_O)/embed.o

$(UNIT): $(B)/test/unit/%: $(B)/obj/test/unit/%.o $(SUPPORT) $(LIB)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) -pthread -o $@ $^ $(LIBS) $$(pkg-config --libs check)

$(filter-out %/bench_verdicts,$(BENCH)): $(B)/test/bench/%: $(B)/obj/test/bench/%.o $(LIB)
$(B)/test/bench/bench_verdicts: $(JUDGE)
$(BENCH):
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) -pthread -o $@ $^ $(LIBS)

$(B)/test/fuzz/fuzz_runtime: $(B)/obj/test/unit/support_cpython_image.o
$(FUZZ): $(B)/test/fuzz/%: $(B)/obj/test/fuzz/%.o $(B)/obj/test/fuzz/driver.o $(LIB)
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(SAN) -o $@ $^ $(LIBS)

# Flags of one victim stand in its source, in a line such as:  /* build: -O0 -static */
flags_in = $$(sed -n 's|^/\* build: \(.*\) \*/$$|\1|p' $<)

$(VICTIM_DIR)/%: test/victims/%.c Makefile
	$(call say,VICTIM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(STD) -O2 -g -pthread -Wall -Wextra $(if $(WERROR),-Werror) -MMD -MP -MF $@.d -o $@ $< $(flags_in)

$(VICTIM_DIR)/%: test/victims/%.cc Makefile
	$(call say,VICTIM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)g++ -O2 -g -pthread -Wall -Wextra -MMD -MP -MF $@.d -o $@ $< $(flags_in)

# What is installed beside the program, FILE:PLACE below PREFIX; uninstall removes the same places.
MAN  := $(wildcard man/*.[1-8])
DATA := $(foreach m,$(MAN),$m:share/man/man$(subst .,,$(suffix $m))/$(notdir $m)) \
	man/memwatch-report.schema.json:share/memwatch/memwatch-report.schema.json \
	scripts/completion/memwatch.bash:share/bash-completion/completions/memwatch \
	scripts/completion/_memwatch:share/zsh/site-functions/_memwatch \
	scripts/completion/memwatch.fish:share/fish/vendor_completions.d/memwatch.fish \
	README.md:share/doc/memwatch/README.md COPYING:share/doc/memwatch/COPYING
DEST  = $(DESTDIR)$(PREFIX)

install: all ##    install below DESTDIR/PREFIX
	$(Q)$(INSTALL) -D -m 755 $(B)/memwatch $(DEST)/bin/memwatch
	$(Q)set -e; for f in $(DATA); do $(INSTALL) -D -m 644 $${f%%:*} $(DEST)/$${f#*:}; done

uninstall: ##  remove what install put there
	$(Q)rm -f $(DEST)/bin/memwatch; for f in $(DATA); do rm -f $(DEST)/$${f#*:}; done
	$(Q)rmdir $(DEST)/share/memwatch $(DEST)/share/doc/memwatch 2>/dev/null || true

clean: ##      remove build/
	$(Q)rm -rf build

-include $(wildcard $(BLOB_O)/*.d) $(OBJ:.o=.d) $(UNIT:$(B)/%=$(B)/obj/%.d) $(BENCH:$(B)/%=$(B)/obj/%.d) $(FUZZ:$(B)/%=$(B)/obj/%.d) \
	$(SUPPORT:.o=.d) $(JUDGE:.o=.d) $(VICTIMS:%=%.d)
