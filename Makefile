# Everything a developer types. `make help` lists it.

export CGO_ENABLED := 0

BIN     := bin/headgate
# Pass sizes or more: make demo DEMOFLAGS="--agents 5 --simulated 1000 --keep"
DEMOFLAGS  ?=
# How long each fuzz target runs: make fuzz FUZZTIME=10m
FUZZTIME   ?= 1m
# What to measure: make bench BENCHFLAGS="-endpoints 10000 -time 1s"
BENCHFLAGS ?=
# How many good rollouts, and seeds for each fault: make campaign CAMPAIGNFLAGS="30000 20"
CAMPAIGNFLAGS ?=

.PHONY: help demo demo-response build test bench campaign verify fuzz race generate fmt setup tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: build ## watch Headgate stop a bad release and bring everyone home (needs only Go)
	@$(BIN) demo $(DEMOFLAGS)

demo-response: build ## watch a vulnerability from its report to notices closed by proof (needs only Go)
	@$(BIN) demo response $(DEMOFLAGS)

build: ## build the one static binary, bin/headgate
	@scripts/build $(BIN)

test: setup ## run every test; installs PostgreSQL, ClamAV, Prometheus, Exim, GnuPG and Chromium first where they are missing
	@scripts/test

bench: build setup ## measure the server as a whole process and the decision core, against peers and limits
	@go run ./test/bench -headgate $(BIN) $(BENCHFLAGS)
	@go run ./test/bench/core
	@go test ./psirt -run '^$$' -bench Board -benchtime 3x -cpu 1
	@go test ./fleet -run '^$$' -bench Match -benchtime 1x -cpu 1
	@go test ./store -run '^$$' -bench Notices -benchtime 3x -cpu 1

campaign: build ## the long simulations: false halts, detection power, the table of policies (hours)
	@scripts/campaign $(CAMPAIGNFLAGS)

verify: tools ## formatting, lint, architecture, API compatibility, generated code, licences
	@scripts/verify

fuzz: ## fuzz every decoder, FUZZTIME each
	@scripts/fuzz $(FUZZTIME)

race: ## run every test under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 30m ./...

generate: tools ## regenerate what is generated
	@scripts/generate api

fmt: ## format the Go code
	gofmt -l -w $$(git ls-files '*.go')

setup: ## install what the tests need (Debian packages; root or sudo)
	@scripts/setup

tools: ## install the pinned developers' tools into .tools/
	@scripts/tools

clean: ## remove what was built; keeps .tools/
	rm -rf bin
