package logsvc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Shards are the services of all shards of a process. Every member has every shard; which log is in which
// the directory says, a part of the first shard's catalog (docs/design/shards.md).
type Shards struct {
	all []*Service // by shard
	// placer carries out what the directory says; nil with one shard.
	placer *placer
	moves  Moves // the same services, to decide what is to be moved
}

// NewShards returns the services of the shards 0, 1, 2, …, one for each of opts, and starts their
// housekeeping: each serves requests for the logs of all of them, and what the directory wants done is
// done. Close it before the groups.
func NewShards(opts ...Options) (*Shards, error) {
	sh := &Shards{}
	for i, o := range opts {
		s, err := newService(o)
		if err == nil && len(opts) > 1 && s.group.Shard() != logcore.ShardID(i) {
			err = fmt.Errorf("%w: logsvc.NewShards: the group of shard %d stands at %d", logcore.ErrInvalid, s.group.Shard(), i)
		}
		if s != nil {
			s.shards = sh
			sh.all = append(sh.all, s)
			sh.moves = append(sh.moves, moveShard{s})
		}
		if err != nil {
			return nil, errors.Join(err, sh.Close())
		}
		s.budget = sh.all[0].budget // a message may be for several shards
	}
	for _, s := range sh.all {
		s.start()
	}
	if len(sh.all) > 1 {
		sh.placer = newPlacer(sh)
		sh.placer.healFirst(sh.all[0].stopped)
		sh.all[0].running.Go(func() { sh.placer.run(sh.all[0].stopped) })
	}
	return sh, nil
}

// Service returns the service of a shard, which must be one of NewShards'.
func (sh *Shards) Service(shard logcore.ShardID) *Service { return sh.all[shard] }

// Register registers the services of all shards, health included.
func (sh *Shards) Register(r grpc.ServiceRegistrar) { sh.all[0].Register(r) }

// Close closes the services of all shards.
func (sh *Shards) Close() error {
	for _, s := range sh.all {
		s.stop() // all streams end, whichever shard's they are
	}
	var errs []error
	for _, s := range sh.all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// find returns the service of the shard that a log is in, as far as this member knows. A log that is not
// known at all is the first shard's, which says so.
func (sh *Shards) find(log string) (*Service, error) {
	at, err := sh.moves.Find(log)
	var moved *logcore.MovedError
	if errors.As(err, &moved) && sh.moves.has(moved.Shard) {
		return nil, sh.all[moved.Shard].located(err)
	}
	if err != nil {
		return nil, err
	}
	return sh.all[at], nil
}

// known reports whether there is a log of that name, as far as this member knows.
func (sh *Shards) known(log string) (known bool) {
	sh.all[0].group.View(func(state *catalog.State) {
		_, known = state.Placement(log)
		if !known {
			_, err := state.ByName(log)
			known = err == nil
		}
	})
	return known
}

// front is LogCoreService: it passes each request on to the shard of its log.
type front struct {
	logcorev1.UnimplementedLogCoreServiceServer
	sh *Shards
}

// at returns the service of the shard that a log is in, and the status of an error.
func (f front) at(log string) (*Service, error) {
	s, err := f.sh.find(log)
	return s, f.sh.all[0].status(err, log)
}

// OpenWriter implements logcorev1.LogCoreServiceServer.
func (f front) OpenWriter(ctx context.Context, req *logcorev1.OpenWriterRequest) (*logcorev1.OpenWriterResponse, error) {
	if len(f.sh.all) > 1 && req.Create && !f.sh.known(req.Log) {
		_, err := f.sh.create(ctx, &logcorev1.CreateLogRequest{Log: req.Log})
		if err != nil && !errors.Is(err, logcore.ErrLogExists) {
			return nil, f.sh.all[0].status(err, req.Log)
		}
	}
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.OpenWriter(ctx, req)
}

// CloseWriter implements logcorev1.LogCoreServiceServer.
func (f front) CloseWriter(ctx context.Context, req *logcorev1.CloseWriterRequest) (*logcorev1.CloseWriterResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.CloseWriter(ctx, req)
}

// RenewWriter implements logcorev1.LogCoreServiceServer.
func (f front) RenewWriter(ctx context.Context, req *logcorev1.RenewWriterRequest) (*logcorev1.RenewWriterResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.RenewWriter(ctx, req)
}

// Append implements logcorev1.LogCoreServiceServer.
func (f front) Append(ctx context.Context, req *logcorev1.AppendRequest) (*logcorev1.AppendResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.Append(ctx, req)
}

// AppendStream implements logcorev1.LogCoreServiceServer.
func (f front) AppendStream(server grpc.BidiStreamingServer[logcorev1.AppendStreamRequest, logcorev1.AppendStreamResponse]) error {
	first, err := server.Recv()
	if err != nil {
		return f.sh.all[0].status(ended(err), "")
	}
	s, err := f.at(first.Log)
	if err != nil {
		return err
	}
	return s.appendStream(server, first)
}

// AppendLogs implements logcorev1.LogCoreServiceServer.
func (f front) AppendLogs(server grpc.BidiStreamingServer[logcorev1.AppendLogsRequest, logcorev1.AppendLogsResponse]) error {
	return f.sh.all[0].AppendLogs(server)
}

// Read implements logcorev1.LogCoreServiceServer.
func (f front) Read(req *logcorev1.ReadRequest, server grpc.ServerStreamingServer[logcorev1.ReadResponse]) error {
	s, err := f.at(req.Log)
	if err != nil {
		return err
	}
	return s.Read(req, server)
}

// Flush implements logcorev1.LogCoreServiceServer.
func (f front) Flush(ctx context.Context, req *logcorev1.FlushRequest) (*logcorev1.FlushResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.Flush(ctx, req)
}

// Truncate implements logcorev1.LogCoreServiceServer.
func (f front) Truncate(ctx context.Context, req *logcorev1.TruncateRequest) (*logcorev1.TruncateResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.Truncate(ctx, req)
}

// Info implements logcorev1.LogCoreServiceServer.
func (f front) Info(ctx context.Context, req *logcorev1.InfoRequest) (*logcorev1.InfoResponse, error) {
	s, err := f.at(req.Log)
	if err != nil {
		return nil, err
	}
	return s.Info(ctx, req)
}

// ended is the error of a stream that its client ended before it said anything.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
