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
	Server   ServerOptions
	// Own, when it is set, gives a data directory to the user that the server runs as.
	Own    func(dir string) error
	Ready  func(Started) // called each time the server takes connections
	Logger *slog.Logger
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
	began := time.Now()
	r, err := prepare(ctx, c, w, o)
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

// prepare makes the data directory, and the checkpoint that it ends with an entry of the log. The writer's epoch keeps
// everybody else from appending between the two.
func prepare(ctx context.Context, c *client.Client, w *client.Writer, o RunOptions) (Result, error) {
	if err := os.RemoveAll(o.Server.Dir); err != nil {
		return Result{}, fmt.Errorf("compute: %w", err)
	}
	r, err := Build(ctx, o.Server.Dir, Entries(ctx, c, o.Log, w.LastLSN()), Target{}, o.Logger)
	if err != nil {
		return r, err
	}
	if o.Own != nil {
		if err := o.Own(o.Server.Dir); err != nil {
			return r, fmt.Errorf("compute: %w", err)
		}
	}
	b := payload.Payload{Kind: payload.KindWAL, SystemID: r.SystemID, Timeline: r.Timeline, SegmentBytes: r.Segment, Start: r.End, Content: r.Checkpoint}.Append(nil)
	_, err = w.AppendTx(ctx, logcore.TxID{}, [][]byte{b}, payload.AppendPosition(nil, r.Timeline, r.Resume()))
	return r, err
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
	r, err := receiver.New(receiver.Options{ConnString: s.ConnString(), StandbyName: s.o.StandbyName, Logger: o.Logger, Connected: func() {
		started.Start = time.Since(built)
		o.Ready(started)
	}}, receiver.OverClient(c, w))
	if err != nil {
		return err
	}
	const startWithin = 2 * time.Minute
	for deadline := time.Now().Add(startWithin); ; {
		err := r.Run(ctx)
		if !errors.Is(err, receiver.ErrConnection) || r.Connected() || time.Now().After(deadline) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond): // it is starting
		case <-ctx.Done():
			return nil
		}
	}
}
