// Package replbench measures the replicated append path beside its limits, in the same run:
// a service of one member beside a bare gRPC stream, one append in flight beside the hot log's
// own commit and a bare unary call, a thousand logs beside one, and a service of three members beside a bare
// Raft group. What the cells and figures mean is in docs/design/bench-replication.md.
package replbench
