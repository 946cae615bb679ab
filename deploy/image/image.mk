# SPDX-License-Identifier: Apache-2.0
# make image: an OCI image of nothing but the programs and the libraries they need.  Two builds of
# one commit give the same bytes.

I := $(B)/image
IMAGE ?= localhost/tendril:$(VERSION)
SOURCE_DATE_EPOCH ?= $(shell git -c safe.directory=$(CURDIR) log -1 --format=%ct 2>/dev/null || \
	date -r VERSION +%s)

# Nodes need not be Debian: the plugin, which is copied onto them, brings its library.  Debian has
# libcjson as a shared library alone.
$(I)/libcjson.a: deploy/image/cjson
	$(say) CJSON $@
	@mkdir -p $(@D)
	$(Q)CC='$(CC)' CFLAGS='-O2 -fPIE -ffunction-sections -fdata-sections' deploy/image/cjson $@

$(I)/tendril-cni: $(call obj,$(cni_src)) $(B)/liblib.a $(I)/libcjson.a
	$(say) LD $@
	$(Q)$(CC) $(CFLAGS) $(filter-out -pie,$(LDFLAGS)) -static-pie $^ -o $@

.PHONY: image
image: $(programs) $(I)/tendril-cni ## An OCI image for Kubernetes, in build/image/tendril.tar (buildah or podman)
	@tests/harness/deps 'buildah|podman' dpkg-dev
	$(Q)SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) deploy/image/build $(I) $(IMAGE) \
		$(filter-out $(B)/tendril-cni,$(programs)) $(I)/tendril-cni
