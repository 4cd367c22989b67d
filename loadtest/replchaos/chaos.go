package replchaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/loadtest/appendload"
)

// Options of a run.
type Options struct {
	Dir      string // a directory is made in it, and removed at the end unless something was wrong
	Bin      string // where logsvc is
	Duration time.Duration
	Seed     uint64   // of the faults; 0: any
	Only     []string // faults to inject; empty: all
	Keep     bool     // the directory, whatever was found
	Log      io.Writer
}

// Report is what a run did and found; as JSON it is one line.
type Report struct {
	Kind      string             `json:"kind"` // "chaos-replication"
	Seed      uint64             `json:"seed,string"`
	Seconds   float64            `json:"seconds"`
	Faults    map[string]int     `json:"faults"`
	Load      *appendload.Report `json:"load"`
	Ops       int                `json:"history_ops"`
	BlockedMs float64            `json:"blocked_max_ms"` // after the last disturbance
	// Blocked is the same for each disturbance after which an operation took longer than blockedTold.
	Blocked map[string]float64 `json:"blocked_ms"`
	Wrong   []string           `json:"wrong,omitempty"`
}

const (
	historyLogs  = 3
	lookers      = 2
	blockedMax   = 3 * time.Second
	blockedTold  = time.Second
	loadRate     = 1500 // appends each second
	loadLogs     = 4
	loadInflight = 256
)

// world is a run.
type world struct {
	opts   Options
	faults []fault
	dir    string
	nodes  []*node
	begun  time.Time
	count  map[string]int // faults; hurt's

	mu           sync.Mutex
	disturbances []disturbance // guarded by mu
}

// disturbance is the moment at which something changed for a node.
type disturbance struct {
	what string // "begin of kill of node 1"
	at   time.Time
}

func (w *world) note(format string, args ...any) {
	fmt.Fprintf(w.opts.Log, "chaos-replication: %6.1f s: %s\n", time.Since(w.begun).Seconds(), fmt.Sprintf(format, args...))
}

// disturbed notes that something changed for a node.
func (w *world) disturbed(what string, f fault, n *node) {
	w.mu.Lock()
	w.disturbances = append(w.disturbances, disturbance{fmt.Sprintf("%s of %s of node %d", what, f.name, n.i), time.Now()})
	w.mu.Unlock()
}

// Run forms a cluster and hurts it. An error means that the run could not be carried out;
// what it found wrong is in the report.
func Run(ctx context.Context, o Options) (rep Report, err error) {
	if os.Geteuid() != 0 {
		return rep, errors.New("chaos-replication: needs root, for network namespaces and loop devices")
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	chosen, err := choose(o.Only)
	if err != nil {
		return rep, err
	}
	dir, err := os.MkdirTemp(o.Dir, "chaos-replication-")
	if err != nil {
		return rep, err
	}
	w := &world{opts: o, faults: chosen, dir: dir, begun: time.Now(), count: map[string]int{}}
	rep = Report{Kind: "chaos-replication", Seed: o.Seed, Faults: w.count, Blocked: map[string]float64{}}
	defer func() {
		keep := o.Keep || err != nil || len(rep.Wrong) > 0
		err = errors.Join(err, w.close(keep))
	}()
	if err := w.build(ctx); err != nil {
		return rep, err
	}
	fmt.Fprintf(o.Log, "chaos-replication: seed %d, %v, in %s\n", o.Seed, o.Duration, dir)
	return rep, w.play(ctx, &rep)
}

func (w *world) build(ctx context.Context) error {
	for i := range nodes {
		d, err := newDisk(w.dir, i)
		if d != nil {
			w.nodes = append(w.nodes, &node{i: i, disk: d})
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(makeNet(), makeCerts(w.dir)); err != nil {
		return err
	}
	return w.form(ctx)
}

func (w *world) close(keep bool) error {
	var errs []error
	for _, n := range w.nodes {
		if n.proc != nil {
			n.proc.Kill()
		}
		errs = append(errs, n.disk.remove())
	}
	removeNet()
	if keep {
		fmt.Fprintf(w.opts.Log, "chaos-replication: what the nodes said and hold stays in %s\n", w.dir)
		return errors.Join(errs...)
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

func (w *world) addrs() string {
	var list []string
	for _, n := range w.nodes {
		list = append(list, n.addr())
	}
	return strings.Join(list, ",")
}

// play runs load, history and faults together, then checks.
func (w *world) play(ctx context.Context, rep *Report) error {
	patient := w.clientOptions(w.addrs())
	patient.RetryFor, patient.Logger = 30*time.Second, slog.New(slog.DiscardHandler)
	c, err := client.Dial(ctx, patient)
	if err != nil {
		return err
	}
	defer c.Close()
	w.begun = time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	playing, cancel := context.WithTimeout(ctx, w.opts.Duration)
	defer cancel()
	var running sync.WaitGroup
	var loaded appendload.Report
	var loadErr, hurtErr error
	running.Go(func() {
		loaded, loadErr = appendload.Run(ctx, appendload.Options{Client: patient, Logs: loadLogs, Prefix: "load", Inflight: loadInflight,
			Rate: loadRate, Duration: w.opts.Duration, Verify: true, Patience: time.Minute, Progress: w.opts.Log})
	})
	var histories []*history
	for i := range historyLogs {
		h := &history{log: fmt.Sprint("history-", i), begun: w.begun}
		histories = append(histories, h)
		running.Go(func() { h.write(playing, c) })
		for k := range lookers {
			running.Go(func() { h.look(playing, c, 1+k) })
		}
	}
	running.Go(func() {
		if hurtErr = w.hurt(playing, rand.New(rand.NewPCG(w.opts.Seed, 0))); hurtErr != nil {
			stop() // the load too
		}
	})
	running.Wait()
	rep.Seconds, rep.Load = time.Since(w.begun).Seconds(), &loaded
	if err := errors.Join(hurtErr, loadErr); err != nil {
		return err
	}
	w.judge(ctx, c, histories, rep)
	return nil
}

// judge fills in what was wrong.
func (w *world) judge(ctx context.Context, c *client.Client, histories []*history, rep *Report) {
	wrong := func(format string, args ...any) {
		rep.Wrong = append(rep.Wrong, fmt.Sprintf(format, args...))
	}
	if v := rep.Load.Verify; v == nil || !v.OK() {
		wrong("the load's logs are not what was acknowledged: %+v", v)
	}
	for _, h := range histories {
		n, err := h.check(ctx, c)
		rep.Ops += n
		if err != nil {
			wrong("%v", err)
		}
		for _, b := range h.blocked(w.disturbances) {
			ms := float64(b.lasted.Milliseconds())
			rep.BlockedMs = max(rep.BlockedMs, ms)
			rep.Blocked[b.after] = max(rep.Blocked[b.after], ms)
			if b.lasted > blockedMax {
				wrong("log %s: an operation (append: %v) was blocked for %v, until %.1f s, after the %s", h.log, b.op.append, b.lasted.Round(time.Millisecond), b.op.back.Sub(w.begun).Seconds(), b.after)
			}
		}
	}
	total := 0
	for _, n := range w.count {
		total += n
	}
	if want := int(w.opts.Duration / (faultMin + faultSpread + calmFor + 5*time.Second)); total < want || rep.Ops < 100 {
		wrong("void: %d faults and %d operations, at least %d and 100 were due", total, rep.Ops, want)
	}
}
