package roles

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/tiering/target"
)

// CheckNames compares the names of the targets with those in their markers. Buckets under
// each other's names, after a move or a slip in a URL, would look as if every one of them
// had lost what it holds: the error says which is which. A target that does not answer or
// has no whole marker passes.
func (t *Targets) CheckNames(ctx context.Context) error {
	found := make([]string, len(t.All))
	var reads sync.WaitGroup
	for i, one := range t.All {
		if one.Bucket == nil {
			continue
		}
		reads.Go(func() {
			if m, err := target.ReadMarker(ctx, one.Bucket); err == nil && m.Name != one.Name {
				found[i] = fmt.Sprintf("%s is target %s and was given as %s", withoutName(t.urls[i]), m.Name, one.Name)
			}
		})
	}
	reads.Wait()
	wrong := slices.DeleteFunc(found, func(s string) bool { return s == "" })
	if len(wrong) == 0 {
		return ctx.Err()
	}
	return exit.Usagef("targets are mixed up, nothing is damaged by that: %s: put each under its own name, in the URL's name= or in its place", strings.Join(wrong, "; "))
}

// withoutName is a URL as far as it says where something is.
func withoutName(url string) string {
	where, _, _ := strings.Cut(url, "?")
	return where
}
