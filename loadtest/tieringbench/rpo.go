package tieringbench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
	"github.com/logcore/logcore/tiering"
)

// batch is entries that were acknowledged together.
type batch struct {
	lsn logcore.LSN // the last of them
	at  time.Time
	n   int
}

// ages waits for the archive to cover what was acknowledged.
type ages struct {
	mu      sync.Mutex
	waiting []batch     // guarded by mu; in the order of LSNs
	acked   int         // guarded by mu
	ages    []weighted  // guarded by mu: how old entries were when they were covered
	covered logcore.LSN // guarded by mu
}

type weighted struct {
	age time.Duration
	n   int
}

func (a *ages) acknowledged(b batch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acked += b.n
	a.waiting = append(a.waiting, b)
}

func (a *ages) reached(lsn logcore.LSN, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.covered = max(a.covered, lsn)
	n := 0
	for ; n < len(a.waiting) && a.waiting[n].lsn <= a.covered; n++ {
		a.ages = append(a.ages, weighted{now.Sub(a.waiting[n].at), a.waiting[n].n})
	}
	a.waiting = a.waiting[n:]
}

func (a *ages) left() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.waiting) }

// percentile returns the age that so large a share of the entries did not exceed.
func (a *ages) percentile(share float64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.ages, func(x, y weighted) int { return int(x.age - y.age) })
	total := 0
	for _, w := range a.ages {
		total += w.n
	}
	need := int(share * float64(total))
	for _, w := range a.ages {
		if need -= w.n; need <= 0 {
			return w.age
		}
	}
	return 0
}

// rpo runs a log service whose targets are three gateways, one of them slow, appends at a
// steady rate, and takes for each entry how long after its acknowledgement the archive
// covered it.
func (r *run) rpo(ctx context.Context) error {
	servers, err := r.startGateways(ctx, "rpo", true)
	if err != nil {
		return err
	}
	defer servers.Close()
	urls := targetURLs(servers)
	key := filepath.Join(r.Dir, "rpo-key")
	if _, err := tiering.GenerateKeyFile(key); err != nil {
		return err
	}
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.Key, cfg.Targets, cfg.Listen, cfg.Metrics = filepath.Join(r.Dir, "rpo-log"), key, urls, "127.0.0.1:0", ""
	service, err := roles.StartLogService(ctx, cfg, "bench", r.o.Logger)
	if err != nil {
		return err
	}
	defer service.Stop()
	c, err := client.Dial(ctx, client.Options{Addr: service.Addr(), Logger: r.o.Logger})
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := c.OpenWriter(ctx, "bench", client.WriterOptions{Create: true})
	if err != nil {
		return err
	}
	servers.Cloud("b").Link().SetDelay(r.o.Slow)

	var a ages
	follow, stop := context.WithCancel(ctx)
	followed := make(chan error, 1)
	go func() { followed <- followCoverage(follow, c, &a) }()
	elapsed, err := r.load(ctx, w, &a)
	if err == nil {
		for deadline := time.Now().Add(time.Minute); a.left() > 0 && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop()
	if err = errors.Join(err, <-followed); err != nil {
		return err
	}
	if n := a.left(); n > 0 {
		return fmt.Errorf("%d batches were not covered a minute after the load", n)
	}
	rate := float64(a.acked) / elapsed.Seconds()
	detail := map[string]any{"appends": a.acked, "appends/s": rate, "seconds": elapsed.Seconds(), "p50 s": a.percentile(0.5).Seconds(), "p90 s": a.percentile(0.9).Seconds(),
		"p999 s": a.percentile(0.999).Seconds(), "max s": a.percentile(1).Seconds(), "slow gateway ms": r.o.Slow.Milliseconds()}
	if rate < 0.95*float64(r.o.Rate) {
		return fmt.Errorf("the load was %.0f appends/s, not the %d asked for: this run says nothing", rate, r.o.Rate)
	}
	r.AtMost("archive RPO p99, one gateway slow", a.percentile(0.99).Seconds(), 2, "s", detail)
	return nil
}

// followCoverage tells the ages how far the archive came, until ctx ends.
func followCoverage(ctx context.Context, c *client.Client, a *ages) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		info, err := c.Info(ctx, "bench")
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		a.reached(info.Archived, time.Now())
	}
}

// loadTick is how often entries are appended: as many as the rate asks for.
const loadTick = 5 * time.Millisecond

// load appends at the steady rate. It waits for acknowledgements in order, beside.
func (r *run) load(ctx context.Context, w *client.Writer, a *ages) (time.Duration, error) {
	payload := noise(6, 1<<20)
	type sent struct {
		last *client.Future
		n    int
	}
	acks := make(chan sent, 1<<14)
	done := make(chan error, 1)
	go func() {
		var failed error
		for s := range acks {
			got, err := s.last.Wait(ctx)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			a.acknowledged(batch{got.LSN, time.Now(), s.n})
		}
		done <- failed
	}()
	start := time.Now()
	appended := 0
	tick := time.NewTicker(loadTick)
	defer tick.Stop()
	for ctx.Err() == nil && time.Since(start) < r.o.RPO {
		<-tick.C
		due := int(time.Since(start).Seconds() * float64(r.o.Rate))
		n := due - appended
		if n <= 0 {
			continue
		}
		var last *client.Future
		for range n {
			at := appended * 97 % (len(payload) - 200)
			last = w.Submit(ctx, logcore.TxID{}, [][]byte{payload[at : at+200]}, nil)
			appended++
		}
		acks <- sent{last, n}
	}
	close(acks)
	err := <-done
	return time.Since(start), errors.Join(err, ctx.Err())
}
