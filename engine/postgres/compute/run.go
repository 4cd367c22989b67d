package compute

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine/postgres/payload"
	"github.com/logcore/logcore/engine/postgres/receiver"
)

// RunOptions say what compute node is run.
type RunOptions struct {
	Log      string
	Takeover bool // fence a node that still writes the log
	Name     string
	LogOnly  bool // make data directories without the page server
	Server   ServerOptions
	// Own, when it is set, gives a data directory to the user that the server runs as.
	Own      func(dir string) error
	Building func()            // called each time before a data directory is made; nil: nobody is told
	Ready    func(Started)     // called each time the server takes connections
	Monitor  *receiver.Monitor // is told how it goes; nil: nobody is
	Logger   *slog.Logger
}

// Started says what a server was started on and how long that took.
type Started struct {
	Result Result
	Build  time.Duration // to make the data directory
	Start  time.Duration // from then until the server took connections
}

// How often and how fast a server that dies is made again.
const (
	restartsMax  = 5 // in a row without taking connections
	restartAfter = time.Second
	stopWithin   = 30 * time.Second
	startWithin  = 2 * time.Minute
	askEvery     = 20 * time.Millisecond
)

// Run makes the data directory from the end of the log, runs the server on it with the log as
// its synchronous standby, and does it again whenever the server or its connection dies, until ctx ends.
// The local directory is never recovered from: it is thrown away.
func Run(ctx context.Context, c *client.Client, o RunOptions) error {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Server = o.Server.withDefaults()
	for restarts := 0; ; restarts++ {
		served := false
		once := o
		once.Ready = func(s Started) {
			served = true
			if o.Ready != nil {
				o.Ready(s)
			}
		}
		err := runOnce(ctx, c, once)
		if ctx.Err() != nil {
			return nil
		}
		if o.Monitor != nil {
			o.Monitor.Ended(err)
		}
		if !errors.Is(err, errNodeDied) {
			return err
		}
		if served {
			restarts = 0
		}
		if restarts >= restartsMax {
			return fmt.Errorf("compute: the server died %d times in a row before it took connections: %w", restarts+1, err)
		}
		o.Logger.Warn("compute: the node is gone; another is made from the log", "err", err)
		if !served {
			select {
			case <-time.After(restartAfter):
			case <-ctx.Done():
				return nil
			}
		}
		o.Takeover = true // from our own last writer
	}
}

// RunDetached makes the data directory as of an earlier moment of the log and runs the server on it until ctx ends or
// the server does. It begins a timeline of its own, and nothing that it writes is kept.
func RunDetached(ctx context.Context, c *client.Client, o RunOptions, t Target) error {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Server = o.Server.withDefaults()
	o.Server.detached = true
	t.Fork = true
	began := time.Now()
	r, err := materialise(ctx, c, o, t)
	if err != nil {
		return err
	}
	started := Started{Result: r, Build: time.Since(began)}
	built := time.Now()
	s, err := Start(o.Server)
	if err != nil {
		return err
	}
	defer s.Kill()
	if err := s.awaitConnections(ctx); err != nil {
		return err
	}
	started.Start = time.Since(built)
	if o.Ready != nil {
		o.Ready(started)
	}
	select {
	case <-s.Exited():
		return fmt.Errorf("%w: PostgreSQL ended: %w", errNodeDied, s.Err())
	case <-ctx.Done():
		return nil
	}
}

var errNodeDied = errors.New("compute: the node died")

// runOnce is the life of one node.
func runOnce(ctx context.Context, c *client.Client, o RunOptions) (err error) {
	w, err := c.OpenWriter(ctx, o.Log, client.WriterOptions{Name: o.Name, Takeover: o.Takeover, PayloadFormat: payload.Format, EndOnFailure: true})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		err = errors.Join(err, w.Close(ctx))
	}()
	fork, err := unwritten(ctx, c, w)
	if err != nil {
		return err
	}
	began := time.Now()
	r, err := prepare(ctx, c, w, o, fork)
	if err != nil {
		return err
	}
	built := time.Now()
	s, err := Start(o.Server)
	if err != nil {
		return err
	}
	defer s.Kill()
	return follow(ctx, c, w, s, o, Started{Result: r, Build: built.Sub(began)}, built)
}

// unwritten reports whether the log is a branch that has no WAL of its own yet: it gets a timeline of
// its own, so that its WAL can't be taken for its parent's.
func unwritten(ctx context.Context, c *client.Client, w *client.Writer) (bool, error) {
	info, err := c.Info(ctx, w.Log())
	if err != nil || info.Parent == "" {
		return false, err
	}
	_, found, err := receiver.LastPayload(ctx, c, w.Log(), info.BranchLSN, w.LastLSN())
	return !found, err
}

// prepare makes the data directory, and the checkpoint that it ends with an entry of the log. The writer's epoch keeps
// everybody else from appending between the two.
func prepare(ctx context.Context, c *client.Client, w *client.Writer, o RunOptions, fork bool) (Result, error) {
	r, err := materialise(ctx, c, o, Target{LSN: w.LastLSN(), Fork: fork})
	if err != nil {
		return r, err
	}
	p := payload.Payload{SystemID: r.SystemID, Timeline: r.Timeline, SegmentBytes: r.Segment, Start: r.End}
	var parts [][]byte
	if fork {
		p.Kind, p.Content = payload.KindHistory, r.History
		parts = append(parts, p.Append(nil))
	}
	p.Kind, p.Content = payload.KindWAL, r.Checkpoint
	parts = append(parts, p.Append(nil))
	_, err = w.AppendTx(ctx, logcore.TxID{}, parts, payload.AppendPosition(nil, r.Timeline, r.Resume()))
	return r, err
}

// materialise makes the server's data directory anew.
func materialise(ctx context.Context, c *client.Client, o RunOptions, t Target) (Result, error) {
	if o.Building != nil {
		o.Building()
	}
	if err := os.RemoveAll(o.Server.Dir); err != nil {
		return Result{}, fmt.Errorf("compute: %w", err)
	}
	info, err := c.Info(ctx, o.Log)
	if err != nil {
		return Result{}, err
	}
	var pages Store
	if !o.LogOnly {
		pages = PagesOf(c, info)
	}
	r, err := Materialise(ctx, o.Server.Dir, pages, EntriesOf(c, o.Log), max(info.LastLSN, info.BranchLSN), t, o.Logger)
	if err != nil || o.Own == nil {
		return r, err
	}
	if err := o.Own(o.Server.Dir); err != nil {
		return r, fmt.Errorf("compute: %w", err)
	}
	return r, nil
}

// follow copies what the server writes into the log until one of them ends.
func follow(ctx context.Context, c *client.Client, w *client.Writer, s *Server, o RunOptions, started Started, built time.Time) error {
	rctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- followServer(rctx, c, w, s, o, started, built) }()
	var err error
	select {
	case <-s.Exited():
		cancel()
		<-ended
		return fmt.Errorf("%w: PostgreSQL ended: %w", errNodeDied, s.Err())
	case err = <-ended:
	}
	stopping, done := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer done()
	if ctx.Err() != nil {
		s.Kill() // what it committed is in the log; there is nothing to save here
		return nil
	}
	s.Stop(stopping)
	if errors.Is(err, receiver.ErrConnection) || errors.Is(err, logcore.ErrDiskFull) || errors.Is(err, logcore.ErrOverloaded) {
		return fmt.Errorf("%w: %w", errNodeDied, err)
	}
	return err
}

// followServer connects as soon as the server lets it, tells that it is ready, and copies.
func followServer(ctx context.Context, c *client.Client, w *client.Writer, s *Server, o RunOptions, started Started, built time.Time) error {
	r, err := receiver.New(receiver.Options{ConnString: s.ConnString(), StandbyName: s.o.StandbyName, Paced: true, Monitor: o.Monitor, Logger: o.Logger, Connected: func() {
		started.Start = time.Since(built)
		o.Ready(started)
	}}, receiver.OverClient(c, w))
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(startWithin); ; {
		err := r.Run(ctx)
		if !errors.Is(err, receiver.ErrConnection) || r.Connected() || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(askEvery): // it is starting
		case <-ctx.Done():
			return nil
		}
	}
}
