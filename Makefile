# Everything that CI runs, you run: `make help` lists it.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# A few tests mount a small tmpfs to have a full or a read-only disk. Without root they
# get a user namespace of their own in which they may.
MOUNTS := $(shell [ "$$(id -u)" = 0 ] || echo unshare --user --map-root-user --mount)

TOOL   := go tool -modfile=tools/go.mod
BIN    := bin
FUZZTIME  ?= 60s
FUZZ_PACKAGES ?= ./...
BENCHTIME ?= 1s
COUNT     ?= 5

.PHONY: help build demo demo-s3 test race lint fmt fuzz sim crash crash-root bench bench-hotlog bench-hotlog-read chaos-tiering proto proto-baseline clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

build: ## build bin/logcore, bin/logsvc and bin/pageserver
	go build -o $(BIN)/ ./cmd/...

demo: build ## the main job: load, kill, lose a cloud, restore, prove what is kept
	$(BIN)/logcore demo --dir .cache/demo

demo-s3: build $(BIN)/s3gateway ## the same on six buckets at three real S3 servers over TLS
	$(BIN)/logcore demo --dir .cache/demo-s3 --s3

$(BIN)/s3gateway: tools/s3gateway/go.mod $(wildcard tools/s3gateway/*.go)
	cd tools/s3gateway && go build -o ../../$(BIN)/s3gateway .

test: build $(BIN)/s3gateway ## every test
	cd loadtest/peers && go test -count=1 -timeout 20m ./...
	$(MOUNTS) go test -count=1 -timeout 20m ./...

race: $(BIN)/s3gateway ## the core's tests under the race detector
	$(MOUNTS) go test -race -count=1 -timeout 20m -skip 'Conformance/(Cold)?SIGKILL|TestStripedCollection|TestPlantedStripingBugs' $(RACE_PACKAGES)

# The packages with concurrency of their own. Those, and the tests, that mostly drive child
# processes or the SQLite engine find nothing more under the race detector. Collection over
# stripes opens so many iterators, of each of which the store notes the stack under the race
# detector, that it does not end; its parts are in other tests.
RACE_PACKAGES := . ./internal/wire/... ./hotlog/... ./replication/... ./catalog/... ./logsvc/... ./client/... ./tiering/... ./pageserver/... ./engine/pages/...

lint: ## gofmt, go vet, staticcheck, buf lint and breaking changes, generated code, repository rules
	@unformatted=$$(git ls-files '*.go' | xargs gofmt -l); if [ -n "$$unformatted" ]; then echo "not gofmt-ed, run make fmt: $$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags root ./hotlog
	go vet -tags postgres,suite ./engine/postgres/conformance
	$(TOOL) staticcheck ./...
	$(TOOL) buf lint
	$(TOOL) buf breaking --against proto/baseline.binpb
	@$(MAKE) --no-print-directory proto
	@git diff --exit-code --stat -- proto || { echo "generated code is stale: commit what make proto wrote"; exit 1; }
	go test -count=1 ./internal/tidy

.PHONY: alerts
alerts: ## the alert rules and their tests through promtool, which is fetched from Debian's package when it is missing
	tool=$$(tools/prometheus/promtool.sh .cache/prometheus) && $$tool check rules deploy/alerts/*.rules.yml && $$tool test rules deploy/alerts/tests/*.test.yml

fmt: ## format the Go code
	gofmt -w $$(git ls-files '*.go')

fuzz: ## every fuzz target of FUZZ_PACKAGES (./...) for FUZZTIME (60s), about 40 minutes; ends at the first failure
	@for pkg in $$(go list $(FUZZ_PACKAGES)); do \
	  targets=$$(go test -list '^Fuzz' $$pkg | sed -n '/^Fuzz/p'); \
	  for target in $$targets; do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; done

bench: ## every benchmark, COUNT (5) times for BENCHTIME (1s)
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) -count $(COUNT) ./...

bench-hotlog: ## the hot log beside the device's limit and other logs: JSON lines on stdout, a table on stderr
	@mkdir -p .cache/bench && cd loadtest/peers && go run . --dir $(CURDIR)/.cache/bench --rounds 5 $(ARGS)

bench-hotlog-read: ## reading, recovering and opening the hot log beside CRC-32C of the same bytes, half a minute
	@mkdir -p .cache/bench && cd loadtest/peers && go run . read --dir $(CURDIR)/.cache/bench $(ARGS)

SEEDS ?= 10000
SEED  ?= 0

sim: ## SEEDS (10000) runs of the deterministic simulation, or with SEED=s that one run and its schedule
	go run ./internal/sim/cmd -seeds $(SEEDS) -seed $(SEED) $(ARGS)

.PHONY: sim-moves
sim-moves: ## SEEDS (10000) runs of the simulation of several shards, between which logs move under faults, about 8 minutes; SEED=s that one run
	@echo "expected: about 8 minutes for 10,000 seeds on two quiet cores" >&2
	go run ./internal/sim/cmd -moves -seeds $(SEEDS) -seed $(SEED) $(ARGS)

# Fault suites at their per-change figures; `make test` does a portion of each.
CRASH_PACKAGES ?= ./hotlog/...

crash: ## the fault suites (kills, power cuts, failing syncs, rot, full disk, memory) at their per-change figures, about 15 minutes; LOGCORE_SEED=n replays
	@echo "expected: about 15 minutes on two cores; each test prints its seed"
	LOGCORE_FAULTS=full $(MOUNTS) go test -count=1 -timeout 2h -v -run '^TestF[0-9]' $(CRASH_PACKAGES)

crash-root: ## the same on real kernels: ext4 shut down under the log, syncs that fail, memory groups, a leader's disk that is slowed down; as root, about 1 minute
	@[ "$$(id -u)" = 0 ] || { echo "crash-root mounts loop devices and makes memory groups: run it as root"; exit 1; }
	@echo "expected: about 1 minute"
	LOGCORE_FAULTS=full go test -count=1 -timeout 30m -v -tags root -run '^TestRoot' $(CRASH_PACKAGES) ./cmd/logsvc

.PHONY: test-pageserver-full
test-pageserver-full: ## a million pages at random LSNs compared with a plain replay, of the native format and of a decoder with redo and a state; about 5 minutes
	@echo "expected: about 5 minutes" >&2
	LOGCORE_PAGE_COMPARISONS=1000000 go test -count=1 -timeout 60m -v -run '^TestPageComparisons$$' ./pageserver

.PHONY: test-tiering-full
test-tiering-full: ## the archive tier's random tests at length: 300 histories under collection, 2,000 flips of bits; about 5 minutes
	@echo "expected: about 5 minutes" >&2
	LOGCORE_COLLECT_SEEDS=300 LOGCORE_FLIP_ROUNDS=2000 go test -count=1 -timeout 30m -v -run '^(TestCollectionNeverDeletesWhatIsNamed|TestEveryFlipIsFoundAndHealed)$$' ./tiering

chaos-tiering: $(BIN)/s3gateway ## kill one of three S3 servers 50 times under the archive tier (5 min): KILLS=50 SEED=0; JSON lines on stdout
	@mkdir -p .cache/chaos && go run ./loadtest tiering-chaos --dir .cache/chaos --kills $(or $(KILLS),50) --seed $(or $(SEED),0) $(ARGS)

.PHONY: bench-tiering
bench-failover: ## the leader of three processes killed KILLS (50) times under load: how soon appends are acknowledged again, none lost; about a minute
	@echo "expected: about a minute" >&2
	LOGCORE_CLUSTER_KILLS=$(or $(KILLS),50) go test -count=1 -timeout 20m -v -run '^TestCluster$$' ./cmd/logsvc

bench-tiering: build $(BIN)/s3gateway ## the archive tier beside its limits, with 5 minutes of RPO under load (8 min): JSON lines on stdout, a table on stderr; ARGS="--only codec,pipeline"
	@mkdir -p .cache/bench-tiering && go build -o $(BIN)/loadtest ./loadtest && $(BIN)/loadtest tiering-bench --dir .cache/bench-tiering --logcore $(BIN)/logcore $(ARGS)

.PHONY: bench-pageserver
bench-pageserver: ## the page server beside the store below it and bare gRPC (8 min; BENCH_HOUR=1 updates pages for an hour): JSON lines on stdout, a table on stderr; ARGS="--only ingest,chain"
	@mkdir -p .cache/bench-pageserver && go build -o $(BIN)/loadtest ./loadtest && $(BIN)/loadtest pageserver-bench --dir .cache/bench-pageserver $(if $(BENCH_HOUR),--skew 1h) $(ARGS)

.PHONY: bench-replication
bench-replication: build ## the replicated append path beside its limits: JSON lines on stdout, a table on stderr
	@mkdir -p .cache/bench && go build -o $(BIN)/loadtest ./loadtest && $(BIN)/loadtest bench --dir .cache/bench --bin $(BIN) $(ARGS)

.PHONY: chaos-replication
chaos-replication: build ## kill, pause, cut off, fill up and power off the nodes of a real cluster under load (10 min, root): DURATION=10m SEED=0; JSON on stdout
	@mkdir -p .cache/chaos && go build -o $(BIN)/loadtest ./loadtest && $(BIN)/loadtest replication-chaos --dir .cache/chaos --bin $(BIN) --duration $(or $(DURATION),10m) --seed $(or $(SEED),0) $(ARGS)

# Where the source of PostgreSQL's regression suite is built. The user postgres has to get there.
PG_CACHE ?= .cache/postgres

.PHONY: test-postgres
test-postgres: build ## the PostgreSQL engine against the real server, which is installed if it is missing: regression suite, killed nodes, a standby as oracle
	@echo "expected: 4 to 6 minutes, and 2 more the first time, to fetch and build PostgreSQL's regression suite" >&2
	regress=$$(tools/postgres/prepare.sh $(PG_CACHE)) && LOGCORE_PG_REGRESS=$$regress LOGCORE_PG_SOURCE=$(abspath $(PG_CACHE))/tree LOGCORE_BINARY=$(CURDIR)/$(BIN)/logcore go test -tags postgres -count=1 -timeout 30m -v ./engine/postgres/conformance

.PHONY: test-postgres-suite
test-postgres-suite: ## all 217 tests of PostgreSQL's regression suite under wal_consistency_checking=all: every record redone and printed as by the server, its 11 GB of WAL looked at as they are written (2 GB of disk); REDO_TABLE=FILE for the counts
	@echo "expected: 1 to 6 minutes, and 2 more the first time, to fetch and build PostgreSQL's regression suite" >&2
	mkdir -p $(BIN) && go build -o $(BIN)/ ./cmd/logcore
	regress=$$(tools/postgres/prepare.sh $(PG_CACHE)) && LOGCORE_REDO_TABLE=$(abspath $(REDO_TABLE)) LOGCORE_PG_REGRESS=$$regress LOGCORE_BINARY=$(CURDIR)/$(BIN)/logcore nice go test -tags postgres,suite -count=1 -timeout 60m -v -run '^TestWholeRegressionSuite$$' ./engine/postgres/conformance

.PHONY: bench-postgres
bench-postgres: build ## PostgreSQL with and without LogCore, interleaved; a killed node's return beside crash recovery: JSON lines on stdout, a table on stderr; ONLY=start,tps,sustained,wal,ingest,decode,pages,redo
	@echo "expected: about 24 minutes; each part says how long it takes. ONLY=start (7 minutes, 3 with RETURN_MIB=256,512,1024), tps, sustained (4 each), ingest (3), decode, pages (2 each), wal, redo (1 each) or several with commas" >&2
	@tools/postgres/prepare.sh --server && mkdir -p .cache/bench-postgres && rm -f .cache/bench-postgres/figures.jsonl && \
	  parts=$$(echo '$(ONLY)' | tr ', ' '||') && \
	  LOGCORE_FIGURES=$(CURDIR)/.cache/bench-postgres/figures.jsonl LOGCORE_RETURN_MIB=$(RETURN_MIB) LOGCORE_BINARY=$(CURDIR)/$(BIN)/logcore go test -tags postgres -run '^$$' -bench "^BenchmarkFigures$$/^($${parts:-.*})$$" -benchtime 1x -timeout 90m -v ./engine/postgres/conformance >&2; \
	  status=$$?; cat .cache/bench-postgres/figures.jsonl; exit $$status

proto: ## generate the Go code of proto/
	$(TOOL) buf generate

proto-baseline: ## at a release: what later changes must stay compatible with
	$(TOOL) buf build -o proto/baseline.binpb

clean: ## remove what was built and the demos' directories
	rm -rf $(BIN) .cache
