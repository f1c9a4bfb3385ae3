# The first commands are `make demo` and `make test`; `make faults` and `make soak` show what happens under faults.
# Docker serves if it is there, else a private node of rabbitmq-server; AMQP_URL=... takes your own broker. They install
# what they need where they can (as root on Debian) and otherwise print the line that does; where there is neither Docker nor
# a server the demo installs none, and runs on package amqptest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# A clone without its history, or one of another user, builds all the same.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

ensure := sh integration/rabbit/debian/ensure.sh
pika   := $(ensure) /usr/bin/python3 python3 && { /usr/bin/python3 -c 'import pika, amqp' 2>/dev/null || $(ensure) python3-pika python3-pika python3-amqp; }
need-postgres := $(if $(AMQPKIT_POSTGRES),true,$(ensure) '/usr/lib/postgresql/*/bin/postgres' postgresql)
need-mariadb  := $(if $(AMQPKIT_MARIADB),true,$(ensure) mariadbd mariadb-server-core mariadb-client-core && $(ensure) my_print_defaults mariadb-client-core)
tool   := go tool -modfile=tools/go.mod

# The folders whose tests need RabbitMQ, and a command that starts two for all of them.
folders   := $(patsubst %/main_test.go,./%,$(wildcard integration/*/main_test.go))
on-broker := go run ./integration/cmd/broker -n 2

# Packages that users build, on every platform.
core   := go list ./... | grep -v -e /integration

# The nested modules, each after the ones that it uses. Tests, vet and the linter name each of them; a test in
# integration/walls fails if one is missing here.
modules := tools integration/databases examples/outbox examples/data-sync

# The ones that users build, on every platform. integration/databases contains one package that they may import.
portable := $(filter-out tools integration/databases,$(modules)) integration/databases/servers

.PHONY: help demo demo-stop test unit unit-386 integration databases modules check-4.0 test-4.0 faults soak mutants soak-outbox mutants-outbox bench lint fmt image

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9.-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## send and receive "Hello World!" through a RabbitMQ, which is left running, or with Go alone
	@go run ./integration/cmd/demo

demo-stop: ## end the RabbitMQ that the demo left running
	@go run ./integration/cmd/demo -stop

test: unit unit-386 integration databases modules ## all tests, with the race detector, on a real RabbitMQ and real databases
	@echo "make test: all passed"

unit: ## unit tests
	@$(ensure) gcc gcc libc6-dev
	@$(pika)
	go test -race $$(go list ./... | grep -v -e /integration -e /examples) ./examples/testing/...
	go test ./integration/memory

# On 32 bits an int overflows sooner, and a 64-bit counter may be unaligned. There is no race detector for it.
unit-386: ## unit tests with 32-bit integers
	GOARCH=386 CGO_ENABLED=0 go test $$($(core) | grep -v /examples)

# Without the cache, because results depend on the broker. One package at a time uses a broker, -p=3 builds the next one meanwhile.
integration: ## integration tests on a real RabbitMQ
	@$(ensure) gcc gcc libc6-dev
	@$(pika)
	go test -race -skip Mutants ./integration/bench/... ./integration/cmd/... ./integration/internal/... ./integration/walls ./integration/soak
	$(on-broker) go test -race -count=1 -p=3 -timeout=30m -parallel=4 -skip '^TestS[0-9]{2}' $(folders)

# AMQPKIT_POSTGRES and AMQPKIT_MARIADB may hold the DSNs of your own servers. The tests of package servers need the packages.
databases: ## tests on PostgreSQL, MariaDB and SQLite, with the race detector, on a real RabbitMQ
	@$(ensure) gcc gcc libc6-dev
	@$(ensure) '/usr/lib/postgresql/*/bin/postgres' postgresql
	@$(ensure) mariadbd mariadb-server-core mariadb-client-core
	@$(ensure) my_print_defaults mariadb-client-core
	@$(ensure) pgbouncer pgbouncer
	$(on-broker) go -C integration/databases test -race -skip Mutants -count=1 -p=3 -timeout=30m ./...

modules: ## tests of the other nested modules
	@$(ensure) gcc gcc libc6-dev
	@for module in $(filter-out integration/databases,$(modules)); do \
		echo "go -C $$module test -race ./..."; go -C $$module test -race ./...; \
	done

RUN ?=

faults: ## one test for every scenario of the fault catalogue, see docs/reliability.md; RUN=TestS23 runs only matching tests
	@$(ensure) gcc gcc libc6-dev
	@$(pika)
	@$(on-broker) go run ./integration/cmd/faults $(if $(RUN),-run '$(RUN)')

# RabbitMQ 4.0 counts deliveries, ends consumers, reads streams and treats expired tokens differently. The tests of that
# run on it in CI; test-4.0 runs all.
on-4.0  = image=$$(AMQPKIT_SUITE=trixie sh integration/rabbit/debian/image.sh) && RABBITMQ_IMAGE=$$image $(on-broker) go test -race -count=1 -p=3
differs = $(shell sed -n 's/^func \(Test[A-Za-z0-9]*\).*/^\1$$/p' $(wildcard integration/retrying/*_test.go $(patsubst %,integration/%_test.go, \
	$(addprefix consuming/,bounds drain get key report resume sessions stream stream_position unreadable) connection/credentials topology/lint)) | paste -sd'|')

# These would take a minute and check behaviour of the client alone.
slow = ^TestS48|^TestGetFromAnEmpty|RunLeavesNoChannelBehind$$|^TestS55.*WithoutALimit|^TestS66|^TestS93Errors

check-4.0: ## the tests of consumers, retries, streams, credentials and the lint once more, on RabbitMQ 4.0 (in Docker)
	@$(ensure) gcc gcc libc6-dev
	@$(on-4.0) -timeout=30m -parallel=4 -run '$(differs)' -skip '$(slow)' ./integration/connection ./integration/consuming ./integration/retrying ./integration/topology

test-4.0: ## all integration tests and the fault catalogue on RabbitMQ 4.0 (in Docker), about half an hour
	@$(ensure) gcc gcc libc6-dev
	@$(pika)
	@$(on-4.0) -timeout=60m -parallel=4 $(folders)

DURATION ?= 60s
NODES    ?= 1
SEED     ?= 0

soak: ## random faults for DURATION=60s on NODES=1 or 3, judged; its last line is the verdict, SEED=n repeats a plan
	@$(ensure) gcc gcc libc6-dev
	@go run -race ./integration/cmd/soak -duration $(DURATION) -nodes $(NODES) -seed $(SEED)

mutants: ## plant faults in the toolkit: the judge of the soak has to find each
	go test -count=1 -timeout=30m -v -run Mutants ./integration/soak

DATABASE ?= postgres

soak-outbox: ## services that stay equal under random faults: DATABASE=postgres, mariadb or sqlite, DURATION=60s, SEED=n
	@$(ensure) gcc gcc libc6-dev
	@$(need-$(DATABASE))
	@go -C integration/databases run -race ./cmd/soak-outbox -database $(DATABASE) -duration $(DURATION) -seed $(SEED)

mutants-outbox: ## plant defects in outbox and inbox: the judge of soak-outbox has to find each
	go -C integration/databases test -count=1 -timeout=20m -parallel=2 -v -run Mutants ./soak

QUICK ?=
ROWS  ?=
BASE  ?=

# With QUICK, ROWS or BASE, docs/benchmarks.md stays as it is.
bench: ## amqpkit against hand-written code, three quarters of an hour, into docs/benchmarks.md; QUICK=1 the main rows, ROWS=regexp, BASE=commit: old against new
	@$(if $(BASE)$(AMQPKIT_POSTGRES)$(if $(findstring outbox,$(ROWS)),,$(ROWS)),,$(ensure) '/usr/lib/postgresql/*/bin/postgres' postgresql)
	@go run ./integration/cmd/bench $(if $(filter-out 0,$(QUICK)),-quick,$(if $(ROWS)$(BASE),,-docs docs)) $(if $(ROWS),-rows '$(ROWS)') $(if $(BASE),-base $(BASE))

lint: ## golangci-lint, with the import rules of ARCHITECTURE.md, and go vet for other platforms; its first run builds it
	@echo "lint (the first run builds the linter, about two minutes) ..."
	@$(tool) golangci-lint run ./...
	@for module in $(modules); do \
		echo "lint $$module ..."; (cd $$module && go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint run ./...); \
	done
	@for on in windows/amd64 darwin/arm64 freebsd/amd64 linux/386; do \
		echo "vet for $$on ..."; CGO_ENABLED=0 GOOS=$${on%/*} GOARCH=$${on#*/} go vet $$($(core)); \
		for module in $(portable); do CGO_ENABLED=0 GOOS=$${on%/*} GOARCH=$${on#*/} go -C $$module vet ./...; done; \
	done

fmt: ## gofumpt
	@$(tool) gofumpt -w .

image: ## build the Docker image of RabbitMQ that is used where no registry answers; prints its name
	@sh integration/rabbit/debian/image.sh
