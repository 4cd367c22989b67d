package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
	"github.com/logcore/logcore/pageserver"
)

// Collecting holds what page servers answer, while histories are collected, against a source
// that keeps everything: logs grow, branch and are deleted, LSNs are leased and held and
// given back, windows change, page servers come and go. Whatever can be read is what
// replaying the log gives; what can't is refused.
type Collecting struct {
	T      *testing.T
	Engine Engine
	Rng    *rand.Rand
	Source *Source
	// Reader returns what pages are read with now. Required.
	Reader func() Reader
	// Disturb does something to the page servers, about once in 50 steps. Required.
	Disturb func()

	logs []string
	kept []keptLSN

	// Compared and Refused count reads that were right, and rightly refused; Pinned those of
	// LSNs that are leased or held.
	Compared, Refused, Pinned int
}

// keptLSN is an LSN that must be readable.
type keptLSN struct {
	id   int
	log  string
	at   logcore.LSN
	hold bool
}

// NewCollecting returns one whose source has the log db, with a short window.
func NewCollecting(t *testing.T, seed uint64, e Engine) *Collecting {
	c := &Collecting{T: t, Engine: e, Rng: rand.New(rand.NewPCG(seed, 1)), Source: NewSource(1), logs: []string{"db"}}
	c.Source.Create("db")
	c.Source.SetWindow("db", 5*time.Millisecond, 0)
	return c
}

// CollectingOptions are Options that collect as often as can be.
func CollectingOptions(dir string, source pageserver.LogSource, keeper pageserver.HistoryKeeper, decoder engine.Decoder) pageserver.Options {
	o := Options(dir, source, decoder)
	o.Keeper, o.CollectInterval, o.CollectBytesPerSecond = keeper, 3*time.Millisecond, 1<<40
	return o
}

// step does something to the logs.
func (c *Collecting) step() {
	source, log := c.Source, c.logs[c.Rng.IntN(len(c.logs))]
	at := 1 + logcore.LSN(c.Rng.Uint64N(uint64(source.Last())))
	switch n := c.Rng.IntN(100); {
	case n < 50:
		c.Append(log, 1+c.Rng.IntN(8))
	case n < 60 && len(c.logs) < 12:
		if name := fmt.Sprintf("branch-%d", source.Last()); source.Readable(log, at) {
			if _, err := source.CreateBranch(context.Background(), log, name, at); err == nil {
				c.logs = append(c.logs, name)
			}
		}
	case n < 65 && len(c.logs) > 4:
		if i := 1 + c.Rng.IntN(len(c.logs)-1); source.DeleteBranch(c.logs[i]) {
			c.logs = append(c.logs[:i], c.logs[i+1:]...)
		}
	case n < 75:
		if id, ok := source.Lease(log, at); ok {
			c.kept = append(c.kept, keptLSN{id, log, at, false})
		}
	case n < 78:
		if id, ok := source.Hold(log, at); ok {
			c.kept = append(c.kept, keptLSN{id, log, at, true})
		}
	case n < 86 && len(c.kept) > 0:
		i := c.Rng.IntN(len(c.kept))
		source.Release(c.kept[i].id)
		c.kept = append(c.kept[:i], c.kept[i+1:]...)
	case n < 95:
		window, bytes := time.Duration(c.Rng.IntN(12))*time.Millisecond, uint64(c.Rng.IntN(4<<10))
		if n := c.Rng.IntN(3); n == 0 {
			window = 0
		} else if n == 1 {
			bytes = 0
		}
		source.SetWindow(log, window, bytes)
	case n < 98:
		source.CloseWriter(log)
	default:
		c.Disturb()
	}
}

// Append appends random transactions to a log.
func (c *Collecting) Append(log string, transactions int) {
	for _, tx := range c.Engine.History(c.Rng, transactions) {
		c.Source.AppendTx(log, tx)
	}
}

// Check reads a log at an LSN: what comes is right, or refused because it may be.
func (c *Collecting) Check(log string, at logcore.LSN) error {
	spaces := SpacesOf(c.T, c.Source, c.Engine.Decoder, log)
	if len(spaces) == 0 {
		spaces = []engine.Space{engine.SpaceOf(1)}
	}
	_, err := Compare(c.T.Context(), c.Reader(), c.Source, c.Engine.Decoder, log, at, spaces)
	switch {
	case err == nil:
		c.Compared++
		return nil
	case errors.Is(err, logcore.ErrTrimmed) && !c.Source.Readable(log, at):
		c.Refused++
		return nil
	}
	return fmt.Errorf("log %s at LSN %d (readable: %v, horizon %d): %w", log, at, c.Source.Readable(log, at), c.Source.Horizon(log), err)
}

// CheckSome checks at random places, and at an LSN that is kept.
func (c *Collecting) CheckSome() error {
	for i := range 2 {
		log, from := c.logs[c.Rng.IntN(len(c.logs))], logcore.LSN(1)
		if i == 0 { // one that can be read, as far as is known
			from = max(from, c.Source.Horizon(log))
		}
		if err := c.Check(log, from+logcore.LSN(c.Rng.Uint64N(uint64(c.Source.Last()-from)+1))); err != nil {
			return err
		}
	}
	if len(c.kept) == 0 {
		return nil
	}
	k := c.kept[c.Rng.IntN(len(c.kept))]
	if k.hold && c.Rng.IntN(2) == 0 {
		k.at += logcore.LSN(c.Rng.Uint64N(uint64(c.Source.Last()-k.at) + 1))
	}
	c.Pinned++
	return c.Check(k.log, k.at)
}

// Run does steps and checks after each.
func (c *Collecting) Run(steps int) error {
	for range steps {
		c.step()
		if err := c.CheckSome(); err != nil {
			return err
		}
	}
	return nil
}

// Void reports whether too little was compared to say anything.
func (c *Collecting) Void() bool { return c.Compared < 100 || c.Refused < 20 || c.Pinned < 5 }

// RunEnough runs so many steps, and again while the run is void, five times at most: a
// machine under load sees fewer LSNs refused.
func (c *Collecting) RunEnough(steps int) error {
	for n := 0; n == 0 || n < 5 && c.Void(); n++ {
		if err := c.Run(steps); err != nil {
			return err
		}
	}
	c.T.Logf("%d reads right, %d rightly refused, %d of what is kept", c.Compared, c.Refused, c.Pinned)
	if c.Void() {
		return errors.New("enginetest: the run is void")
	}
	return nil
}
