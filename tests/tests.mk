# SPDX-License-Identifier: Apache-2.0
# Builds and runs the tests.  A file in tests/unit, tests/bpf or tests/fuzz is a program of its own
# and is found by its name; tests/run counts what they print.

# Unit tests: the real sources, sanitized.  A test that defines a function itself (a stub) wins
# over the archive's member.
ASAN   := -fsanitize=address,undefined -fno-sanitize-recover=all
U      := $(B)/unit
TCFLAGS := -std=gnu17 -O1 -g $(WARNINGS) -Itests

test_libs := -lcmocka -lbpf -lmnl -lcjson -levent_core -lyaml -lcap

# Everything but the programs' main().
library_src := $(filter-out agent/main.c cli/main.c,$(lib_src) $(datapath_src) $(policy_src) \
	$(agent_src) $(cli_src))

u_library := $(patsubst %.c,$(U)/%.o,$(library_src))
u_cni   := $(patsubst %.c,$(U)/%.o,$(filter-out cni/main.c,$(cni_src)))
u_harness := $(patsubst %.c,$(U)/%.o,$(wildcard tests/unit/[!t]*.c))

$(U)/%.o: %.c | $(B)/have-build
	$(say) CC-SAN $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(TCFLAGS) $(ASAN) -MMD -MP -c $< -o $@

$(patsubst %.c,$(U)/%.o,$(datapath_src)): | $(skeletons)
$(patsubst %.c,$(U)/%.o,agent/api/api_status.c lib/program.c): VERSION
$(patsubst %.c,$(U)/%.o,$(wildcard tests/unit/*.c)): | $(B)/have-test
$(call obj,$(wildcard tests/unit/*.c tests/bpf/*.c tests/harness/*.c)): | $(B)/have-test

$(U)/libtendril.a: $(u_library)
$(U)/libcni.a: $(u_cni)
$(U)/libharness.a: $(u_harness)

unit_tests := $(patsubst tests/unit/%.c,$(U)/%,$(wildcard tests/unit/test_*.c))

$(U)/test_cni%: $(U)/tests/unit/test_cni%.o $(U)/libcni.a $(U)/libtendril.a
	$(say) LD $@
	$(Q)$(CC) $(ASAN) $^ -o $@ $(test_libs)

$(U)/test_%: $(U)/tests/unit/test_%.o $(U)/libharness.a $(U)/libtendril.a
	$(say) LD $@
	$(Q)$(CC) $(ASAN) $^ -o $@ $(test_libs)

# The command line, sanitized, for files that went wrong once (tests/policy/test_faults.py).
$(U)/tendril: $(U)/cli/main.o $(U)/libtendril.a
	$(say) LD $@
	$(Q)$(CC) $(ASAN) $^ -o $@ $(filter-out -lcmocka,$(test_libs))

# Datapath tests: the programs under BPF_PROG_TEST_RUN, with the release objects.
bpf_tests   := $(patsubst tests/bpf/%.c,$(B)/tests/bpf/%,$(wildcard tests/bpf/test_*.c))
bpf_harness := $(call obj,$(wildcard tests/harness/*.c) tests/unit/oracle.c tests/unit/snapshot.c \
	tests/unit/random_store.c)
$(B)/tests/libharness.a: $(bpf_harness)
$(B)/libagent.a: $(call obj,$(filter-out agent/main.c,$(agent_src)))

$(B)/tests/%.o: CPPFLAGS += -Itests

$(B)/tests/bpf/test_%: $(B)/tests/bpf/test_%.o $(B)/tests/libharness.a $(B)/libagent.a \
		$(B)/libdatapath.a $(B)/libpolicy.a $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) -pie $^ -o $@ $(test_libs)

# Programs that network tests run inside pods.
net_programs := $(patsubst %.c,$(B)/%,$(wildcard tests/net/*.c))
$(net_programs): $(B)/%: $(B)/%.o $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) -pie $^ -o $@ -lpthread

# What services answer, for the oracle in Python.
policy_programs := $(patsubst %.c,$(B)/%,$(wildcard tests/policy/*.c))
$(policy_programs): $(B)/%: $(B)/%.o $(B)/tests/libharness.a $(B)/libagent.a \
		$(B)/libdatapath.a $(B)/libpolicy.a $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) -pie $^ -o $@ $(test_libs)

netbench := $(B)/tests/bench/netbench
$(netbench): $(B)/tests/bench/netbench.o
	$(say) LD $@
	$(Q)$(CC) -pie $^ -o $@ -lpthread

# What policy costs at 10,000 pods; what packets of clients outside cost.
policybench := $(B)/tests/bench/policybench
packetbench := $(B)/tests/bench/packetbench
$(policybench) $(packetbench): %: %.o $(B)/tests/libharness.a $(B)/libagent.a \
		$(B)/libdatapath.a $(B)/libpolicy.a $(B)/liblib.a
	$(say) LD $@
	$(Q)$(CC) -pie $^ -o $@ $(test_libs)

.PHONY: bench bench-full
bench: bench-deps ## Measure beside what a user would pick instead (ONLY=rr,cni VARIANTS=routed,tendril ROUNDS=7)
	$(MAKE) --no-print-directory -j$$(nproc) all $(netbench) $(policybench) $(packetbench)
	tests/harness/rooted tests/bench/bench

bench-full: bench-deps ## The same with everything there is to measure
	$(MAKE) --no-print-directory -j$$(nproc) all $(netbench) $(policybench) $(packetbench)
	tests/harness/rooted tests/bench/bench --full --write-results

# Fuzzers: libFuzzer, every source instrumented.
F      := $(B)/fuzz
FUZZ   := -fsanitize=address,undefined -fno-sanitize-recover=all
fuzzers := $(patsubst tests/fuzz/%.c,$(F)/%,$(wildcard tests/fuzz/fuzz_*.c))

$(F)/%.o: %.c | $(B)/have-fuzz
	$(say) CC-FUZZ $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS) -std=gnu17 -O1 -g $(FUZZ) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

$(patsubst %.c,$(F)/%.o,$(datapath_src)): | $(skeletons)

$(F)/libtendril.a: $(patsubst %.c,$(F)/%.o,$(library_src))
$(F)/libcni.a: $(patsubst %.c,$(F)/%.o,$(filter-out cni/main.c,$(cni_src)))

$(F)/fuzz_cni%: $(F)/tests/fuzz/fuzz_cni%.o $(F)/libcni.a $(F)/libtendril.a
	$(say) LD $@
	$(Q)$(CLANG) $(FUZZ) -fsanitize=fuzzer $^ -o $@ $(filter-out -lcmocka,$(test_libs))

$(F)/tests/%.o: CPPFLAGS += -Itests

# The parsers of the API client: it is linked by nobody else.
$(F)/fuzz_kube: $(F)/tests/fuzz/fuzz_kube.o $(F)/kube/resource.o $(F)/kube/known.o $(F)/libtendril.a
	$(say) LD $@
	$(Q)$(CLANG) $(FUZZ) -fsanitize=fuzzer $^ -o $@ $(filter-out -lcmocka,$(test_libs)) -lcurl

$(F)/fuzz_packet: $(F)/tests/fuzz/fuzz_packet.o $(F)/tests/harness/entry.o \
		$(F)/tests/harness/pods.o $(F)/tests/harness/scratch.o $(F)/libtendril.a
	$(say) LD $@
	$(Q)$(CLANG) $(FUZZ) -fsanitize=fuzzer $^ -o $@ $(filter-out -lcmocka,$(test_libs))

$(F)/fuzz_%: $(F)/tests/fuzz/fuzz_%.o $(F)/libtendril.a
	$(say) LD $@
	$(Q)$(CLANG) $(FUZZ) -fsanitize=fuzzer $^ -o $@ $(filter-out -lcmocka,$(test_libs))

.PRECIOUS: $(B)/%.o $(U)/%.o $(F)/%.o $(B)/have-%

.PHONY: unit-programs test-programs check check-unit check-bpf check-policy check-net check-fuzz \
	check-kernel check-kube check-cluster test
unit-programs: $(unit_tests) $(U)/tendril
test-programs: all unit-programs $(bpf_tests) $(policy_programs) $(net_programs) $(netbench) $(policybench) $(packetbench) $(fuzzers)

check-unit: $(unit_tests) ## Unit tests, sanitized, no root (T=NAME: only matching cases)
	tests/harness/rooted tests/run unit

check-bpf: $(bpf_tests) ## Datapath tests with BPF_PROG_TEST_RUN (root)
	tests/harness/rooted tests/run bpf

check-policy: $(B)/have-pytest $(policy_programs) $(U)/tendril all ## The CLI's offline commands
	tests/harness/rooted tests/run policy

# One YAML of a Kustomize folder, for "kubectl apply -f".
render = { echo "\# SPDX-License-Identifier: Apache-2.0"; echo "\# Made of $(1) by make golden."; \
	kubectl kustomize $(1); } > $(2)

golden: $(B)/have-pytest all ## Write the expected outputs of tests/policy/golden anew; read the diff
	tests/harness/settings.py > doc/settings.md
	$(call render,deploy/kubernetes,deploy/kubernetes/tendril.yaml)
	$(call render,deploy/kubernetes/uninstall,deploy/kubernetes/tendril-uninstall.yaml)
	GOLDEN=1 tests/run policy

check-net: $(B)/have-net all $(net_programs) $(netbench) $(policybench) $(packetbench) ## Real pods in network namespaces (root)
	tests/harness/rooted tests/run net

check-kube: $(B)/have-pytest all ## The API client beside a scripted API server
	tests/harness/rooted tests/run kube

check-cluster: $(B)/have-pytest all ## A real Kubernetes cluster, where its programs are (KUBERNETES=../shared/k8s)
	@tests/harness/deps $(cluster_deps)
	tests/harness/rooted tests/run cluster

check-fuzz: $(B)/have-fuzz $(fuzzers) ## Every fuzzer for FUZZ_SECONDS (10)
	tests/harness/rooted tests/run fuzz

check-kernel: $(B)/have-kernel all $(bpf_tests) $(B)/tests/net/sniff $(netbench) ## Datapath tests, pods, encryption on Linux 6.1, under qemu
	tests/harness/rooted tests/run kernel

check-fresh: ## A fresh clone on a bare Debian 12: what make help lists works (root, debootstrap)
	@tests/harness/deps $(fresh_deps)
	tests/run fresh

check: $(B)/have-test $(B)/have-pytest $(unit_tests) $(U)/tendril $(bpf_tests) $(policy_programs) all ## Unit, datapath and policy tests: the quick loop (root)
	tests/harness/rooted tests/run unit bpf policy

test: deps ## Install what is missing, build, run every test (root)
	$(MAKE) --no-print-directory -j$$(nproc) test-programs
	STORES=$${STORES:-100000} WORLD_SECONDS=$${WORLD_SECONDS:-15} tests/harness/rooted \
		tests/run $(SUITES)

SUITES ?= unit bpf policy kube net cluster fuzz kernel

# ---- set-up ----------------------------------------------------------------------------------

build_deps := gcc libc6-dev clang llvm bpftool pkg-config libbpf-dev libmnl-dev libcjson-dev \
	libevent-dev libyaml-dev uthash-dev libcap-dev linux-libc-dev \
	libcurl4-openssl-dev libssl-dev libseccomp-dev
run_deps   := iproute2 python3 util-linux mount
test_deps  := clang-format git libcmocka-dev libclang-rt-14-dev python3-pytest python3-yaml containernetworking-plugins podman \
	crun buildah dpkg-dev 'kubectl|kubernetes-client' containerd runc iptables busybox-static prometheus redis-server redis-tools nginx-light wrk \
	nftables tcpdump ethtool curl openssl iputils-ping strace valgrind zsh fish procps qemu-system-x86 cpio libc-bin
bench_deps := libcmocka-dev containernetworking-plugins iptables procps nginx-light wrk gnuplot-nox

# A real cluster's programs are not part of this tree; where they are, its tests run.
KUBERNETES   ?= $(abspath ../shared/k8s)
cluster_deps := $(if $(wildcard $(KUBERNETES)/cluster),'kubectl|kubernetes-client' etcd-server containerd runc \
	iptables conntrack containernetworking-plugins busybox-static netcat-openbsd bind9-dnsutils \
	iperf curl socat openssl xz-utils)
export KUBERNETES

fresh_deps := debootstrap
lint_deps  := git clang-format clang-tidy shellcheck python3

# Says what is missing before a compiler does; asked once per build folder.
$(B)/have-%:
	@CC='$(CC)' CLANG='$(CLANG)' BPFTOOL='$(BPFTOOL)' tests/harness/have $*
	@mkdir -p $(@D) && touch $@

.PHONY: deps bench-deps demo-deps ci-deps demo check-fresh
deps: ## Install the Debian packages that are missing for building and testing (root)
	@tests/harness/deps $(build_deps) $(run_deps) $(test_deps) $(cluster_deps)

bench-deps:
	@tests/harness/deps $(build_deps) $(run_deps) $(bench_deps)

ci-deps:
	@tests/harness/deps $(build_deps) $(run_deps) $(test_deps) $(cluster_deps) $(lint_deps) $(fresh_deps)

demo-deps:
	@tests/harness/deps $(build_deps) $(run_deps)

demo: demo-deps ## Seven pods, services, policy and acceleration at work; cleans up after itself (root)
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tests/harness/rooted tests/demo/demo
