package enginetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/internal/patience"
	"github.com/logcore/logcore/pageserver"
)

// Subject is a page server under test.
type Subject struct {
	*pageserver.Server
	stop func() error
}

// Options returns small, eager settings: much is flushed, chains are short, the
// cache is tiny, so that every path is taken by a small history.
func Options(dir string, source pageserver.LogSource, decoder engine.Decoder) pageserver.Options {
	return pageserver.Options{
		Dir: dir, Source: source, Decoder: decoder,
		Logger:         slog.New(slog.NewTextHandler(io.Discard, nil)),
		PageCacheBytes: 16 << 10, MemTableBytes: 256 << 10, ChainDeltasMax: 4,
		FlushInterval: 5 * time.Millisecond, PollInterval: 20 * time.Millisecond,
	}
}

// Start opens a page server and runs it until the test ends or Stop is called.
func Start(t testing.TB, opts pageserver.Options) *Subject {
	t.Helper()
	s, err := pageserver.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	sub := &Subject{Server: s}
	sub.stop = func() error {
		cancel()
		if err := patience.Receive(t, "the page server stops", done); err != nil {
			s.Close()
			return err
		}
		return patience.Return(t, "the page server closes", s.Close)
	}
	t.Cleanup(func() { sub.Stop(t) })
	return sub
}

// Stop ends the page server cleanly. A second call does nothing.
func (s *Subject) Stop(t testing.TB) {
	t.Helper()
	if s.stop == nil {
		return
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	s.stop = nil
}

// Reader is what pages are read with: a page server, or several that each have some.
type Reader interface {
	GetPages(ctx context.Context, log string, space engine.Space, numbers []uint32, at pageserver.ReadAt) (pageserver.PageSet, error)
	SpaceSize(ctx context.Context, log string, space engine.Space, at pageserver.ReadAt) (pageserver.Size, error)
	ListSpaces(ctx context.Context, log string, of pageserver.SpaceRange, at pageserver.ReadAt) (pageserver.SpaceList, error)
	GetObject(ctx context.Context, log string, key []byte, at pageserver.ReadAt) (pageserver.ObjectList, error)
	ListObjects(ctx context.Context, log string, prefix, after []byte, limit int, at pageserver.ReadAt) (pageserver.ObjectList, error)
}

// Compare reads a log as of an LSN (0: the newest) and reports the first thing that
// differs from replaying it. It returns the number of pages compared.
func Compare(ctx context.Context, s Reader, source *Source, decoder engine.Decoder, log string, at logcore.LSN, spaces []engine.Space) (int, error) {
	return compareWith(ctx, s, source, log, at, spaces, func(lsn logcore.LSN) (*State, error) {
		return Replay(decoder, source.Entries(log), lsn)
	})
}

// compareWith is Compare with states that stateAt gives.
func compareWith(ctx context.Context, s Reader, source *Source, log string, at logcore.LSN, spaces []engine.Space, stateAt func(logcore.LSN) (*State, error)) (int, error) {
	compared := 0
	var want *State
	if len(spaces) == 0 {
		return 0, fmt.Errorf("enginetest: no spaces to compare")
	}
	replayed := logcore.LSN(0)
	for _, space := range spaces {
		size, err := s.SpaceSize(ctx, log, space, pageserver.ReadAt{LSN: at, Wait: patience.Max})
		if err != nil {
			return compared, err
		}
		lsn := size.LSN
		if want == nil || lsn != replayed {
			if want, err = stateAt(lsn); err != nil {
				return compared, err
			}
			replayed = lsn
		}
		sp := want.Spaces[space]
		if sp == nil {
			sp = &SpaceState{}
		}
		if int(size.Pages) != len(sp.Pages) || size.PageSize != sp.PageSize || size.LastLSN != want.Last {
			return compared, fmt.Errorf("log %s space %v at LSN %d: %d pages of %d bytes, last change %d; want %d of %d, %d",
				log, space, lsn, size.Pages, size.PageSize, size.LastLSN, len(sp.Pages), sp.PageSize, want.Last)
		}
		numbers := make([]uint32, 0, len(sp.Pages)+3)
		for n := range len(sp.Pages) + 3 {
			numbers = append(numbers, uint32(n))
		}
		rand.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
		set, err := s.GetPages(ctx, log, space, numbers, pageserver.ReadAt{LSN: lsn, Wait: patience.Max})
		if err != nil {
			return compared, err
		}
		if set.LSN != lsn || len(set.Pages) != len(numbers) {
			return compared, fmt.Errorf("log %s space %v: %d pages at LSN %d, asked for %d at %d", log, space, len(set.Pages), set.LSN, len(numbers), lsn)
		}
		if set.Incarnation != source.Incarnation() || size.Incarnation != set.Incarnation {
			return compared, fmt.Errorf("incarnations %d and %d in answers, the source is at %d", size.Incarnation, set.Incarnation, source.Incarnation())
		}
		for i, p := range set.Pages {
			if p.Number != numbers[i] {
				return compared, fmt.Errorf("page %d in place of %d", p.Number, numbers[i])
			}
			if err := samePage(p, sp); err != nil {
				return compared, fmt.Errorf("log %s space %v page %d at LSN %d: %w", log, space, p.Number, lsn, err)
			}
			compared++
		}
	}
	if err := compareSpaces(ctx, s, log, replayed, want); err != nil {
		return compared, err
	}
	return compared, compareObjects(ctx, s, log, replayed, want)
}

// compareSpaces compares the list of spaces, asked for piece by piece.
func compareSpaces(ctx context.Context, s Reader, log string, at logcore.LSN, want *State) error {
	of := pageserver.SpaceRange{HiThrough: 1<<64 - 1, Limit: 1 + rand.IntN(4)}
	expected := slices.SortedFunc(maps.Keys(want.Spaces), engine.Space.Compare)
	for {
		list, err := s.ListSpaces(ctx, log, of, pageserver.ReadAt{LSN: at, Wait: patience.Max})
		if err != nil {
			return err
		}
		for _, got := range list.Spaces {
			if len(expected) == 0 || got.Space != expected[0] || int(got.Pages) != len(want.Spaces[got.Space].Pages) || got.PageSize != want.Spaces[got.Space].PageSize {
				return fmt.Errorf("log %s at LSN %d: listed %+v, want the first of %v", log, at, got, expected)
			}
			expected = expected[1:]
		}
		if !list.More {
			break
		}
		of.After = &list.Spaces[len(list.Spaces)-1].Space
	}
	if len(expected) > 0 {
		return fmt.Errorf("log %s at LSN %d: spaces %v are not listed", log, at, expected)
	}
	return nil
}

// compareObjects compares the list of objects, asked for piece by piece, and each one by
// itself.
func compareObjects(ctx context.Context, s Reader, log string, at logcore.LSN, want *State) error {
	expected := slices.Sorted(maps.Keys(want.Objects))
	var after []byte
	limit := 1 + rand.IntN(5)
	for {
		list, err := s.ListObjects(ctx, log, nil, after, limit, pageserver.ReadAt{LSN: at, Wait: patience.Max})
		if err != nil {
			return err
		}
		for _, got := range list.Objects {
			one, err := s.GetObject(ctx, log, got.Key, pageserver.ReadAt{LSN: at, Wait: patience.Max})
			if err != nil {
				return err
			}
			o := want.Objects[string(got.Key)]
			if len(expected) == 0 || string(got.Key) != expected[0] || !bytes.Equal(got.Data, o.Data) || got.LastLSN != o.Last || !bytes.Equal(one.Objects[0].Data, o.Data) {
				return fmt.Errorf("log %s at LSN %d: listed object %q = %x of LSN %d, alone %x, want the first of %q, %x of %d", log, at, got.Key, got.Data, got.LastLSN, one.Objects[0].Data, expected, o.Data, o.Last)
			}
			expected = expected[1:]
		}
		if !list.More {
			break
		}
		after = list.Objects[len(list.Objects)-1].Key
	}
	if len(expected) > 0 {
		return fmt.Errorf("log %s at LSN %d: objects %q are not listed", log, at, expected)
	}
	return nil
}

func samePage(got pageserver.Page, sp *SpaceState) error {
	if int(got.Number) >= len(sp.Pages) {
		if len(got.Data) != 0 || got.LastLSN != 0 {
			return fmt.Errorf("%d bytes, last change %d, of a page that does not exist", len(got.Data), got.LastLSN)
		}
		return nil
	}
	want := sp.Pages[got.Number]
	if !bytes.Equal(got.Data, want.Data) {
		return fmt.Errorf("content differs from the replay's (last change %d, the replay's %d):\n got %x\nwant %x", got.LastLSN, want.Touched, got.Data, want.Data)
	}
	if want.Written && got.LastLSN != want.Touched || got.LastLSN < want.Touched {
		return fmt.Errorf("last change %d, want %d", got.LastLSN, want.Touched)
	}
	return nil
}
