package logsvc

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// OpenWriter implements logcorev1.LogCoreServiceServer.
func (s *Service) OpenWriter(ctx context.Context, req *logcorev1.OpenWriterRequest) (*logcorev1.OpenWriterResponse, error) {
	if err := logcore.ValidateLogName(req.Log); err != nil {
		return nil, s.status(err, req.Log)
	}
	if err := catalog.ValidatePayloadFormat(req.PayloadFormat); err != nil {
		return nil, s.status(err, req.Log)
	}
	if len(req.Writer) > catalog.WriterNameMax {
		return nil, s.status(fmt.Errorf("%w: writer name of %d bytes, at most %d", logcore.ErrInvalid, len(req.Writer), catalog.WriterNameMax), req.Log)
	}
	resp := &logcorev1.OpenWriterResponse{LeaseMs: uint32(s.opts.Lease.Milliseconds()), EntryBytesMax: uint64(s.opts.EntryBytesMax)}
	err := s.do(ctx, func(p *replication.Proposer) error { return s.openWriter(p, req, resp) })
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	s.log.Info("logsvc: writer opened", "log", req.Log, "epoch", resp.Epoch, "writer", req.Writer, "takeover", req.Takeover)
	return resp, nil
}

// openWriter runs on the loop.
func (s *Service) openWriter(p *replication.Proposer, req *logcorev1.OpenWriterRequest, resp *logcorev1.OpenWriterResponse) error {
	s.leases.enter(p.Term(), p.Since())
	// In other shards than the first logs are created by the directory, which gives them ids that are theirs alone.
	create := req.Create && s.group.Shard() == 0
	t, last, err := PrepareOpenWriter(p, Opening{Log: req.Log, Writer: req.Writer, PayloadFormat: req.PayloadFormat, Create: create, Held: func(l *catalog.Log) error {
		if left := s.leases.left(l.ID); left > 0 && !req.Takeover {
			return fmt.Errorf("%w: log %q is held by writer %q at epoch %d for %v more; wait, close it, or take over", logcore.ErrWriterActive, l.Name, l.Writer, l.Epoch, left.Round(time.Millisecond))
		}
		return nil
	}})
	if err != nil {
		return err
	}
	resp.LogId, resp.Epoch, resp.LastLsn, resp.Incarnation = uint64(t.Log), uint64(t.Epoch), uint64(last), t.Incarnation
	s.leases.renew(t.Log)
	return nil
}

// CloseWriter implements logcorev1.LogCoreServiceServer. Closing again is no error.
func (s *Service) CloseWriter(ctx context.Context, req *logcorev1.CloseWriterRequest) (*logcorev1.CloseWriterResponse, error) {
	err := s.do(ctx, func(p *replication.Proposer) error {
		s.leases.enter(p.Term(), p.Since())
		l, err := p.Catalog().ByName(req.Log)
		if err != nil {
			return err
		}
		if err := p.Catalog().CheckIncarnation(req.Incarnation); err != nil {
			return err
		}
		if uint64(l.Epoch) == req.Epoch && req.Epoch != 0 && !l.WriterOpen {
			p.WaitFor(p.Catalog().LSN)
			return nil
		}
		_, err = p.Command(catalog.Command{Op: catalog.OpCloseWriter, Log: l.ID, Epoch: logcore.Epoch(req.Epoch)})
		if err == nil {
			s.leases.release(l.ID)
		}
		return err
	})
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	return &logcorev1.CloseWriterResponse{}, nil
}

// RenewWriter implements logcorev1.LogCoreServiceServer.
func (s *Service) RenewWriter(ctx context.Context, req *logcorev1.RenewWriterRequest) (*logcorev1.RenewWriterResponse, error) {
	err := s.do(ctx, func(p *replication.Proposer) error {
		s.leases.enter(p.Term(), p.Since())
		l, err := p.Catalog().ByName(req.Log)
		if err != nil {
			return err
		}
		if _, err = (Token{l.ID, logcore.Epoch(req.Epoch), req.Incarnation}).check(p); err != nil {
			return err
		}
		s.leases.renew(l.ID)
		return nil
	})
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	l, err := s.logByName(req.Log)
	if err != nil {
		return nil, s.status(err, req.Log)
	}
	return &logcorev1.RenewWriterResponse{LastLsn: uint64(l.LastLSN)}, nil
}

// requestTimeout bounds a request whose caller gave no deadline.
const requestTimeout = time.Minute

// bounded returns ctx, ended also when the service closes, and with a deadline.
func (s *Service) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := s.within(ctx)
	ctx, cancelTimeout := context.WithTimeout(ctx, requestTimeout)
	return ctx, func() { cancelTimeout(); cancel() }
}

// commandBytes is more than any catalog command takes.
const commandBytes = 1 << 10

// do runs prepare on the loop and waits until what it proposed is durable.
func (s *Service) do(ctx context.Context, prepare func(*replication.Proposer) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return s.await(ctx, replication.Request{Bytes: commandBytes, Prepare: prepare, Done: func(error) {}}, func() {})
}

// await submits a request and waits until it is done. When ctx ends first, the request
// goes on: its Done will be called. untaken is called instead of Done when the group did not take
// the request.
func (s *Service) await(ctx context.Context, r replication.Request, untaken func()) error {
	result := make(chan error, 1)
	done := r.Done
	r.Done = func(err error) {
		done(err)
		result <- err
	}
	if err := s.group.Submit(r); err != nil {
		untaken()
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
