package appendload

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/logcore/logcore/client"
)

// Options describes a load.
type Options struct {
	// Client says whom to dial. Its InflightEntriesMax and logger are set here.
	Client client.Options
	// Logs is the number of logs; 0 means 1. They are named Prefix-0, Prefix-1, …, and are
	// created when they don't exist. Prefix "" means "load".
	Logs   int
	Prefix string
	// PayloadBytes of each entry, PayloadBytesMin at least; 0 means 128.
	PayloadBytes int
	// Inflight is how many appends are under way at most, over all logs; 0 means 64. One log
	// takes at most client.InflightEntriesLimit.
	Inflight int
	// Rate is the number of appends due each second, over all logs: the open loop. 0 means
	// the closed loop.
	Rate float64
	// WarmUp precedes the measured Duration; 0 means none. Duration 0 means 10 s.
	WarmUp, Duration time.Duration
	// Verify reads every log back at the end.
	Verify bool
	// Patience bounds how long the load goes on trying when nothing is acknowledged, and
	// how long it waits for stragglers at the end; 0 means 30 s.
	Patience time.Duration
	// Progress is told in words what happens; nil means nobody.
	Progress io.Writer
}

func (o Options) withDefaults() Options {
	if o.Logs == 0 {
		o.Logs = 1
	}
	if o.Prefix == "" {
		o.Prefix = "load"
	}
	if o.PayloadBytes == 0 {
		o.PayloadBytes = 128
	}
	if o.Inflight == 0 {
		o.Inflight = 64
	}
	if o.Duration == 0 {
		o.Duration = 10 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	o.Client.InflightEntriesMax = min(max(o.Inflight, 1), client.InflightEntriesLimit)
	return o
}

// LogsMax bounds the logs of one load.
const LogsMax = 100_000

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("load: "+format, args...)) }
	if o.Logs < 1 || o.Logs > LogsMax {
		bad("%d logs: want 1 to %d", o.Logs, LogsMax)
	}
	if o.PayloadBytes < PayloadBytesMin {
		bad("payload of %d bytes: want at least %d, to tell the entries apart", o.PayloadBytes, PayloadBytesMin)
	}
	if o.Inflight < 1 || o.Inflight > o.Logs*client.InflightEntriesLimit {
		bad("%d in flight over %d logs: want 1 to %d", o.Inflight, o.Logs, o.Logs*client.InflightEntriesLimit)
	}
	if o.Rate < 0 || o.Duration < 0 || o.WarmUp < 0 || o.Patience < 0 {
		bad("rate %v, duration %v, warm-up %v and patience %v must not be negative", o.Rate, o.Duration, o.WarmUp, o.Patience)
	}
	return errors.Join(errs...)
}
