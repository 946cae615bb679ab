# SPDX-License-Identifier: Apache-2.0
# What tools say about the sources.  A file is read again only after it or a header of it changed,
# so the first run takes minutes and the next ones seconds.

L      := $(B)/lint
lint_c := $(shell git -c safe.directory=$(CURDIR) ls-files '*.c' 2>/dev/null)
lint_scripts := .ci/run deploy/image/build deploy/image/cjson deploy/debian/build deploy/debian/tendril.prerm tests/harness/deps tests/harness/have tests/harness/rooted \
	tests/kernels/init tests/kernels/encryption tests/lint/hook doc/completion/tendril.bash
lint_h := $(shell git -c safe.directory=$(CURDIR) ls-files '*.h' 2>/dev/null)

# Both compilers read each file: clang with its warnings in clang-tidy, gcc with its analyzer.  Off are
# gcc 12's guesses about pointers that other functions fill in and keep: clang-tidy and the sanitizers
# of the unit tests look for the same.  Assertions of tests are beyond it altogether.
LINTFLAGS := $(CPPFLAGS) -Itests -std=gnu17 $(WARNINGS)
ANALYZER  := -fanalyzer -O1 -Wlogical-op -Wduplicated-cond -Wno-analyzer-malloc-leak \
	-Wno-analyzer-null-dereference -Wno-analyzer-null-argument \
	-Wno-analyzer-use-of-uninitialized-value

$(L)/%.bpf.c: %.bpf.c .clang-tidy tests/lint/tidy | $(B)/have-lint
	$(say) LINT $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPFFLAGS) -MMD -MP -MT $@ -MF $@.d -fsyntax-only $<
	$(Q)tests/lint/tidy $< -- $(BPFFLAGS)
	@touch $@

$(L)/tests/%.c: ANALYZER := -fsyntax-only
$(L)/%.c: %.c .clang-tidy tests/.clang-tidy tests/lint/tidy | $(B)/have-lint $(skeletons)
	$(say) LINT $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINTFLAGS) $(ANALYZER) -MMD -MP -MT $@ -MF $@.d -c $< -o /dev/null
	$(Q)tests/lint/tidy $< -- $(LINTFLAGS)
	@touch $@

# Each header compiles alone.
$(L)/%.bpf.h: %.bpf.h | $(B)/have-lint
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPFFLAGS) -Wno-unused-function -MMD -MP -MT $@ -MF $@.d -fsyntax-only \
		-include $< -x c /dev/null
	@touch $@

$(L)/%.h: %.h | $(B)/have-lint
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINTFLAGS) -MMD -MP -MT $@ -MF $@.d -c -include $< -x c /dev/null -o /dev/null
	@touch $@

.PHONY: lint lint-format lint-includes lint-layout lint-shell lint-files lint-deps hooks
lint: $(B)/have-lint ## Format, includes between folders, clang-tidy, gcc -fanalyzer, shellcheck
	@$(MAKE) --no-print-directory -k -j$$(nproc) lint-format lint-includes lint-layout \
		lint-shell lint-files

lint-format:
	$(say) LINT "format of all sources"
	$(Q)git -c safe.directory=$(CURDIR) ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror

lint-includes:
	$(say) LINT "includes between folders"
	$(Q)tests/lint/includes

lint-shell:
	$(say) LINT "shell scripts"
	$(Q)shellcheck $(lint_scripts)

lint-files: $(addprefix $(L)/,$(lint_c) $(lint_h))

lint-layout:
	$(say) LINT "padding of what both sides share"
	$(Q)$(CC) -I. -std=gnu17 -Wpadded -Werror -fsyntax-only -include datapath/abi.h -x c /dev/null

lint-deps: ## Install the Debian packages that make lint needs (root)
	@tests/harness/deps $(build_deps) $(lint_deps)

hooks: ## Install a git hook that checks format, includes and message of each commit
	tests/lint/hook install
