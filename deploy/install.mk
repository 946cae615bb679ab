# SPDX-License-Identifier: Apache-2.0
# make install, make uninstall.  Packagers set DESTDIR, PREFIX and CNIBINDIR (Debian: /usr/lib/cni).

INSTALL_PROGRAM ?= install -s -m 0755
INSTALL_DATA    ?= install -m 0644

SBINDIR  := $(PREFIX)/sbin
BINDIR   := $(PREFIX)/bin
MANDIR   := $(PREFIX)/share/man
UNITDIR  ?= $(PREFIX)/lib/systemd/system
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
CONFDIR  := $(SYSCONFDIR)/tendril
CNICONFDIR ?= $(SYSCONFDIR)/cni/net.d
# Where Debian keeps the plugins that our conflist chains.
DEBIANCNIDIR := /usr/lib/cni

man_pages  := $(wildcard doc/man/*.[1-8])
completion := $(wildcard doc/completion/tendril.bash)
ZSHDIR ?= $(PREFIX)/share/zsh/vendor-completions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
man_path    = $(DESTDIR)$(MANDIR)/man$(patsubst .%,%,$(suffix $(1)))/$(notdir $(1))

.PHONY: install uninstall
install: all ## Install programs, unit, configuration and man pages (DESTDIR, PREFIX, CNIBINDIR)
	install -d -m 0755 $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(CNIBINDIR) \
		$(DESTDIR)$(UNITDIR) $(DESTDIR)$(CONFDIR)/objects $(DESTDIR)$(CNICONFDIR)
	$(INSTALL_PROGRAM) $(B)/tendrild $(DESTDIR)$(SBINDIR)/tendrild
	$(INSTALL_PROGRAM) $(B)/tendril-kube $(DESTDIR)$(SBINDIR)/tendril-kube
	$(INSTALL_PROGRAM) $(B)/tendril-http $(DESTDIR)$(SBINDIR)/tendril-http
	$(INSTALL_PROGRAM) $(B)/tendril $(DESTDIR)$(BINDIR)/tendril
	$(INSTALL_PROGRAM) $(B)/tendril-cni $(DESTDIR)$(CNIBINDIR)/tendril
	$(foreach unit,tendrild tendril-kube tendril-http, \
		sed 's|^ExecStart=/usr/sbin/|ExecStart=$(SBINDIR)/|' deploy/$(unit).service \
			> $(DESTDIR)$(UNITDIR)/$(unit).service && \
		chmod 0644 $(DESTDIR)$(UNITDIR)/$(unit).service &&) true
	$(foreach page,$(man_pages),$(INSTALL_DATA) -D $(page) $(call man_path,$(page));)
	$(foreach file,$(completion),$(INSTALL_DATA) -D $(file) $(DESTDIR)$(COMPLETIONDIR)/tendril;)
	$(INSTALL_DATA) -D doc/completion/_tendril $(DESTDIR)$(ZSHDIR)/_tendril
	$(INSTALL_DATA) -D doc/completion/tendril.fish $(DESTDIR)$(FISHDIR)/tendril.fish
	@# What an administrator may have changed is not ours to replace.
	test -e $(DESTDIR)$(CONFDIR)/agent.json || \
		$(INSTALL_DATA) deploy/agent.json $(DESTDIR)$(CONFDIR)/agent.json
	test -e $(DESTDIR)$(CNICONFDIR)/10-tendril.conflist || \
		$(INSTALL_DATA) deploy/10-tendril.conflist $(DESTDIR)$(CNICONFDIR)/10-tendril.conflist

# The state of wired pods; only on this machine, not in a DESTDIR.
RUNDIR ?= /run/tendril

uninstall: ## Remove what install put there, but for configuration that was changed
	@test -n "$(DESTDIR)" || test -z "$$(ls -A $(RUNDIR)/endpoints 2>/dev/null)" || { \
		echo "pods are wired on this node: remove their containers, or cut them off with" \
			"\"tendrild --cleanup\", then run this again" >&2; exit 1; }
	rm -f $(foreach name,tendrild tendril-kube tendril-http, \
			$(DESTDIR)$(SBINDIR)/$(name) $(DESTDIR)$(UNITDIR)/$(name).service) \
		$(DESTDIR)$(BINDIR)/tendril $(DESTDIR)$(CNIBINDIR)/tendril \
		$(foreach page,$(man_pages),$(call man_path,$(page))) \
		$(DESTDIR)$(COMPLETIONDIR)/tendril $(DESTDIR)$(ZSHDIR)/_tendril \
		$(DESTDIR)$(FISHDIR)/tendril.fish
	! cmp -s deploy/agent.json $(DESTDIR)$(CONFDIR)/agent.json || \
		rm -f $(DESTDIR)$(CONFDIR)/agent.json
	! cmp -s deploy/10-tendril.conflist $(DESTDIR)$(CNICONFDIR)/10-tendril.conflist || \
		rm -f $(DESTDIR)$(CNICONFDIR)/10-tendril.conflist
	@# Folders that still hold something stay.
	rmdir $(DESTDIR)$(CONFDIR)/objects $(DESTDIR)$(CONFDIR) 2>/dev/null || true
