package config

import (
	"strings"
	"time"

	"github.com/logcore/logcore/internal/certs"
)

// PageServer configures the page server role.
type PageServer struct {
	// Dir holds the version store, which is derived data; the role creates it.
	Dir string
	// Listen is the gRPC address.
	Listen string
	// TLS is for Listen.
	TLS TLS
	// LogServiceCA is a PEM file with the CAs that the log service's certificate comes from; empty means plain text, to loopback
	// addresses only. TLS.Cert is shown to it.
	LogServiceCA string
	// Metrics is the HTTP address of /metrics and /healthz; empty serves none.
	Metrics string
	// LogService is the address of the log service it follows.
	LogService string
	// Advertise is where clients reach this page server. When set it shares the pages with
	// others, as the log service's stripe map says; a port of 0 is that of Listen. Empty: it
	// has all pages.
	Advertise string
	// CacheBytes is the memory for the version store's block cache.
	CacheBytes Bytes
	// CheckpointTarget is the URL of the target that copies of the store go to, and that a new store comes from; empty keeps
	// none. It is one of the archive's, best the nearest.
	CheckpointTarget string
	// CheckpointName tells the stores of different page servers apart; those that replace each other, or share the pages,
	// have the same one.
	CheckpointName string
	// CheckpointInterval is how often the store is copied.
	CheckpointInterval time.Duration
	// Targets are the URLs of the archive's targets, for a page server that is far behind, or whose log service does not answer:
	// it reads the archive itself. Empty: everything comes from the log service. They may be other URLs than the log service's,
	// with credentials that allow reading only.
	Targets []string
	// ArchiveAfterBytes is how much has to be missing of a log for it to be read from the archive.
	ArchiveAfterBytes Bytes
	// ArchiveReadBytes is the memory for what is read from the archive ahead of its use.
	ArchiveReadBytes Bytes
	// Key is the file with the archive's key; required with CheckpointTarget and Targets.
	Key string
	Logging
}

// DefaultPageServer returns the defaults of a stand-alone page server.
func DefaultPageServer() *PageServer {
	return &PageServer{
		Listen:             "127.0.0.1:7430",
		Metrics:            "127.0.0.1:7431",
		LogService:         "127.0.0.1:7420",
		CacheBytes:         128 << 20,
		ArchiveAfterBytes:  64 << 20,
		ArchiveReadBytes:   128 << 20,
		CheckpointName:     "main",
		CheckpointInterval: 5 * time.Minute,
		TLS:                defaultTLS(),
		Logging:            defaultLogging(),
	}
}

// Fields lists the settings.
func (c *PageServer) Fields() []Field {
	return append([]Field{
		{"dir", "directory of the page versions; created when missing, rebuilt when lost", String(&c.Dir)},
		{"listen", "address of the gRPC service", String(&c.Listen)},
		{"metrics", "HTTP address of /metrics and /healthz; empty for none", String(&c.Metrics)},
		{"log_service", "address of the log service to follow; of a cluster several, separated by commas", String(&c.LogService)},
		{"log_service_ca", "CA that the log service's certificate comes from, a PEM file; without it the way there is plain text, to loopback addresses only", String(&c.LogServiceCA)},
		{"advertise", "address at which clients reach this page server: it shares the pages with other page servers; empty: it has all pages", String(&c.Advertise)},
		{"cache_bytes", "memory for the cache of page versions", &c.CacheBytes},
		{"checkpoint_target", "bucket for copies of the page versions, as a URL: one of the archive's targets, best the nearest; empty for none", String(&c.CheckpointTarget)},
		{"checkpoint_name", "name of the page versions among those copies; a page server that replaces another, or shares the pages with it, has the same", String(&c.CheckpointName)},
		{"checkpoint_interval", "how often what is new is copied", Duration(&c.CheckpointInterval)},
		{"targets", "buckets of the archive as URLs, to read it directly when far behind or when the log service does not answer; empty: never", Strings(&c.Targets)},
		{"archive_after_bytes", "how much has to be missing of a log for it to be read from the archive directly", &c.ArchiveAfterBytes},
		{"archive_read_bytes", "memory for what is read from the archive ahead of its use", &c.ArchiveReadBytes},
		{"key", "file with the archive's key; required with checkpoint_target and targets", String(&c.Key)},
	}, append(c.TLS.fields(), c.Logging.fields()...)...)
}

// Validate reports every bad value.
func (c *PageServer) Validate() []Problem {
	var v checks
	v.required("dir", c.Dir, "say where the page versions live, on a local disk")
	v.required("listen", c.Listen, "give HOST:PORT")
	v.required("log_service", c.LogService, "give HOST:PORT of the log service")
	v.hostPort("listen", c.Listen)
	v.tls(c.TLS, c.Listen)
	v.hostPort("metrics", c.Metrics)
	v.hostPort("advertise", c.Advertise)
	for _, addr := range strings.Split(c.LogService, ",") {
		addr = strings.TrimSpace(addr)
		v.hostPort("log_service", addr)
		if c.LogServiceCA == "" && addr != "" && !certs.Loopback(addr) {
			v.add("log_service", "%q is not a loopback address, and plain text is for those only: set log_service_ca", addr)
		}
	}
	v.sizeBetween("cache_bytes", c.CacheBytes, 1<<20, 1<<40)
	v.sizeBetween("archive_after_bytes", c.ArchiveAfterBytes, 1, 1<<50)
	v.sizeBetween("archive_read_bytes", c.ArchiveReadBytes, 1<<20, 1<<40)
	if len(c.Targets) > 0 {
		v.required("key", c.Key, "the archive is encrypted: name the file with its key")
	}
	if c.CheckpointTarget != "" {
		v.required("key", c.Key, "the copies are encrypted under the archive's key: name its file")
		v.required("checkpoint_name", c.CheckpointName, "give letters, digits and . _ -")
	}
	v.durationBetween("checkpoint_interval", c.CheckpointInterval, time.Second, 24*time.Hour)
	v.logging(c.Logging)
	return v.problems
}
