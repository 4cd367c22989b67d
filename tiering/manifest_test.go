package tiering

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/logcore/logcore"
)

// damagedManifest damages the manifest on some targets and checks that a reader still
// sees everything, that Verify names the targets, that an archiver taking over repairs
// them, and that nothing is left to say afterwards.
func damagedManifest(t *testing.T, where []int, kind ProblemKind, damage func(w *world, i int)) {
	t.Helper()
	w, covered := filled(t, 20)
	for _, i := range where {
		damage(w, i)
	}
	r, err := w.readerOn(w.targets())
	if err != nil || r.Covered() != covered {
		t.Fatalf("reader: %v, covers %d of %d", err, r.Covered(), covered)
	}
	report, err := Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || report.OK() != (Problem{Kind: kind}).Notice() {
		t.Fatalf("%v: OK is %v: %v", err, report.OK(), report.Problems)
	}
	for _, i := range where {
		if !slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Target == targetNames[i] && p.Kind == kind }) {
			t.Fatalf("no %s on %s in %v", kind, targetNames[i], report.Problems)
		}
	}
	a := w.start(nil)
	if a.Covered() != covered {
		t.Fatalf("covered %d, want %d", a.Covered(), covered)
	}
	w.hot.append(1, 10)
	a.flushAll()
	a.until("targets synced", func() bool {
		return !slices.ContainsFunc(a.TargetStatus(), func(s TargetStatus) bool { return !s.ManifestSynced })
	})
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.close()
	report, err = Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || slices.ContainsFunc(report.Problems, func(p Problem) bool { return strings.HasPrefix(string(p.Kind), "record") }) {
		t.Fatalf("after taking over: %v %v", err, report.Problems)
	}
	w.mustCheck(w.hot.Committed())
}

func records(w *world, i int) []string { return w.keysOn(i, "/manifest/") }

func TestManifestTruncated(t *testing.T) {
	damagedManifest(t, []int{0, 5}, ProblemRecordBehind, func(w *world, i int) {
		keys := records(w, i)
		for _, k := range keys[len(keys)-3:] {
			w.stores[i].Delete(t.Context(), k)
		}
	})
}

func TestManifestRolledBack(t *testing.T) {
	// Back to the first records: what an old backup of the bucket would hold.
	damagedManifest(t, []int{1, 2}, ProblemRecordBehind, func(w *world, i int) {
		for _, k := range records(w, i)[2:] {
			w.stores[i].Delete(t.Context(), k)
		}
	})
}

func TestManifestLost(t *testing.T) {
	damagedManifest(t, []int{3, 4}, ProblemRecordMissing, func(w *world, i int) {
		for _, k := range records(w, i) {
			w.stores[i].Delete(t.Context(), k)
		}
	})
}

func TestManifestRotten(t *testing.T) {
	damagedManifest(t, []int{0, 1}, ProblemRecordRotten, func(w *world, i int) {
		keys := records(w, i)
		w.rewriteObject(i, keys[len(keys)-1], func(b []byte) []byte { b[90] ^= 16; return b })
	})
}

// A fork written by someone with the key and the lower epoch: an old archiver that came
// back. The chain of the higher epoch counts.
func TestManifestForked(t *testing.T) {
	w, covered := filled(t, 21)
	m, err := loadManifest(t.Context(), newRemotes(w.bare(), ReaderOptions{}.withDefaults().OpTimeout), testCluster, 0, w.keys)
	if err != nil {
		t.Fatal(err)
	}
	forkPoint := m.state
	// The new archiver goes on with epoch 2.
	a := w.start(nil)
	w.hot.append(3, 10)
	a.flushAll()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.close()
	// The old one writes its own next record, and two more, on two targets.
	for range 3 {
		o := *forkPoint.live[len(forkPoint.live)-1]
		o.fragments = slices.Clone(o.fragments)
		o.fragments[0].target = ""
		rec := forkPoint.change(1, a.targetNames(), &o)
		encoded, err := encodeRecord(t.Context(), w.keys, rec)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{2, 3} {
			if err := w.stores[i].PutIfAbsent(t.Context(), rec.key(), encoded); err != nil {
				t.Fatal(err)
			}
		}
		if forkPoint, err = forkPoint.apply(rec, hashOf(encoded)); err != nil {
			t.Fatal(err)
		}
	}
	report, err := Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || report.OK() {
		t.Fatalf("%v: the fork is not found", err)
	}
	if slices.ContainsFunc(report.Problems, func(p Problem) bool { return p.Kind == ProblemRecordLeftover }) {
		t.Errorf("a whole fork passes for what a crash leaves: %v", report.Problems)
	}
	forks := 0
	for _, p := range report.Problems {
		if p.Kind == ProblemRecordFork && (p.Target == "b1" || p.Target == "b2") {
			forks++
		}
	}
	// Those before a rollup of the true chain are only old records, and go with them.
	if forks < 2 || forks%2 != 0 || report.Archives[0].Covered != covered+3 || report.Archives[0].Epoch != 2 {
		t.Fatalf("%d forks, %+v, %v", forks, report.Archives, report.Problems)
	}
	w.mustCheck(covered + 3)
	b := w.start(nil)
	b.close()
	if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || !report.OK() {
		t.Fatalf("after taking over: %v %v", err, report.Problems)
	}
}

// impostor has a key of his own and says that it is another one.
type impostor struct {
	*Keyring
	as KeyID
}

func (i impostor) Current() KeyID { return i.as }

func (i impostor) Derive(ctx context.Context, _ KeyID, salt []byte, info string) ([32]byte, error) {
	return i.Keyring.Derive(ctx, i.Keyring.Current(), salt, info)
}

// Someone without the key can't make a record that counts, whatever its epoch: neither
// under his own name nor under the archive's, nor as one who was given the signing over.
func TestForgedRecordDoesNotCount(t *testing.T) {
	other := newKeyring([][32]byte{{66}})
	for name, forge := range map[string]func(w *world, r *record) KeyProvider{
		"his own":   func(_ *world, r *record) KeyProvider { r.signers = nil; return other },
		"true name": func(w *world, r *record) KeyProvider { r.signers = nil; return impostor{other, w.keys.Current()} },
		"added": func(_ *world, r *record) KeyProvider {
			id, _ := SigningKey(context.Background(), other, other.Current())
			r.signers = append(slices.Clone(r.signers), signer{keyID: other.Current(), public: id, since: r.number})
			return other
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, covered := filled(t, 22)
			m, err := loadManifest(t.Context(), newRemotes(w.bare(), ReaderOptions{}.withDefaults().OpTimeout), testCluster, 0, w.keys)
			if err != nil {
				t.Fatal(err)
			}
			public, err := SigningKey(t.Context(), w.keys, w.keys.Current())
			if err != nil {
				t.Fatal(err)
			}
			rec := m.state.change(99, m.state.targets)
			encoded, err := encodeRecord(t.Context(), forge(w, rec), rec)
			if err != nil {
				t.Fatal(err)
			}
			for i := range w.stores {
				w.stores[i].PutIfAbsent(t.Context(), rec.key(), encoded)
			}
			for _, keys := range []KeyProvider{w.keys, PublicKeys{public}} {
				r, err := OpenReader(t.Context(), ReaderOptions{Targets: w.targets(), Keys: keys, Logger: quiet()})
				if err != nil || r.Covered() != covered || r.Epoch() != 1 {
					t.Fatalf("%v: epoch %d", err, r.Epoch())
				}
				report, err := Verify(t.Context(), w.targets(), keys, nil)
				if err != nil || report.OK() {
					t.Fatalf("%v: the forged record is not found", err)
				}
			}
		})
	}
}

// An auditor with the public key alone proves the archive; with another one he is told
// so, and nothing passes for damage.
func TestPublicKeyVerifies(t *testing.T) {
	w, covered := filled(t, 23)
	public, err := SigningKey(t.Context(), w.keys, w.keys.Current())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParsePublicKey(public.String()); err != nil || again != public {
		t.Fatal(err)
	}
	report, err := Verify(t.Context(), w.targets(), PublicKeys{public}, nil)
	if err != nil || len(report.Problems) > 0 || report.Archives[0].Covered != covered || report.Decrypted {
		t.Fatalf("%+v, %v", report, err)
	}
	_, err = Verify(t.Context(), w.targets(), PublicKeys{{1}}, nil)
	if !errors.Is(err, ErrUnknownSigner) || !strings.Contains(err.Error(), public.String()) {
		t.Fatal(err)
	}
	if _, err := ParsePublicKey("abc"); !errors.Is(err, logcore.ErrInvalid) {
		t.Fatal(err)
	}
}

// A stale listing hides the newest records; the reader finds them all the same.
func TestListingIsNotTheTruth(t *testing.T) {
	w := newWorld(t, 23)
	a := w.start(nil)
	w.hot.append(2, 10)
	a.flushAll()
	for _, f := range w.faults {
		f.Add(staleRecords())
	}
	w.hot.append(2, 10)
	a.flushAll()
	if err := a.quiesce(); err != nil {
		t.Fatal(err)
	}
	a.close()
	r, err := w.readerOn(w.targets())
	if err != nil || r.Covered() != 4 {
		t.Fatalf("%v, covered %d, want 4", err, r.Covered())
	}
}

// A record that an archiver was writing when it was killed is no damage.
func TestUnfinishedRecordIsANotice(t *testing.T) {
	w, covered := filled(t, 31)
	for _, i := range []int{0, 1, 2, 3} {
		w.stores[i].Delete(t.Context(), w.lastRecord(4))
	}
	report, err := Verify(t.Context(), w.targets(), w.keys, nil)
	if err != nil || !report.OK() || len(report.Problems) != 4 || report.Problems[0].Kind != ProblemRecordOpen {
		t.Fatalf("%v %v", err, report.Problems)
	}
	a := w.start(nil)
	if a.Covered() != covered {
		t.Fatalf("covered %d, want %d: the record was dropped", a.Covered(), covered)
	}
	a.close()
}

// When a committed record has vanished from the middle everywhere, the chain before it
// must not pass for the newest.
func TestBrokenChainIsRefused(t *testing.T) {
	w := newWorld(t, 24)
	a := w.start(nil)
	for range 4 {
		w.hot.append(1, 10)
		a.flushAll()
	}
	a.close()
	for i := range w.stores {
		w.stores[i].Delete(t.Context(), records(w, i)[2])
	}
	if _, err := w.readerOn(w.targets()); !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
	if report, err := Verify(t.Context(), w.targets(), w.keys, nil); err != nil || report.OK() {
		t.Fatalf("%v %v", err, report)
	}
}

func TestNewerArchiverFencesTheOlder(t *testing.T) {
	w := newWorld(t, 25)
	a := w.start(nil)
	w.hot.append(2, 10)
	a.flushAll()
	b := w.start(nil) // claims epoch 2
	w.hot.append(2, 10)
	if err := a.flushOrDie(); !errors.Is(err, logcore.ErrFenced) {
		t.Fatalf("the older one: %v, want ErrFenced", err)
	}
	if a.Covered() >= 3 {
		t.Fatalf("the fenced archiver covers %d", a.Covered())
	}
	b.flushAll()
	if err := b.quiesce(); err != nil {
		t.Fatal(err)
	}
	w.epoch = 0
	if _, err := Open(t.Context(), w.options()); !errors.Is(err, logcore.ErrFenced) {
		t.Fatalf("opening with epoch 1: %v, want ErrFenced", err)
	}
	b.close()
	w.mustCheck(w.hot.Committed())
}

func TestTakeOverNeedsAMajority(t *testing.T) {
	w, covered := filled(t, 26)
	for _, i := range []int{0, 1, 2} {
		w.faults[i].Down()
	}
	a := w.start(nil) // opens, and waits
	if a.Covered() != 0 || !strings.Contains(a.Status().LastError, "a1") {
		t.Fatalf("status %+v", a.Status())
	}
	if _, err := a.Reader().ReadRange(t.Context(), 1, 2, 1); !errors.Is(err, ErrUnproven) {
		t.Fatalf("reading before: %v", err)
	}
	w.faults[2].Up()
	a.until("taken over", func() bool { return a.Covered() == covered })
	w.hot.append(1, 10)
	a.flushAll()
	a.close()
}

func TestOtherHotTierIsRefused(t *testing.T) {
	w, _ := filled(t, 27)
	other := newHot(99) // other bytes
	other.append(int(w.hot.Committed())+5, 700)
	w.hot = other
	w.refused(ErrDiverged, "logcore restore")
}

func TestOlderHotTierIsRefused(t *testing.T) {
	w, _ := filled(t, 28)
	older := newHot(28)
	older.append(2, 800)
	w.hot = older
	w.refused(ErrDiverged, "older")
}

func TestOtherTargetsAreRefused(t *testing.T) {
	w, _ := filled(t, 29)
	o := w.options()
	o.Targets[3].Name = "x9"
	if _, err := Open(t.Context(), o); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "b2") {
		t.Fatalf("got %v, want the names", err)
	}
	o = w.options()
	o.Targets[1].Bucket = o.Targets[0].Bucket
	if _, err := Open(t.Context(), o); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "same bucket") {
		t.Fatalf("got %v, want the same bucket", err)
	}
	if _, err := Open(t.Context(), Options{}); !errors.Is(err, logcore.ErrInvalid) || !strings.Contains(err.Error(), "Source") || !strings.Contains(err.Error(), "Cluster") {
		t.Fatalf("got %v, want every bad field", err)
	}
}

// Two archivers with one epoch, one key and one log make the same bytes: each finds the
// other's and takes them for its own.
func TestDeterministicBytes(t *testing.T) {
	w := newWorld(t, 30)
	w.hot.append(20, 5000)
	w.hot.seal()
	other := newWorld(t, 30)
	other.hot = w.hot
	w.hot.onTrim = nil
	for _, x := range []*world{w, other} {
		a := x.start(nil)
		a.flushAll()
		a.close()
		w.hot.segments = []Segment{{First: 1, Last: 20, Sealed: true}} // trimmed by the first
	}
	for i := range w.stores {
		a, b := w.keysOn(i, ""), other.keysOn(i, "")
		isClaim := func(k string) bool { return strings.Contains(k, "/claim/") } // those are each one's own
		a, b = slices.DeleteFunc(a, isClaim), slices.DeleteFunc(b, isClaim)
		if len(a) < 2 || !slices.Equal(a, b) {
			t.Fatalf("keys differ: %v %v", a, b)
		}
		for _, k := range a {
			x, _ := w.stores[i].Get(t.Context(), k, 0, -1)
			y, _ := other.stores[i].Get(t.Context(), k, 0, -1)
			if !bytes.Equal(x, y) {
				t.Fatalf("%s differs", k)
			}
		}
	}
	// And on the very same targets: equal bytes count as success.
	a, err := Open(context.Background(), w.options())
	if err != nil || a.Covered() != 20 {
		t.Fatalf("%v", err)
	}
}
