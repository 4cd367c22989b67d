package logsvc

import (
	"context"
	"fmt"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/replication"
)

// stripes serves StripeService. The map is the catalog's; what page servers said last is
// in the memory of the member that leads, as the leases of writers are: nothing but who
// is to take over from whom rests on it.
type stripes struct {
	logcorev1.UnimplementedStripeServiceServer
	s *Service
}

var _ logcorev1.StripeServiceServer = stripes{}

// pageServers is what the page servers said last. It is touched on the group's loop only.
type pageServers struct {
	duration time.Duration
	now      func() time.Time

	term  uint64    // of the leadership that the rest belongs to
	since time.Time // one that nobody has heard of since then may still be there
	said  map[uint64]pageServer
}

type pageServer struct {
	until time.Time
	ready stripemap.Set
}

// enter begins afresh when this is another leadership, which began at a time: each page
// server gets one lease from there.
func (g *pageServers) enter(term uint64, since time.Time) {
	if g.said == nil || g.term != term {
		g.term, g.said = term, map[uint64]pageServer{}
	}
	g.since = since
}

func (g *pageServers) renew(id uint64, ready stripemap.Set) {
	g.said[id] = pageServer{g.now().Add(g.duration), ready}
}

// left returns how long a page server's lease still runs, 0 when it ended.
func (g *pageServers) left(id uint64) time.Duration {
	said, ok := g.said[id]
	if !ok {
		said.until = g.since.Add(g.duration)
	}
	return max(said.until.Sub(g.now()), 0)
}

// reports is what Plan needs to know of the servers of a map. What a page server that has
// not reported to this leader owns counts as ready: it did when it became the owner.
func (g *pageServers) reports(m stripemap.Map) map[uint64]stripemap.Report {
	out := map[uint64]stripemap.Report{}
	for _, s := range m.Servers {
		said, ok := g.said[s.ID]
		if !ok {
			said.ready = s.Owns
		}
		out[s.ID] = stripemap.Report{Alive: g.left(s.ID) > 0, Ready: said.ready}
	}
	return out
}

// stripeCommandBytes is more than the commands of one plan take.
const stripeCommandBytes = 64 << 10

// change runs prepare on the loop and returns the map after it, once it is durable.
func (v stripes) change(ctx context.Context, prepare func(p *replication.Proposer) error) (*logcorev1.StripeMap, error) {
	ctx, cancel := v.s.bounded(ctx)
	defer cancel()
	var out *logcorev1.StripeMap
	err := v.s.await(ctx, replication.Request{Bytes: stripeCommandBytes, Prepare: func(p *replication.Proposer) error {
		v.s.pageServers.enter(p.Term(), p.Since())
		if err := prepare(p); err != nil {
			return err
		}
		m := p.Catalog().Stripes()
		p.WaitFor(logcore.LSN(m.Generation))
		out = v.message(m)
		return nil
	}, Done: func(error) {}}, func() {})
	return out, v.s.status(err, "")
}

// message is the map on the wire, with the leases. It runs on the loop.
func (v stripes) message(m stripemap.Map) *logcorev1.StripeMap {
	out := wire.StripeMap(m)
	for i, s := range m.Servers {
		out.Servers[i].LeaseLeftMs = uint32(v.s.pageServers.left(s.ID).Milliseconds())
	}
	return out
}

// ReportPageServer implements logcorev1.StripeServiceServer.
func (v stripes) ReportPageServer(ctx context.Context, req *logcorev1.ReportPageServerRequest) (*logcorev1.ReportPageServerResponse, error) {
	ready, ok := stripemap.SetOf(req.Ready)
	if !ok || req.Id == 0 {
		return nil, v.s.status(fmt.Errorf("%w: report of page server %016x with a set of %d bytes", logcore.ErrInvalid, req.Id, len(req.Ready)), "")
	}
	resp := &logcorev1.ReportPageServerResponse{LeaseMs: uint32(v.s.opts.PageServerLease.Milliseconds())}
	m, err := v.change(ctx, func(p *replication.Proposer) error {
		resp.Id = identity(p.Catalog().Stripes(), req)
		if err := register(p, resp.Id, req.Address); err != nil {
			return err
		}
		v.s.pageServers.renew(resp.Id, ready)
		return v.plan(p)
	})
	resp.Map = m
	return resp, err
}

// identity is the id of the page server that reports: its own or, when it has nothing yet
// and another is known at its address, that one's: it is where that one was, so that one is
// no more.
func identity(m stripemap.Map, req *logcorev1.ReportPageServerRequest) uint64 {
	if _, known := m.Server(req.Id); known || !req.Empty {
		return req.Id
	}
	for _, s := range m.Servers {
		if s.Address == req.Address {
			return s.ID
		}
	}
	return req.Id
}

// register makes a page server known, and where it is.
func register(p *replication.Proposer, id uint64, address string) error {
	s, known := p.Catalog().Stripes().Server(id)
	if known && s.Address == address {
		return nil
	}
	if err := p.DiskFull(); err != nil {
		return err
	}
	_, err := p.Command(catalog.Command{Op: catalog.OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Put, Server: id, Address: address, Draining: s.Draining}})
	return err
}

// plan proposes what brings the map nearer to what it should be. A full disk leaves the
// map as it is.
func (v stripes) plan(p *replication.Proposer) error {
	if p.DiskFull() != nil {
		return nil
	}
	m := p.Catalog().Stripes()
	for _, c := range stripemap.Plan(m, v.s.pageServers.reports(m)) {
		if _, err := p.Command(catalog.Command{Op: catalog.OpPageServers, Stripes: c}); err != nil {
			return err
		}
		v.s.log.Info("logsvc: stripes", "change", c.Kind, "page_server", fmt.Sprintf("%016x", c.Server), "stripes", c.Stripes.Len())
	}
	return nil
}

// GetStripeMap implements logcorev1.StripeServiceServer.
func (v stripes) GetStripeMap(ctx context.Context, _ *logcorev1.GetStripeMapRequest) (*logcorev1.GetStripeMapResponse, error) {
	m, err := v.change(ctx, func(*replication.Proposer) error { return nil })
	return &logcorev1.GetStripeMapResponse{Map: m}, err
}

// DrainPageServer implements logcorev1.StripeServiceServer.
func (v stripes) DrainPageServer(ctx context.Context, req *logcorev1.DrainPageServerRequest) (*logcorev1.DrainPageServerResponse, error) {
	_, err := v.change(ctx, func(p *replication.Proposer) error {
		s, known := p.Catalog().Stripes().Server(req.Id)
		if !known {
			return fmt.Errorf("%w: page server %016x is not known", logcore.ErrInvalid, req.Id)
		}
		if s.Draining == req.Draining {
			return nil
		}
		_, err := p.Command(catalog.Command{Op: catalog.OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Put, Server: s.ID, Address: s.Address, Draining: req.Draining}})
		if err != nil {
			return err
		}
		return v.plan(p)
	})
	return &logcorev1.DrainPageServerResponse{}, err
}

// RemovePageServer implements logcorev1.StripeServiceServer.
func (v stripes) RemovePageServer(ctx context.Context, req *logcorev1.RemovePageServerRequest) (*logcorev1.RemovePageServerResponse, error) {
	_, err := v.change(ctx, func(p *replication.Proposer) error {
		_, err := p.Command(catalog.Command{Op: catalog.OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Remove, Server: req.Id}})
		return err
	})
	return &logcorev1.RemovePageServerResponse{}, err
}

// SetStripeOwners implements logcorev1.StripeServiceServer.
func (v stripes) SetStripeOwners(ctx context.Context, req *logcorev1.SetStripeOwnersRequest) (*logcorev1.SetStripeOwnersResponse, error) {
	_, err := v.change(ctx, func(p *replication.Proposer) error {
		if p.Catalog().Stripes().OwnersWanted() == int(req.Owners) {
			return nil
		}
		_, err := p.Command(catalog.Command{Op: catalog.OpPageServers, Stripes: stripemap.Change{Kind: stripemap.Owners, Count: int(min(req.Owners, 1000))}})
		if err != nil {
			return err
		}
		return v.plan(p)
	})
	return &logcorev1.SetStripeOwnersResponse{}, err
}
