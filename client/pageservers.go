package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
	"github.com/logcore/logcore/internal/wire"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

const (
	// avoidFor is how long a page server is asked last after it could not be reached.
	avoidFor = 2 * time.Second
	// stripesTimeout bounds one question for the map.
	stripesTimeout = time.Second
	// stripesEvery is how old the map gets before it is asked for in passing.
	stripesEvery = 5 * time.Second
	// rootsMax bounds the logs whose root is remembered.
	rootsMax = 1 << 14
)

// pageServer is one page server: a connection, made when it is first used.
type pageServer struct {
	addr   string
	conn   *grpc.ClientConn
	pages  logcorev1.PageServiceClient
	owned  bool      // the connection is this one's to close
	failed time.Time // when it could not be reached last; guarded by the pageServers' mu
}

// pageServers knows the page servers and who has which stripe. What it knows may be old:
// a page server that does not have a page says so.
type pageServers struct {
	dial func(addr string) (*grpc.ClientConn, error)

	mu     sync.Mutex
	all    []*pageServer                  // those given first, then those heard of; guarded by mu
	m      stripemap.Map                  // without servers while pages are not known to be striped; guarded by mu
	owners [stripemap.Count][]*pageServer // by m; guarded by mu
	roots  map[string]uint64              // of the logs' branch trees; guarded by mu
	asked  time.Time                      // when the map was asked for in passing; guarded by mu
	asking bool                           // it is being; guarded by mu
	sought time.Time                      // when the log service was asked for it; guarded by mu
}

// at returns the page server at an address.
func (p *pageServers) at(addr string) (*pageServer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.atLocked(addr)
}

func (p *pageServers) atLocked(addr string) (*pageServer, error) {
	for _, s := range p.all {
		if s.addr == addr {
			return s, nil
		}
	}
	conn, err := p.dial(addr)
	if err != nil {
		return nil, err
	}
	s := &pageServer{addr: addr, conn: conn, pages: logcorev1.NewPageServiceClient(conn), owned: true}
	p.all = append(p.all, s)
	return s, nil
}

// ranked returns every page server, those that could be reached lately first.
func (p *pageServers) ranked() []*pageServer {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var good, bad []*pageServer
	for _, s := range p.all {
		if now.Sub(s.failed) < avoidFor {
			bad = append(bad, s)
		} else {
			good = append(good, s)
		}
	}
	return append(good, bad...)
}

// unreachable notes that a page server could not be reached.
func (p *pageServers) unreachable(s *pageServer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.failed = time.Now()
}

// striped reports whether pages are known to be striped.
func (p *pageServers) striped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.m.Servers) > 0
}

// root returns what a log's pages are hashed with, if it is known.
func (p *pageServers) root(log string) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	root, ok := p.roots[log]
	return root, ok
}

// withPages returns the page servers that have pages by the map; none while pages are not striped.
func (p *pageServers) withPages() []*pageServer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*pageServer
	for _, owners := range p.owners {
		for _, s := range owners {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// owner returns whom to ask for a stripe: of those that have it, one that could be reached
// lately; they take turns over the stripes.
func (p *pageServers) owner(stripe int) *pageServer {
	p.mu.Lock()
	defer p.mu.Unlock()
	owners, now := p.owners[stripe], time.Now()
	for i := range owners {
		s := owners[(stripe+i)%len(owners)]
		if now.Sub(s.failed) >= avoidFor {
			return s
		}
	}
	if len(owners) > 0 {
		return owners[stripe%len(owners)]
	}
	return nil
}

// learn takes over a map, and a log's root, unless what is known is newer.
func (p *pageServers) learn(m stripemap.Map, log string, root uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if root != 0 {
		if len(p.roots) >= rootsMax {
			clear(p.roots)
		}
		p.roots[log] = root
	}
	if len(m.Servers) == 0 || len(p.m.Servers) > 0 && !m.Newer(p.m) {
		return nil
	}
	var owners [stripemap.Count][]*pageServer
	for _, s := range m.Servers {
		server, err := p.atLocked(s.Address)
		if err != nil {
			return err
		}
		for _, stripe := range s.Owns.Stripes() {
			owners[stripe] = append(owners[stripe], server)
		}
	}
	p.m, p.owners = m, owners
	return nil
}

// takesRemembered reports whether a map that a page server knew when it stopped is better
// than what is known here: another incarnation's may be older.
func (p *pageServers) takesRemembered(m stripemap.Map) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.m.Servers) == 0 || m.Incarnation == p.m.Incarnation && m.Generation > p.m.Generation
}

func (p *pageServers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.all {
		if s.owned {
			errs = append(errs, s.conn.Close())
		}
	}
	return errors.Join(errs...)
}

// due reports whether the map is to be asked for in passing, and notes that it is: once,
// and every stripesEvery when pages are striped.
func (p *pageServers) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking || !p.asked.IsZero() && (len(p.m.Servers) == 0 || time.Since(p.asked) < stripesEvery) {
		return false
	}
	p.asking = true
	return true
}

func (p *pageServers) answered() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking, p.asked = false, time.Now()
}

// seek reports whether the log service is to be asked: not for every failure.
func (p *pageServers) seek() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.m.Servers) > 0 || time.Since(p.sought) < stripesTimeout {
		return false
	}
	p.sought = time.Now()
	return true
}

// keepStripes has the map asked for when that is due, without waiting for it: a page server
// that gave stripes up serves them only for a while longer.
func (c *Client) keepStripes(log string) {
	if c.ctx.Err() != nil || !c.servers.due() {
		return
	}
	c.running.Go(func() {
		defer c.servers.answered()
		ctx, cancel := context.WithTimeout(c.ctx, 2*stripesTimeout)
		defer cancel()
		_ = c.findStripes(ctx, log) // what is known stays good enough
	})
}

// splitAddrs returns the addresses of a list with commas.
func splitAddrs(list string) []string {
	var out []string
	for _, addr := range strings.Split(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			out = append(out, addr)
		}
	}
	return out
}

// findStripes asks for the map and for what a log's pages are hashed with: the page
// servers that are known, and the log service when none of them has it.
func (c *Client) findStripes(ctx context.Context, log string) error {
	asked := map[*pageServer]bool{}
	var last error
	for again := true; again; {
		again = false
		for _, s := range c.servers.ranked() {
			if asked[s] {
				continue
			}
			asked[s], again = true, true // a map names others
			done, err := c.askStripes(ctx, s, log)
			if done {
				return nil
			}
			last = err
		}
	}
	if ctx.Err() == nil && c.servers.seek() {
		asking, cancel := context.WithTimeout(ctx, stripesTimeout)
		m, err := c.StripeMap(asking)
		cancel()
		if err == nil && len(m.Servers) > 0 {
			if err := c.servers.learn(m.Map, "", 0); err != nil {
				return err
			}
			return c.findStripes(ctx, log)
		}
	}
	if last == nil {
		last = ErrUnavailable
	}
	return fmt.Errorf("client: no page server knows who has the pages of log %q: %w", log, last)
}

// askStripes asks one page server, and reports whether the root of the log is known by that.
func (c *Client) askStripes(ctx context.Context, s *pageServer, log string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, stripesTimeout)
	defer cancel()
	resp, err := s.pages.Stripes(ctx, &logcorev1.StripesRequest{Log: log})
	if err != nil {
		if err = remote(err, s.addr); errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			c.servers.unreachable(s)
		}
		return errors.Is(err, logcore.ErrLogNotFound), err
	}
	m, err := wire.FromStripeMap(resp.Map)
	if err == nil && resp.Remembered && !c.servers.takesRemembered(m) {
		err = c.servers.learn(stripemap.Map{}, log, resp.RootLogId)
	} else if err == nil {
		err = c.servers.learn(m, log, resp.RootLogId)
	}
	return err == nil && len(m.Servers) > 0 && resp.RootLogId != 0, err
}

// fetchPages is GetPages over all page servers: as long as they are not known to be
// striped, of whichever is asked; then each page of one that has it, in parallel.
func (c *Client) fetchPages(ctx context.Context, req *logcorev1.GetPagesRequest) (*logcorev1.GetPagesResponse, error) {
	c.keepStripes(req.Log)
	if !c.servers.striped() {
		elsewhere := false
		resp, err := unaryPages(ctx, c, func(ctx context.Context, p logcorev1.PageServiceClient) (*logcorev1.GetPagesResponse, error) {
			resp, err := p.GetPages(ctx, req)
			if elsewhere = errors.Is(wire.FromStatus(err), logcore.ErrWrongPageServer); elsewhere {
				return nil, nil
			}
			return resp, err
		})
		if !elsewhere {
			return resp, err
		}
	}
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	retry, fresh := newBudget(c.opts.RetryFor), false
	for {
		root, known := c.servers.root(req.Log)
		var err error
		if !known || !fresh && !c.servers.striped() {
			if err = c.findStripes(ctx, req.Log); err == nil {
				root, known = c.servers.root(req.Log)
			}
		}
		if known {
			var resp *logcorev1.GetPagesResponse
			if resp, err = c.gather(ctx, req, root); err == nil {
				return resp, nil
			}
		}
		if err == nil {
			err = fmt.Errorf("%w: log %q", logcore.ErrLogNotFound, req.Log)
		}
		lost := errors.Is(err, ErrUnavailable) || errors.Is(err, logcore.ErrWrongPageServer)
		if !lost && !refused(err) || !retry.wait(ctx) {
			return nil, err
		}
		if lost {
			// The map that comes may be no newer yet; then it is asked for again.
			_ = c.findStripes(ctx, req.Log)
			fresh = true
		}
	}
}

// share is what one page server is asked for.
type share struct {
	server *pageServer
	pages  []uint32
	at     []int // where in the request each page stands
	resp   *logcorev1.GetPagesResponse
	err    error
}

// gather asks the owners of the pages, in parallel, as of one LSN: the request's, or that
// which the first one chooses.
func (c *Client) gather(ctx context.Context, req *logcorev1.GetPagesRequest, root uint64) (*logcorev1.GetPagesResponse, error) {
	shares, err := c.divide(req, root)
	if err != nil {
		return nil, err
	}
	ask := func(s *share, lsn uint64) {
		part := req
		if len(shares) > 1 {
			part = &logcorev1.GetPagesRequest{Log: req.Log, Space: req.Space, Pages: s.pages, Lsn: lsn, NotModifiedSince: req.NotModifiedSince, TimeoutMs: req.TimeoutMs, LogId: req.LogId}
		}
		if s.resp, s.err = s.server.pages.GetPages(ctx, part); s.err != nil {
			if s.err = remote(s.err, s.server.addr); errors.Is(s.err, ErrUnavailable) {
				c.servers.unreachable(s.server)
			}
		} else if len(s.resp.Pages) != len(s.pages) {
			s.err = &logcore.CorruptionError{Place: "page server " + s.server.addr, Object: "log " + req.Log, Offset: -1, LSN: logcore.LSN(s.resp.Lsn),
				Reason: fmt.Sprintf("%d pages, asked for %d", len(s.resp.Pages), len(s.pages))}
		}
	}
	first, rest := shares[0], shares[1:]
	lsn := req.Lsn
	if lsn == 0 || len(rest) == 0 {
		if ask(first, lsn); first.err != nil {
			return nil, first.err
		}
		if len(rest) == 0 {
			return first.resp, nil
		}
		lsn = first.resp.Lsn
	} else {
		rest = shares
	}
	var asking sync.WaitGroup
	for _, s := range rest {
		asking.Go(func() { ask(s, lsn) })
	}
	asking.Wait()
	return combine(req, lsn, shares)
}

// combine puts the answers in the order of the request.
func combine(req *logcorev1.GetPagesRequest, lsn uint64, shares []*share) (*logcorev1.GetPagesResponse, error) {
	out := &logcorev1.GetPagesResponse{Lsn: lsn, Pages: make([]*logcorev1.Page, len(req.Pages))}
	for i, s := range shares {
		switch {
		case s.err != nil:
			return nil, s.err
		case s.resp.Lsn != lsn:
			return nil, &logcore.CorruptionError{Place: "page server " + s.server.addr, Object: "log " + req.Log, Offset: -1, LSN: logcore.LSN(lsn), Reason: fmt.Sprintf("pages as of LSN %d", s.resp.Lsn)}
		case i > 0 && s.resp.Incarnation != out.Incarnation:
			return nil, fmt.Errorf("%w: the log service was restored while pages of %q were read", ErrUnavailable, req.Log)
		}
		out.Incarnation = s.resp.Incarnation
		for k, page := range s.resp.Pages {
			out.Pages[s.at[k]] = page
		}
	}
	return out, nil
}

// divide finds out whom to ask for what.
func (c *Client) divide(req *logcorev1.GetPagesRequest, root uint64) ([]*share, error) {
	if len(req.Pages) == 0 {
		return []*share{{server: c.servers.ranked()[0]}}, nil
	}
	var shares []*share
	var last *share
	lastStripe := -1
	for i, page := range req.Pages {
		stripe := stripemap.Of(root, req.Space.GetLo(), page)
		if last == nil || stripe != lastStripe {
			server := c.servers.owner(stripe)
			if server == nil {
				return nil, fmt.Errorf("%w: nobody has stripe %d yet", logcore.ErrWrongPageServer, stripe)
			}
			last, lastStripe = nil, stripe
			for _, s := range shares {
				if s.server == server {
					last = s
				}
			}
			if last == nil {
				last = &share{server: server}
				shares = append(shares, last)
			}
		}
		last.pages, last.at = append(last.pages, page), append(last.at, i)
	}
	return shares, nil
}
