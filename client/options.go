package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/logcore/logcore"
)

// Options says whom to dial and how patient to be.
type Options struct {
	// Addr is the service's host:port. Required.
	Addr string
	// PageAddr is the host:port of the page server, when it is a process of its own;
	// empty means Addr. It is connected to by the first call that needs pages.
	PageAddr string
	// TLS secures the connections; nil means plain text.
	TLS *tls.Config
	// DialTimeout bounds Dial; 0 means 5 s.
	DialTimeout time.Duration
	// Timeout bounds every unary call whose context has no earlier deadline, and how
	// long a writer waits for an acknowledgement before it reconnects; 0 means 10 s.
	Timeout time.Duration
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

// InflightEntriesLimit is the largest InflightEntriesMax: the service remembers the
// last 256 acknowledgements of a writer, and a writer never has to ask for an older one.
const InflightEntriesLimit = 256

func (o Options) withDefaults() Options {
	if o.PageAddr == "" {
		o.PageAddr = o.Addr
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
	if o.Addr == "" {
		bad("Addr is empty: want host:port")
	}
	if o.DialTimeout < 0 || o.Timeout < 0 || o.RetryFor < 0 {
		bad("negative DialTimeout, Timeout or RetryFor")
	}
	if o.InflightEntriesMax < 1 || o.InflightEntriesMax > InflightEntriesLimit {
		bad("InflightEntriesMax %d: want 1 to %d", o.InflightEntriesMax, InflightEntriesLimit)
	}
	if o.InflightBytesMax < 1 {
		bad("InflightBytesMax %d: want at least 1", o.InflightBytesMax)
	}
	return errors.Join(errs...)
}
