package stripe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/pageserver"
	"github.com/logcore/logcore/pageserver/checkpoint"
)

// Report is what a page server says about itself.
type Report struct {
	ID      uint64
	Address string
	Ready   stripemap.Set // what it has in full
	Empty   bool          // it has no pages at all
}

// Answer is what the log service says to it.
type Answer struct {
	ID    uint64 // to use from now on
	Map   stripemap.Map
	Lease time.Duration // how long the page server may be silent
}

// Coordinator keeps the map: the log service.
type Coordinator interface {
	Report(ctx context.Context, r Report) (Answer, error)
}

// Options configure a Host.
type Options struct {
	// Dir holds the stores; it is created when missing. Required.
	Dir string
	// Address is where clients reach this page server, HOST:PORT. Required.
	Address string
	// Coordinator keeps the map. Required.
	Coordinator Coordinator
	// Checkpoints is where copies of the stores go, and where a set of stripes that is taken
	// over begins from, whoever made the copy; nil keeps none.
	Checkpoints *checkpoint.Family
	// Server is what each store is opened with; Dir, Stripes, Standing, Decodings and Checkpoints are set for it.
	// Each gets the caches' bytes by its share of the stripes held when it is opened.
	Server pageserver.Options
	// ReportInterval is how often the log service is told, at least five times in a lease; 0
	// means 1 s.
	ReportInterval time.Duration
	// LeaveAfter is how long stripes are served that the map has given to others; 0 means
	// three leases.
	LeaveAfter time.Duration
	// Logger gets what an operator should see; nil means Server.Logger, or slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.ReportInterval == 0 {
		o.ReportInterval = time.Second
	}
	if o.Logger == nil {
		o.Logger = o.Server.Logger
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Server.Logger = o.Logger
	return o
}

func (o Options) validate() error {
	var bad []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			bad = append(bad, fmt.Errorf("%w: stripe: %s", logcore.ErrInvalid, fmt.Sprintf(format, args...)))
		}
	}
	check(o.Dir != "", "Dir is required")
	_, _, err := net.SplitHostPort(o.Address)
	check(err == nil && len(o.Address) <= stripemap.AddressMax, "Address %q: want HOST:PORT, at most %d bytes", o.Address, stripemap.AddressMax)
	check(o.Coordinator != nil, "Coordinator is required")
	check(o.Server.Source != nil, "Server.Source is required")
	check(o.Server.Checkpoints == nil, "Server.Checkpoints must not be set: each store has its own, of Checkpoints")
	check(o.ReportInterval > 0, "ReportInterval %v: want a positive duration", o.ReportInterval)
	check(o.LeaveAfter >= 0, "LeaveAfter %v: must not be negative", o.LeaveAfter)
	return errors.Join(bad...)
}
