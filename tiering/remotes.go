package tiering

import (
	"errors"
	"slices"
)

// errFormer stands for the answer of a target that was removed: it is not asked.
var errFormer = errors.New("removed from the archive")

// all returns every target there is, in a fixed order: later ones come behind.
func (a *Archiver) all() []*remote { return *a.remotes.Load() }

// setRemotes sets the targets and gives the reader the same.
func (a *Archiver) setRemotes(remotes []*remote) {
	a.remotes.Store(&remotes)
	r := newReader(remotes, a.o.Keys, a.o.Corruptions, a.log, a.state.Load)
	r.onRotten = a.noteRotten
	a.reader.Store(r)
}

// inUse reports whether a target is one of the archive's or about to be: not a former one.
func (s *state) inUse(name string) bool { return !slices.Contains(s.left, name) }

// Targets returns the targets that are in use or about to be.
func (a *Archiver) Targets() (out []Target) {
	s := a.state.Load()
	for _, r := range a.all() {
		if s == nil || s.inUse(r.Name) {
			out = append(out, r.Target)
		}
	}
	return out
}
