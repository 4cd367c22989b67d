package config

import "time"

// LogService configures the log service role: hot log, replication, archive, API.
type LogService struct {
	// Dir holds the hot logs; the role creates it.
	Dir string
	// Shards is how many shards a new service has; 0 means one, or those that are there. More can be added to one
	// that has no other members; none can be taken away.
	Shards int
	// Listen is the gRPC address.
	Listen string
	// Address is where clients reach Listen, as other members tell them; empty means Listen itself.
	Address string
	// PeerListen is the address for the other nodes of a cluster; empty: this is no node of one.
	PeerListen string
	// PeerAddress is where other nodes reach PeerListen; empty means PeerListen itself.
	PeerAddress string
	// Peers are peer addresses of nodes of the cluster that an empty directory joins; they don't matter
	// later.
	Peers []string
	// PeerCert, PeerKey and PeerCA are PEM files for mutual TLS between nodes. All three or none.
	PeerCert, PeerKey, PeerCA string
	// TLS is for Listen. In a cluster every member has it or none.
	TLS TLS
	// Metrics is the HTTP address of /metrics and /healthz; empty serves none.
	Metrics string
	// Key is the file that holds the archive's key; required with Targets.
	Key string
	// Targets are the archive's buckets as URLs; empty archives nothing.
	Targets []string
	// ArchiveMaxAge is how long an acknowledged entry may wait for the archive.
	ArchiveMaxAge time.Duration
	// PageServerLease is how long a page server that shares pages with others may be silent before
	// they take its stripes over.
	PageServerLease time.Duration
	// ArchiveMemoryBytes bounds what making archive objects takes of the heap, garbage included.
	ArchiveMemoryBytes Bytes
	// ArchiveCompression is that of sealed objects: "better" or "fastest".
	ArchiveCompression string
	// SegmentBytes is the size at which a segment is sealed.
	SegmentBytes Bytes
	// EntryBytesMax is the largest payload of an entry.
	EntryBytesMax Bytes
	// HotBytesKeep is what stays in the hot tier although the archive has it.
	HotBytesKeep Bytes
	// CacheBytes is the memory for recent entries.
	CacheBytes Bytes
	// QueueBytesMax bounds the entries that wait for the disk.
	QueueBytesMax Bytes
	// DiskReserveBytes is kept free on the device.
	DiskReserveBytes Bytes
	Logging
}

// DefaultLogService returns the defaults of a stand-alone log service.
func DefaultLogService() *LogService {
	return &LogService{
		Listen:             "127.0.0.1:7420",
		Metrics:            "127.0.0.1:7421",
		ArchiveMaxAge:      2 * time.Second,
		PageServerLease:    10 * time.Second,
		ArchiveMemoryBytes: 256 << 20,
		ArchiveCompression: "better",
		SegmentBytes:       128 << 20,
		EntryBytesMax:      16 << 20,
		HotBytesKeep:       1 << 30,
		CacheBytes:         64 << 20,
		QueueBytesMax:      64 << 20,
		DiskReserveBytes:   256 << 20,
		TLS:                defaultTLS(),
		Logging:            defaultLogging(),
	}
}

// Fields lists the settings.
func (c *LogService) Fields() []Field {
	return append([]Field{
		{"dir", "directory of the hot log; created when missing", String(&c.Dir)},
		{"shards", "number of shards of a new service, or of one that is to get more; 0 for those it has", Int(&c.Shards)},
		{"listen", "address of the gRPC service", String(&c.Listen)},
		{"address", "where clients reach the gRPC service, as the other members tell them; empty for listen", String(&c.Address)},
		{"peer_listen", "address for the other nodes of a cluster; empty when there are none", String(&c.PeerListen)},
		{"peer_address", "where other nodes reach peer_listen; empty for peer_listen", String(&c.PeerAddress)},
		{"peers", "peer addresses of a cluster that an empty directory joins", Strings(&c.Peers)},
		{"peer_cert", "certificate of this node, a PEM file; without one only loopback addresses serve as peer addresses", String(&c.PeerCert)},
		{"peer_key", "key of peer_cert, a PEM file", String(&c.PeerKey)},
		{"peer_ca", "CA that the other nodes' certificates come from, a PEM file", String(&c.PeerCA)},
		{"metrics", "HTTP address of /metrics and /healthz; empty for none", String(&c.Metrics)},
		{"key", "file with the archive's key, made by logcore key generate", String(&c.Key)},
		{"targets", "buckets of the archive as URLs; none archives nothing", Strings(&c.Targets)},
		{"page_server_lease", "how long a page server that shares pages with others may be silent before they take over from it", Duration(&c.PageServerLease)},
		{"archive_max_age", "how long an acknowledged entry may wait for the archive", Duration(&c.ArchiveMaxAge)},
		{"archive_memory_bytes", "memory for making archive objects", &c.ArchiveMemoryBytes},
		{"archive_compression", "of sealed archive objects: better, or fastest to spare the processor", String(&c.ArchiveCompression)},
		{"segment_bytes", "size at which a segment is sealed", &c.SegmentBytes},
		{"entry_bytes_max", "largest payload of one entry", &c.EntryBytesMax},
		{"hot_bytes_keep", "archived segments that stay on the local disk for readers, while it has room", &c.HotBytesKeep},
		{"cache_bytes", "memory for recent entries", &c.CacheBytes},
		{"queue_bytes_max", "bound on the entries that wait for the disk", &c.QueueBytesMax},
		{"disk_reserve_bytes", "space that stays free on the device", &c.DiskReserveBytes},
	}, append(c.TLS.fields(), c.Logging.fields()...)...)
}

// shardsMax is the most shards of a cluster.
const shardsMax = 1024

// targetsMin is how many targets an archive has at least: an object has 4+2 fragments,
// each on a target of its own.
const targetsMin = 6

// Validate reports every bad value.
func (c *LogService) Validate() []Problem {
	var v checks
	v.required("dir", c.Dir, "say where the hot log lives, on a local disk")
	if c.Shards < 0 || c.Shards > shardsMax {
		v.add("shards", "%d: want 0 to %d", c.Shards, shardsMax)
	}
	v.required("listen", c.Listen, "give HOST:PORT")
	v.hostPort("listen", c.Listen)
	v.tls(c.TLS, c.Listen)
	v.hostPort("metrics", c.Metrics)
	v.hostPort("address", c.Address)
	v.hostPort("peer_listen", c.PeerListen)
	v.hostPort("peer_address", c.PeerAddress)
	for _, peer := range c.Peers {
		v.hostPort("peers", peer)
	}
	if c.PeerListen == "" && (len(c.Peers) > 0 || c.PeerAddress != "" || c.PeerCert != "") {
		v.add("peer_listen", "is required beside peers, peer_address and peer_cert: give HOST:PORT for the other nodes")
	}
	if (c.PeerCert == "") != (c.PeerKey == "") || (c.PeerCert == "") != (c.PeerCA == "") {
		v.add("peer_cert", "peer_cert, peer_key and peer_ca belong together: give all three or none")
	}
	if len(c.Targets) > 0 {
		v.required("key", c.Key, "the archive is encrypted; make a key with `logcore key generate FILE`")
		if len(c.Targets) < targetsMin {
			v.add("targets", "%d targets: want %d at least, one for each fragment; name the lost ones too", len(c.Targets), targetsMin)
		}
	}
	v.durationBetween("page_server_lease", c.PageServerLease, 500*time.Millisecond, time.Hour)
	v.durationBetween("archive_max_age", c.ArchiveMaxAge, 50*time.Millisecond, time.Hour)
	v.sizeBetween("archive_memory_bytes", c.ArchiveMemoryBytes, 16<<20, 1<<40)
	if c.ArchiveCompression != "better" && c.ArchiveCompression != "fastest" {
		v.add("archive_compression", "%q: want better or fastest", c.ArchiveCompression)
	}
	v.sizeBetween("segment_bytes", c.SegmentBytes, 1<<20, 1<<30)
	v.sizeBetween("entry_bytes_max", c.EntryBytesMax, 4<<10, 63<<20)
	v.sizeBetween("hot_bytes_keep", c.HotBytesKeep, 1, 1<<50)
	v.sizeBetween("cache_bytes", c.CacheBytes, 1<<20, 1<<40)
	v.sizeBetween("queue_bytes_max", c.QueueBytesMax, 1<<20, 1<<40)
	v.sizeBetween("disk_reserve_bytes", c.DiskReserveBytes, 0, 1<<50)
	if c.QueueBytesMax < c.EntryBytesMax {
		v.add("queue_bytes_max", "%v is below entry_bytes_max, %v: the largest entry would never fit", c.QueueBytesMax, c.EntryBytesMax)
	}
	v.logging(c.Logging)
	return v.problems
}
