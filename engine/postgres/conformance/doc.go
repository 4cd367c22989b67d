// Package conformance runs the PostgreSQL engine against the real server: its regression
// suite, killed compute nodes, a standby as an oracle. The tests need PostgreSQL 15 and
// its source, so they have the build tag postgres; `make test-postgres` brings what they need.
package conformance
