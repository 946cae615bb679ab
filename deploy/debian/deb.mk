# SPDX-License-Identifier: Apache-2.0
# make deb: a Debian package of the last commit's files, as they are now.

.PHONY: deb
deb: ## A Debian package, in build/deb/
	@tests/harness/deps build-essential debhelper $(build_deps)
	$(Q)SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) deploy/debian/build $(B)/deb $(VERSION)
