package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// rotation returns the order of n contenders in a round: each round begins one
// further, so that over n rounds everyone stands at every place once.
func rotation(n, round int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (i + round) % n
	}
	return order
}

// median returns the middle of values, the mean of the two middle ones when their
// number is even, 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// series is one contender's turns in a cell, by round; a missing turn is nil.
type series struct {
	contender
	turns []*figures
	err   error // of the turn that failed, after which it took no more
}

// pick returns one figure of every turn taken.
func (s *series) pick(get func(figures) float64) []float64 {
	var values []float64
	for _, f := range s.turns {
		if f != nil {
			values = append(values, get(*f))
		}
	}
	return values
}

func opsOf(f figures) float64 { return f.opsPerS }

// runCell gives every contender one turn in each round. It returns the context's
// error when interrupted; a contender's own error stays in its series.
func runCell(ctx context.Context, list []contender, rounds int, turn func(contender) (figures, error)) ([]*series, error) {
	all := make([]*series, len(list))
	for i, c := range list {
		all[i] = &series{contender: c, turns: make([]*figures, rounds)}
	}
	for round := range rounds {
		for _, i := range rotation(len(list), round) {
			s := all[i]
			if s.err != nil {
				continue
			}
			f, err := turn(s.contender)
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err != nil {
				s.err = fmt.Errorf("round %d: %w", round+1, err)
				continue
			}
			s.turns[round] = &f
		}
	}
	return all, nil
}

// limitOf returns the device limit with the highest median, nil when none ran.
func limitOf(all []*series) *series {
	var limits []*series
	for _, s := range all {
		if s.limit && len(s.pick(opsOf)) > 0 {
			limits = append(limits, s)
		}
	}
	if len(limits) == 0 {
		return nil
	}
	return slices.MaxFunc(limits, func(a, b *series) int {
		return cmp.Compare(median(a.pick(opsOf)), median(b.pick(opsOf)))
	})
}

// ratios returns s over the limit, for every round in which both ran.
func ratios(s, limit *series) []float64 {
	var values []float64
	for round, f := range s.turns {
		if f != nil && limit.turns[round] != nil {
			values = append(values, f.opsPerS/limit.turns[round].opsPerS)
		}
	}
	return values
}
