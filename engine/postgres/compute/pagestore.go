package compute

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/engine"
)

// PagesOf returns what the page server that c reaches has of a log, as the log service describes it: not what one of
// another incarnation had, nor what another log had that had its name.
func PagesOf(c *client.Client, log client.LogInfo) Store { return pageStore{c, log.Log, log} }

type pageStore struct {
	c    *client.Client
	log  string
	info client.LogInfo
}

func (s pageStore) at(lsn logcore.LSN) client.ReadAt { return client.ReadAt{LSN: lsn, Log: s.info.ID} }

// same refuses an answer from another incarnation of the log service: a page server that can't reach it answers what an LSN held in
// the one that it knew.
func (s pageStore) same(answered uint64) error {
	if answered != s.info.Incarnation {
		return fmt.Errorf("compute: log %q: %w: the page server has it of incarnation %016x of the log service, which is %016x since it was restored", s.log, logcore.ErrOverloaded, answered, s.info.Incarnation)
	}
	return nil
}

// Ingested implements Store. A page server that is behind, or that has stopped to ingest the log, has what it has.
func (s pageStore) Ingested(ctx context.Context, lsn logcore.LSN, wait time.Duration) (logcore.LSN, error) {
	at, err := s.c.WaitLSN(ctx, s.log, lsn, wait)
	if err == nil || ctx.Err() != nil {
		return at, err
	}
	at, newestErr := s.c.WaitLSN(ctx, s.log, 0, 0)
	if newestErr != nil {
		return 0, err
	}
	return at, nil
}

// holdFor is how long an LSN stays readable once nobody renews that: half of it is the time between two renewals.
const holdFor = 2 * time.Minute

// Hold implements Store, with a lease.
func (s pageStore) Hold(ctx context.Context, at logcore.LSN) (release func(), err error) {
	lease, err := s.c.AcquireLease(ctx, s.log, at, holdFor, "postgres data directory")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-time.After(holdFor / 2):
				_, _ = s.c.RenewLease(ctx, s.log, lease.ID, holdFor) // reads below the horizon say so themselves
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = s.c.ReleaseLease(ctx, s.log, lease.ID) // otherwise it runs out
	}, nil
}

// Spaces implements Store.
func (s pageStore) Spaces(ctx context.Context, at logcore.LSN) iter.Seq2[SpaceInfo, error] {
	return func(yield func(SpaceInfo, error) bool) {
		of := client.SpaceRange{HiThrough: ^uint64(0)}
		for {
			list, err := s.c.ListSpaces(ctx, s.log, of, s.at(at))
			if err == nil {
				err = s.same(list.Incarnation)
			}
			if err != nil {
				yield(SpaceInfo{}, err)
				return
			}
			for _, i := range list.Spaces {
				if !yield(SpaceInfo(i), nil) {
					return
				}
			}
			if !list.More || len(list.Spaces) == 0 {
				return
			}
			of.After = &list.Spaces[len(list.Spaces)-1].Space
		}
	}
}

// Pages implements Store.
func (s pageStore) Pages(ctx context.Context, space engine.Space, first, n uint32, at logcore.LSN) ([][]byte, error) {
	numbers := make([]uint32, n)
	for i := range numbers {
		numbers[i] = first + uint32(i)
	}
	set, err := s.c.GetPages(ctx, s.log, space, numbers, s.at(at))
	if err == nil {
		err = s.same(set.Incarnation)
	}
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(set.Pages))
	for i, p := range set.Pages {
		out[i] = p.Data
	}
	return out, nil
}

// Object implements Store.
func (s pageStore) Object(ctx context.Context, key string, at logcore.LSN) ([]byte, error) {
	list, err := s.c.GetObject(ctx, s.log, []byte(key), s.at(at))
	if err == nil {
		err = s.same(list.Incarnation)
	}
	if err != nil {
		return nil, err
	}
	return list.Objects[0].Data, nil
}

// Objects implements Store.
func (s pageStore) Objects(ctx context.Context, prefix string, at logcore.LSN) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		var after []byte
		for {
			list, err := s.c.ListObjects(ctx, s.log, []byte(prefix), after, 0, s.at(at))
			if err == nil {
				err = s.same(list.Incarnation)
			}
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range list.Objects {
				if !yield(Object{string(o.Key), o.Data}, nil) {
					return
				}
				after = o.Key
			}
			if !list.More || len(list.Objects) == 0 {
				return
			}
		}
	}
}

// Before implements Store.
func (s pageStore) Before(ctx context.Context, at time.Time) (logcore.LSN, error) {
	lsn, _, err := s.c.ResolveTime(ctx, s.log, at)
	if errors.Is(err, logcore.ErrTrimmed) {
		return 0, errNotBefore
	}
	return lsn, err
}
