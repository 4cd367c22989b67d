//go:build postgres

package conformance

import (
	"context"
	"slices"
	"strconv"
	"time"

	"testing"

	"github.com/logcore/logcore/client"
)

const (
	sustainedFor  = 2 * time.Minute
	sustainedSide = 15 * time.Second // of the server alone, before and after
	lagEvery      = time.Second
)

// benchSustained: TPC-B with 8 clients for so long that what LogCore puts off has to be done meanwhile, and how far the page server is behind in
// it: the time until what the log has acknowledged can be read there.
func benchSustained(b *testing.B, f *figures) {
	p := newPair(b, func(s *server) { prepareTPCB(b, s) })
	log, err := client.Dial(b.Context(), client.Options{Addr: p.service.addr})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	for which := range sides {
		p.pgbench(b, which, "-c", "8", "-T", "3")
	}
	p.awaitQuiet(b)
	seconds := func(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
	before, _ := p.pgbench(b, 0, "-c", "8", "-j", "2", "-T", seconds(sustainedSide))
	used := p.cpu(b, 1)
	lags := make(chan []float64, 1)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	go func() { lags <- lagsOf(ctx, b, log, "bench") }()
	tps, _ := p.pgbench(b, 1, "-c", "8", "-j", "2", "-T", seconds(sustainedFor))
	stop()
	behind := <-lags
	after, _ := p.pgbench(b, 0, "-c", "8", "-j", "2", "-T", seconds(sustainedSide))
	more := map[string]any{"seconds": sustainedFor.Seconds(), "clients": 8}
	local := (before + after) / 2
	f.add("sustained.local", local, "transactions/s", more)
	f.add("sustained.tps", tps, "transactions/s", more)
	f.add("sustained.tps_ratio", tps/local, "LogCore/local", more)
	for process, cpu := range spent(nil, used, p.cpu(b, 1)) {
		f.add("sustained.cpu", cpu/(tps*sustainedFor.Seconds())*1e6, "µs of CPU a transaction", map[string]any{"process": process})
	}
	if len(behind) < int(sustainedFor/lagEvery)/10 {
		b.Fatalf("the page server was asked %d times", len(behind))
	}
	f.add("sustained.lag", median(behind), "ms until what was acknowledged can be read at the page server", map[string]any{"asked": len(behind)})
	f.add("sustained.lag_last_quarter", median(behind[len(behind)*3/4:]), "ms", more)
	f.add("sustained.lag_max", slices.Max(behind), "ms", more)
}

// lagsOf asks again and again, until ctx ends, how long it takes until the page server has what a log has, in milliseconds.
func lagsOf(ctx context.Context, b *testing.B, c *client.Client, log string) (lags []float64) {
	for tick := time.NewTicker(lagEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return lags
		case <-tick.C:
		}
		info, err := c.Info(ctx, log)
		began := time.Now()
		if err == nil {
			_, err = c.WaitLSN(ctx, log, info.LastLSN, 30*time.Second)
		}
		switch {
		case ctx.Err() != nil:
			return lags
		case err != nil:
			b.Errorf("how far the page server is behind: %v", err)
			return lags
		}
		lags = append(lags, float64(time.Since(began).Microseconds())/1000)
	}
}
