package sim

import (
	"fmt"
	"reflect"
	"strings"
)

// Counts says how much happened in a run: one that did too little shows nothing.
type Counts struct {
	// What clients had: appends acknowledged, writers opened, reads answered, attempts after the
	// first, and how often a writer found itself fenced.
	Acks, Opens, Reads, Retries, Fenced uint64
	// What members did.
	Elections, Transfers, Syncs, Saves, Truncations, Entries, Seals uint64
	// What was done to them.
	Faults, Crashes, Pauses, Partitions, ClockJumps, SlowDisks, FullDisks, FullWrites, SyncErrors uint64
	// Torn counts crashes with a write under way, TornFound tails that recovery cut, Rotted bits that were
	// flipped, RotFound members that were stopped by one.
	Torn, TornFound, Rotted, RotFound uint64
	// OlderDisks were put in the place of newer ones; OlderFound is how many members noticed, the others had
	// caught up before.
	OlderDisks, OlderFound uint64

	// LostDisks were taken away, MemberChanges carried out, Trims segments that were dropped, Feeds begun and
	// Fed members that were given what they lacked; Archived is how far the archives came.
	LostDisks, MemberChanges, Trims, Feeds, Fed, Archived uint64
	// What the network did to messages between members: Cut were lost in a partition.
	Messages, Dropped, Repeated, Cut uint64
	// Moves are logs that were placed in another shard.
	Moves uint64
}

// Add adds the counts of another run.
func (c *Counts) Add(o Counts) {
	sum, add := reflect.ValueOf(c).Elem(), reflect.ValueOf(o)
	for i := range sum.NumField() {
		sum.Field(i).SetUint(sum.Field(i).Uint() + add.Field(i).Uint())
	}
}

// String lists what happened.
func (c Counts) String() string {
	v := reflect.ValueOf(c)
	var parts []string
	for i := range v.NumField() {
		parts = append(parts, fmt.Sprintf("%s %d", v.Type().Field(i).Name, v.Field(i).Uint()))
	}
	return strings.Join(parts, ", ")
}

// floors are what seeds must amount to, on average, in events per 100 seeds.
var floors = []struct {
	name string
	of   func(Counts) uint64
	min  uint64
}{
	{"acknowledged appends", func(c Counts) uint64 { return c.Acks }, 5000},
	{"reads", func(c Counts) uint64 { return c.Reads }, 1500},
	{"writers opened", func(c Counts) uint64 { return c.Opens }, 300},
	{"fenced writers", func(c Counts) uint64 { return c.Fenced }, 200},
	{"elections", func(c Counts) uint64 { return c.Elections }, 120},
	{"crashes", func(c Counts) uint64 { return c.Crashes }, 200},
	{"torn writes", func(c Counts) uint64 { return c.Torn }, 30},
	{"partitions", func(c Counts) uint64 { return c.Partitions }, 100},
	{"messages cut off", func(c Counts) uint64 { return c.Cut }, 2000},
	{"messages dropped", func(c Counts) uint64 { return c.Dropped }, 600},
	{"messages repeated", func(c Counts) uint64 { return c.Repeated }, 600},
	{"pauses", func(c Counts) uint64 { return c.Pauses }, 20},
	{"clock jumps", func(c Counts) uint64 { return c.ClockJumps }, 20},
	{"rewritten tails", func(c Counts) uint64 { return c.Truncations }, 12},
	{"seals", func(c Counts) uint64 { return c.Seals }, 120},
	{"failed syncs", func(c Counts) uint64 { return c.SyncErrors }, 10},
	{"full disks", func(c Counts) uint64 { return c.FullDisks }, 20},
	{"slow disks", func(c Counts) uint64 { return c.SlowDisks }, 20},
	{"flipped bits", func(c Counts) uint64 { return c.Rotted }, 4},
	{"older disks", func(c Counts) uint64 { return c.OlderDisks }, 2},
	{"lost disks", func(c Counts) uint64 { return c.LostDisks }, 5},
	{"changes of members", func(c Counts) uint64 { return c.MemberChanges }, 40},
	{"trimmed segments", func(c Counts) uint64 { return c.Trims }, 80},
	{"members fed", func(c Counts) uint64 { return c.Fed }, 3},
}

// voidSeeds is how many seeds a range must have for its floors to be asked for.
const voidSeeds = 100

// Void says why a range of seeds shows nothing: it did less than a minimum of work.
func (c Counts) Void(seeds uint64) error {
	if seeds < voidSeeds {
		return nil
	}
	for _, f := range floors {
		if got, want := f.of(c), f.min*seeds/100; got < want {
			return fmt.Errorf("void: %d %s in %d seeds, at least %d are wanted", got, f.name, seeds, want)
		}
	}
	return nil
}

// movesFloor is how many moves 100 seeds with several shards have at least.
const movesFloor = 150

// VoidOf is Void of runs with such options: with several shards the faults of a shard's own members are another simulation's.
func (c Counts) VoidOf(o Options, seeds uint64) error {
	if !o.Moves {
		return c.Void(seeds)
	}
	if want := movesFloor * seeds / 100; seeds >= voidSeeds && (c.Moves < want || c.Acks < want || c.Crashes < seeds || c.Partitions < seeds/2) {
		return fmt.Errorf("void: %d moves in %d seeds, at least %d are wanted, with appends, crashes and partitions: %v", c.Moves, seeds, want, c)
	}
	return nil
}
