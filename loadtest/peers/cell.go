package main

import (
	"fmt"
	"path"
	"strings"
)

// cell is one condition that every contender is measured under.
type cell struct {
	payload  int // bytes of one append
	inflight int // appends waiting for their sync at any moment
}

// String is the cell's name, which --cells matches: "128x64".
func (c cell) String() string { return fmt.Sprintf("%dx%d", c.payload, c.inflight) }

var (
	payloads  = []int{128, 1 << 10, 8 << 10}
	inflights = []int{1, 16, 64, 256}
)

// selectCells returns the cells whose name matches one of the comma-separated glob
// patterns; an empty filter means all. A pattern that matches nothing is an error,
// since a misspelt filter would otherwise measure less than was asked for.
func selectCells(filter string) ([]cell, error) {
	var all []cell
	for _, p := range payloads {
		for _, n := range inflights {
			all = append(all, cell{p, n})
		}
	}
	return selectBy(all, filter, "cell", cell.String)
}

// selectBy keeps the items whose name matches one of the patterns, in their order.
func selectBy[T any](all []T, filter, what string, name func(T) string) ([]T, error) {
	if filter == "" {
		return all, nil
	}
	patterns := strings.Split(filter, ",")
	used := make([]bool, len(patterns))
	var kept []T
	for _, item := range all {
		keep := false
		for i, p := range patterns {
			ok, err := path.Match(p, name(item))
			if err != nil {
				return nil, fmt.Errorf("pattern %q of the %s filter: %w", p, what, err)
			}
			used[i] = used[i] || ok
			keep = keep || ok
		}
		if keep {
			kept = append(kept, item)
		}
	}
	for i, p := range patterns {
		if !used[i] {
			return nil, fmt.Errorf("pattern %q matches no %s", p, what)
		}
	}
	return kept, nil
}
