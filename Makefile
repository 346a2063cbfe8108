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
PKG     := libelf libdw libcjson
Q       := $(if $(V),,@)
say      = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

STD     := -std=gnu17 -D_GNU_SOURCE
WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion $(if $(WERROR),-Werror)
SAN     := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
DEFS    := -DMEMWATCH_VERSION='"$(VERSION)"'
COMPILE  = $(CC) $(STD) $(DEFS) $(CPPFLAGS) -Iinclude -Isrc $(CFLAGS) $(WARN) $(SAN) -MMD -MP
LIBS    := $(shell pkg-config --libs $(PKG) 2>/dev/null) -liberty -lm
INSTALL := install

SRC     := $(sort $(shell find src -name '*.c'))
MAIN    := $(B)/obj/src/main.o
OBJ     := $(SRC:%.c=$(B)/obj/%.o)
LIB     := $(B)/libmemwatch.a
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

$(LIB): $(filter-out $(MAIN),$(OBJ))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/obj/%.o: %.c Makefile
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(if $(filter test/%,$<),-Isrc) -c -o $@ $<

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

-include $(OBJ:.o=.d) $(UNIT:$(B)/%=$(B)/obj/%.d) $(BENCH:$(B)/%=$(B)/obj/%.d) $(FUZZ:$(B)/%=$(B)/obj/%.d) \
	$(SUPPORT:.o=.d) $(JUDGE:.o=.d) $(VICTIMS:%=%.d)
