# lvslab's commands for people. `make run` and `make test` need Go and, on
# Debian or Ubuntu, apt; `make test` installs what it needs when it may.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

GO       ?= go
BIN      := bin/lvslab
# The tools that check the code, pinned.
GOFUMPT       := mvdan.cc/gofumpt@v0.12.0
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# What the tests compare lvslab with.
TOOLS := iproute2 ipvsadm arptables iptables nftables curl tcpdump procps busybox python3 kmod util-linux \
	iputils-ping bind9-dnsutils netcat-openbsd ncat qemu-system-x86 net-tools vim-tiny less keepalived

export CGO_ENABLED = 0

.PHONY: build run test check lint bench soak fuzz tools kernel clean help

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

build: ## build bin/lvslab, one static binary
	$(GO) build -trimpath -ldflags "-s -w" -o $(BIN) ./cmd/lvslab

run: build ## run every lab of the tutorial, with a guest kernel if this one cannot
	$(BIN) doctor >/dev/null || $(BIN) kernel install
	$(BIN) run

test: tools kernel check ## everything that CI checks
	LVSLAB_REQUIRE=$${LVSLAB_REQUIRE-$$([ "$$(id -u)" = 0 ] && echo 1 || true)} $(GO) test -timeout 20m ./...

tools: # real programs to compare with; only root can install them
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=$$(for p in $(TOOLS); do [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || echo $$p; done); \
	  if [ -n "$$missing" ]; then \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; \
	  fi; \
	else echo "not root: tests that compare with real tools run where those are installed"; fi

kernel: build # the guest kernels for tests, in the user's cache
	$(BIN) kernel install
	$(BIN) kernel install qemu

check: lint ## formatting, vet, lint, tidy go.mod
	$(GO) mod tidy -diff
	$(GO) vet ./...

lint:
	@out=$$($(GO) run $(GOFUMPT) -l .); [ -z "$$out" ] || { echo "not gofumpt-clean:"; echo "$$out"; exit 1; }
	$(GO) run $(GOLANGCI_LINT) run -c .github/golangci.yml ./...

bench: tools kernel ## speed, as ratios measured side by side
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 15m ./runner/bench

SOAK ?= 10m
soak: tools kernel ## keep a lab up under load for SOAK, and watch that nothing grows
	LVSLAB_SOAK=$(SOAK) $(GO) test -count 1 -timeout 2h -v -run '^TestSoak$$' ./cmd/lvslab

FUZZTIME ?= 20s
fuzz: ## every parser, FUZZTIME each
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$p; \
	  done; done

clean: ## remove what was built
	rm -rf bin
