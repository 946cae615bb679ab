# SPDX-License-Identifier: Apache-2.0
# One Makefile, not recursive; everything is built below build/.  "make help" lists the targets.

B       := build
CC      ?= gcc
CLANG   ?= clang
BPFTOOL ?= $(or $(wildcard /usr/sbin/bpftool),bpftool)
PREFIX  ?= /usr
SYSCONFDIR ?= /etc
CNIBINDIR  ?= /opt/cni/bin
WERROR  ?= -Werror
VERSION := $(file <VERSION)

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
endif

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wvla -Wformat=2 -Wundef -Wpointer-arith -Wwrite-strings \
	-Wimplicit-fallthrough $(WERROR)
CPPFLAGS := -I. -I$(B) -D_GNU_SOURCE -DTENDRIL_VERSION='"$(VERSION)"'
# No path of this machine gets into what is built: the same commit gives the same bytes everywhere.
CFLAGS   := -std=gnu17 -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE \
	-ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=. $(WARNINGS)
LDFLAGS  := -pie -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,--gc-sections
BPFFLAGS := -target bpf -mcpu=v3 -O2 -g -std=gnu17 -I. -I/usr/include/$(shell uname -m)-linux-gnu \
	-ffile-prefix-map=$(CURDIR)=. \
	-Wall -Wextra -Wshadow -Wimplicit-int-conversion -Wenum-conversion \
	-Wimplicit-fallthrough $(WERROR)

# ---- what there is ---------------------------------------------------------------------------

lib_src      := $(wildcard lib/*.c)
datapath_src := $(wildcard datapath/*.c)
# The maps come first: bpftool 7.1 loses the offset of a map whose extern it meets before.
bpf_maps     := datapath/bpf/maps.bpf.c
bpf_later    := $(addprefix datapath/bpf/,accel.bpf.c uplink.bpf.c xdp.bpf.c tunnel.bpf.c tcp.bpf.c \
	freed.bpf.c)
bpf_src      := $(bpf_maps) $(filter-out $(bpf_maps),$(wildcard datapath/bpf/*.bpf.c))
policy_src   := $(wildcard policy/*/*.c)
cli_src      := $(wildcard cli/*.c)
agent_src    := $(wildcard agent/*.c agent/*/*.c)
cni_src      := $(wildcard cni/*.c)
kube_src     := $(wildcard kube/*.c)
http_src     := $(wildcard http/*.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
programs := $(B)/tendrild $(B)/tendril $(B)/tendril-cni $(B)/tendril-kube $(B)/tendril-http

.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
.PHONY: all
all: $(programs) ## Build the programs

# ---- rules -----------------------------------------------------------------------------------

$(B)/%.o: %.c | $(B)/have-build
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/%.bpf.o: %.bpf.c | $(B)/have-build
	$(say) BPF $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPFFLAGS) -MMD -MP -c $< -o $@

# Objects of their own over the same maps: few nodes need acceleration, uplinks and the
# tunnel at once, and a kernel may refuse what reads its structures.
$(B)/pods.bpf.o: $(call obj,$(filter-out $(bpf_later),$(bpf_src)))
$(B)/accel.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/accel.bpf.c)
$(B)/uplink.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/uplink.bpf.c)
$(B)/xdp.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/xdp.bpf.c)
$(B)/tunnel.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/tunnel.bpf.c)
$(B)/tcp.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/tcp.bpf.c)
$(B)/freed.bpf.o: $(call obj,$(bpf_maps) datapath/bpf/freed.bpf.c)
$(B)/pods.bpf.o $(B)/accel.bpf.o $(B)/uplink.bpf.o $(B)/xdp.bpf.o $(B)/tunnel.bpf.o \
		$(B)/tcp.bpf.o $(B)/freed.bpf.o:
	$(say) BPFLINK $@
	$(Q)$(BPFTOOL) gen object $@ $^

skeletons := $(B)/pods.skel.h $(B)/accel.skel.h $(B)/uplink.skel.h $(B)/xdp.skel.h \
	$(B)/tunnel.skel.h $(B)/tcp.skel.h $(B)/freed.skel.h
$(B)/%.skel.h: $(B)/%.bpf.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(call obj,$(datapath_src)): | $(skeletons)
$(call obj,agent/main.c agent/api/api_status.c agent/api/api_metrics.c cli/help.c lib/program.c): VERSION
$(B)/datapath/datapath.o: $(skeletons)

# Pages are embedded with .incbin, which the compiler does not report as a dependency.
$(B)/cli/matrix_page.o $(B)/unit/cli/matrix_page.o $(B)/fuzz/cli/matrix_page.o: \
	cli/matrix_page.html
$(B)/cli/cmd_observe.o $(B)/unit/cli/cmd_observe.o $(B)/fuzz/cli/cmd_observe.o: \
	cli/observe_page.html

$(B)/liblib.a: $(call obj,$(lib_src))
$(B)/libpolicy.a: $(call obj,$(policy_src))
$(B)/libdatapath.a: $(call obj,$(datapath_src))
$(B)/%.a:
	$(say) AR $@
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/tendrild: $(call obj,$(agent_src)) $(B)/libdatapath.a $(B)/libpolicy.a $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ -lbpf -lmnl -lcjson -levent_core -lyaml -lcap

$(B)/tendril: $(call obj,$(cli_src)) $(B)/libpolicy.a $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ -lmnl -lcjson -lyaml

$(B)/tendril-cni: $(call obj,$(cni_src)) $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ -lcjson

$(B)/tendril-kube: $(call obj,$(kube_src)) $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ -lcurl -lcrypto -levent_core -lcjson -lyaml -lcap -lseccomp

$(B)/tendril-http: $(call obj,$(http_src)) $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $^ -o $@ -levent_extra -levent_core -lcjson -lcap -lseccomp

-include $(shell find $(B) -name '*.d' 2>/dev/null)
include tests/tests.mk tests/lint/lint.mk deploy/install.mk deploy/image/image.mk \
	deploy/debian/deb.mk

.PHONY: clean help format dist
dist: ## A source archive of the last commit, the same bytes whoever makes it
	@mkdir -p $(B)
	git -c safe.directory=$(CURDIR) archive --prefix=tendril-$(VERSION)/ HEAD | gzip -9n \
		> $(B)/tendril-$(VERSION).tar.gz

clean: ## Remove everything that was built
	rm -rf $(B)

format: ## Rewrite the sources in the house style
	clang-format -i $$(git ls-files '*.c' '*.h')

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
		sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 16
