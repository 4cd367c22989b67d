package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
)

// Options says whom to dial and how patient to be.
type Options struct {
	// Addr is the service's host:port; of a service with several members any number of
	// them, separated by commas. The client finds who leads. Required, unless there are Addrs.
	Addr string
	// Addrs are more of them.
	Addrs []string
	// PageAddr is the host:port of the page server, when it is a process of its own; of several
	// that share the pages any number of them, separated by commas: they tell of the others;
	// empty means the first of the addresses. It is connected to by the first call that needs pages.
	PageAddr string
	// TLS secures the connections; nil means what TLSFiles say.
	TLS *tls.Config
	// TLSFiles secure the connections with certificates from files, which are read again when they change. Without a CA, and
	// without TLS, connections are plain text, to loopback addresses only.
	TLSFiles TLSFiles
	// DialTimeout bounds Dial; 0 means 5 s.
	DialTimeout time.Duration
	// Unconnected has Dial return at once: connections are made by the calls that need them.
	Unconnected bool
	// Timeout bounds every unary call whose context has no earlier deadline, and how
	// long a writer waits for an acknowledgement before it reconnects; 0 means 10 s. Of several members
	// none gets more than a 25th of it at first before the next is asked, where asking twice is harmless.
	Timeout time.Duration
	// ProbeAfter is how long a writer hears nothing before the client asks the other members
	// whether another one leads by now; 0 means 500 ms.
	ProbeAfter time.Duration
	// RetryFor is the budget of time for trying again what is safe to try again,
	// counted from the last progress; 0 means 10 s.
	RetryFor time.Duration
	// InflightEntriesMax bounds the entries a writer has sent or queued and not seen
	// acknowledged; 0 means 128, the most is InflightEntriesLimit.
	InflightEntriesMax int
	// InflightBytesMax bounds their bytes (one entry is always let through); 0 means 32 MiB.
	InflightBytesMax int
	// Logger; nil means slog.Default().
	Logger *slog.Logger
}

// TLSFiles are PEM files.
type TLSFiles struct {
	// CA is what the services' certificates must come from; "system" stands for the CAs that the operating system trusts.
	CA string
	// Cert and Key are for services that demand a certificate; both or none.
	Cert, Key string
}

// InflightEntriesLimit is the largest InflightEntriesMax: the service remembers the
// last 256 acknowledgements of a writer, and a writer never has to ask for an older one.
const InflightEntriesLimit = 256

func (o Options) withDefaults() Options {
	var addrs []string
	for _, addr := range append(strings.Split(o.Addr, ","), o.Addrs...) {
		if addr = strings.TrimSpace(addr); addr != "" && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	o.Addrs = addrs
	if o.PageAddr == "" && len(addrs) > 0 {
		o.PageAddr = addrs[0]
	}
	if o.ProbeAfter == 0 {
		o.ProbeAfter = 500 * time.Millisecond
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.RetryFor == 0 {
		o.RetryFor = 10 * time.Second
	}
	if o.InflightEntriesMax == 0 {
		o.InflightEntriesMax = 128
	}
	if o.InflightBytesMax == 0 {
		o.InflightBytesMax = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: client.Options: "+format, append([]any{logcore.ErrInvalid}, args...)...))
	}
	if len(o.Addrs) == 0 || len(o.Addrs) > membersMax {
		bad("%d addresses: want 1 to %d of host:port", len(o.Addrs), membersMax)
	}
	if len(o.Addrs) > 0 && len(splitAddrs(o.PageAddr)) == 0 {
		bad("PageAddr %q: want host:port, or several with commas", o.PageAddr)
	}
	if o.DialTimeout < 0 || o.Timeout < 0 || o.RetryFor < 0 || o.ProbeAfter < 0 {
		bad("negative DialTimeout, Timeout, RetryFor or ProbeAfter")
	}
	if o.InflightEntriesMax < 1 || o.InflightEntriesMax > InflightEntriesLimit {
		bad("InflightEntriesMax %d: want 1 to %d", o.InflightEntriesMax, InflightEntriesLimit)
	}
	if o.InflightBytesMax < 1 {
		bad("InflightBytesMax %d: want at least 1", o.InflightBytesMax)
	}
	return errors.Join(errs...)
}

// establish is how long an append stream may take to be set up.
func (o Options) establish() time.Duration { return max(o.Timeout/10, 10*time.Millisecond) }

// patience is how long one of several members may take to answer at first, where asking another one is harmless.
func (o Options) patience() time.Duration { return max(o.Timeout/25, 10*time.Millisecond) }
