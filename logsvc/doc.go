// Package logsvc is the hot tier's service: LogCoreService and AdminService over one
// shard's replication group. It turns requests into entries that are valid by
// construction, leases writer epochs, serves readers from the hot log and, where that
// no longer has the entries, from the archive, and lets go of hot segments the archive covers.
package logsvc
