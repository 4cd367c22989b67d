package catalog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/logcore/logcore"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew; read the diff")

// feeder gives entries LSNs and times as a leader would.
type feeder struct {
	lsn  logcore.LSN
	time logcore.HLC
}

func (f *feeder) entry(kind logcore.Kind, payload []byte) logcore.Entry {
	f.lsn++
	f.time += 70000
	e := logcore.Entry{LSN: f.lsn, Term: 1, Kind: kind, Time: f.time, Payload: payload}
	if kind.OfLog() {
		e.Tx = txOf(f.lsn)
	}
	return e
}

func txOf(lsn logcore.LSN) logcore.TxID { return logcore.TxID{1, 15: byte(lsn)} }

func (f *feeder) data(log logcore.LogID, epoch logcore.Epoch, seq uint64, body string) logcore.Entry {
	return f.entry(logcore.KindData, Record{Log: log, Epoch: epoch, Sequence: seq, Body: []byte(body)}.Append(nil))
}

func (f *feeder) command(c Command) logcore.Entry {
	return f.entry(logcore.KindCatalog, c.Encode())
}

// story is a history with every command and kind in it.
func story() []logcore.Entry {
	f := &feeder{time: logcore.HLC(1_790_000_000_000 << 16)}
	return []logcore.Entry{
		f.entry(logcore.KindRaft, nil),
		f.command(Command{Op: OpIncarnation, Incarnation: 0x1122334455667788}),
		f.command(Command{Op: OpCreate, Log: 1, Name: "orders"}),
		f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 1, Writer: "host-a/17", PayloadFormat: "pages"}),
		f.data(1, 1, 1, "first"),
		f.entry(logcore.KindPart, Record{Log: 1, Epoch: 1, Sequence: 2, Body: []byte("half")}.Append(nil)),
		f.entry(logcore.KindCommit, Record{Log: 1, Epoch: 1, Sequence: 3, Position: []byte("0/16B3748"), Body: []byte("rest")}.Append(nil)),
		f.command(Command{Op: OpCreate, Log: 2, Name: "orders/test", Parent: 1, LSN: 5}),
		f.command(Command{Op: OpOpenWriter, Log: 2, Epoch: 1, PayloadFormat: "pages"}),
		f.data(2, 1, 1, "on the branch"),
		f.command(Command{Op: OpCloseWriter, Log: 2, Epoch: 1}),
		f.command(Command{Op: OpTruncate, Log: 1, LSN: 6}),
		f.entry(logcore.KindSeal, nil),
	}
}

func fold(t testing.TB, s *State, entries []logcore.Entry) *State {
	t.Helper()
	for _, e := range entries {
		if err := s.Apply(e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n got %s\nwant %s", path, got, want)
	}
}

// TestGolden holds the encoders byte for byte against format version 2.
func TestGolden(t *testing.T) {
	var out bytes.Buffer
	entries := story()
	for _, e := range entries {
		fmt.Fprintf(&out, "%d %v %s\n", e.LSN, e.Kind, hex.EncodeToString(e.Payload))
	}
	fmt.Fprintf(&out, "checkpoint %s\n", hex.EncodeToString(fold(t, NewState(), entries).EncodeCheckpoint()))
	golden(t, "v2.golden.txt", out.Bytes())
}

// TestGoldenDecodes reads the fixture as an old file would be read, without the encoders.
func TestGoldenDecodes(t *testing.T) {
	raw, err := os.ReadFile("testdata/v2.golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "checkpoint ")
	b, err := hex.DecodeString(last)
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeCheckpoint(b)
	if err != nil {
		t.Fatal(err)
	}
	orders, err := s.ByName("orders")
	if err != nil {
		t.Fatal(err)
	}
	if orders.LastLSN != 7 || orders.Entries != 3 || orders.Bytes != 13 || orders.FirstLSN() != 6 || !orders.WriterOpen || orders.Writer != "host-a/17" {
		t.Errorf("orders = %+v", orders)
	}
	if orders.PayloadFormat != "pages" {
		t.Errorf("orders holds %q", orders.PayloadFormat)
	}
	if p, ok := orders.Placed(2); !ok || p.LSN != 6 || !p.Holds(txOf(6)) || p.Holds(txOf(7)) {
		t.Errorf("sequence 2 placed at %v, %v", p, ok)
	}
	branch, err := s.ByName("orders/test")
	if err != nil {
		t.Fatal(err)
	}
	if branch.Parent != 1 || branch.BranchLSN != 5 || branch.LastLSN != 10 || branch.WriterOpen || branch.OriginLSN != 4 {
		t.Errorf("branch = %+v", branch)
	}
	if _, ok := branch.Placed(1); ok {
		t.Error("a closed epoch's append is answered again")
	}
}

// TestCheckpointAnywhere: fold(all) == fold(from a checkpoint at any place), and the
// checkpoint of a state is that of its decoded self.
func TestCheckpointAnywhere(t *testing.T) {
	entries := story()
	want := fold(t, NewState(), entries).EncodeCheckpoint()
	for cut := 1; cut < len(entries); cut++ {
		before := fold(t, NewState(), entries[:cut])
		s := NewState()
		checkpoint := logcore.Entry{LSN: before.LSN + 1, Kind: logcore.KindCheckpoint, Payload: before.EncodeCheckpoint()}
		fold(t, s, []logcore.Entry{checkpoint})
		s.LSN, s.Time = before.LSN, before.Time // the rest of the story does not know of the extra entry
		if got := fold(t, s, entries[cut:]).EncodeCheckpoint(); !bytes.Equal(got, want) {
			t.Fatalf("cut at %d: %x\nwant %x", cut, got, want)
		}
		clone := before.Clone()
		fold(t, clone, entries[cut:])
		if !bytes.Equal(before.EncodeCheckpoint(), checkpoint.Payload) {
			t.Fatalf("cut at %d: folding a clone changed the original", cut)
		}
	}
}

func TestCheckpointMustAgree(t *testing.T) {
	s := fold(t, NewState(), story())
	other := s.Clone()
	other.logs[1].Bytes++
	err := s.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCheckpoint, Payload: other.EncodeCheckpoint()})
	if !errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("a checkpoint that differs from the fold: %v", err)
	}
	if err := s.Apply(logcore.Entry{LSN: s.LSN + 1, Kind: logcore.KindCheckpoint, Payload: s.EncodeCheckpoint()}); err != nil {
		t.Fatal(err)
	}
}

func TestApplyRefusesWhatALeaderNeverProposes(t *testing.T) {
	for name, next := range map[string]func(f *feeder) logcore.Entry{
		"gap":            func(f *feeder) logcore.Entry { f.lsn++; return f.entry(logcore.KindSeal, nil) },
		"stale epoch":    func(f *feeder) logcore.Entry { return f.data(1, 0x7fffffff, 4, "x") },
		"closed epoch":   func(f *feeder) logcore.Entry { return f.data(2, 1, 2, "x") },
		"sequence gap":   func(f *feeder) logcore.Entry { return f.data(1, 1, 5, "x") },
		"sequence again": func(f *feeder) logcore.Entry { return f.data(1, 1, 3, "x") },
		"unknown log":    func(f *feeder) logcore.Entry { return f.data(9, 1, 1, "x") },
		"name taken":     func(f *feeder) logcore.Entry { return f.command(Command{Op: OpCreate, Log: 3, Name: "orders"}) },
		"id used":        func(f *feeder) logcore.Entry { return f.command(Command{Op: OpCreate, Log: 2, Name: "new"}) },
		"branch in future": func(f *feeder) logcore.Entry {
			return f.command(Command{Op: OpCreate, Log: 3, Name: "n", Parent: 1, LSN: 14})
		},
		"another format": func(f *feeder) logcore.Entry {
			return f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 2, PayloadFormat: "raw"})
		},
		"format not said": func(f *feeder) logcore.Entry { return f.command(Command{Op: OpOpenWriter, Log: 2, Epoch: 2}) },
		"epoch jump":      func(f *feeder) logcore.Entry { return f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 3}) },
	} {
		s := fold(t, NewState(), story())
		before := s.EncodeCheckpoint()
		f := &feeder{lsn: s.LSN, time: s.Time}
		if err := s.Apply(next(f)); !errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
		if !bytes.Equal(before, s.EncodeCheckpoint()) {
			t.Errorf("%s: the state changed", name)
		}
	}
}

// TestPayloadFormat: the first writer that names it settles it, for branches too.
func TestPayloadFormat(t *testing.T) {
	f := &feeder{}
	s := fold(t, NewState(), []logcore.Entry{
		f.command(Command{Op: OpCreate, Log: 1, Name: "a"}),
		f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 1}), // does not say
		f.data(1, 1, 1, "x"),
		f.command(Command{Op: OpOpenWriter, Log: 1, Epoch: 2, PayloadFormat: "raw"}),
		f.command(Command{Op: OpCreate, Log: 2, Name: "b", Parent: 1, LSN: 3}),
	})
	for id := logcore.LogID(1); id <= 2; id++ {
		l, err := s.ByID(id)
		if err != nil || l.PayloadFormat != "raw" {
			t.Fatalf("log %d: %+v, %v", id, l, err)
		}
		for format, want := range map[string]error{"raw": nil, "pages": logcore.ErrPayloadFormat, "": logcore.ErrPayloadFormat, "Raw": logcore.ErrInvalid,
			strings.Repeat("r", PayloadFormatMax+1): logcore.ErrInvalid} {
			if err := s.Check(Command{Op: OpOpenWriter, Log: id, Epoch: l.Epoch + 1, PayloadFormat: format}, s.LSN+1); !errors.Is(err, want) {
				t.Errorf("log %d, format %q: %v, want %v", id, format, err, want)
			}
		}
	}
}

// TestIncarnationEndsEpochs: what another incarnation granted is worth nothing.
func TestIncarnationEndsEpochs(t *testing.T) {
	s := fold(t, NewState(), story())
	f := &feeder{lsn: s.LSN, time: s.Time}
	granted := s.Incarnation
	if err := s.CheckIncarnation(granted); err != nil {
		t.Fatal(err)
	}
	fold(t, s, []logcore.Entry{f.command(Command{Op: OpIncarnation, Incarnation: 9})})
	if err := s.CheckIncarnation(granted); !errors.Is(err, logcore.ErrFenced) {
		t.Errorf("epoch of an earlier incarnation: %v", err)
	}
	if _, err := s.CheckWriter(1, 1); !errors.Is(err, logcore.ErrFenced) {
		t.Errorf("writer of an earlier incarnation: %v", err)
	}
}

// TestVersions: an unknown version, flag or command is never corruption.
func TestVersions(t *testing.T) {
	s := fold(t, NewState(), story())
	record := Record{Log: 1, Epoch: 1, Sequence: 1}.Append(nil)
	command := Command{Op: OpIncarnation, Incarnation: 1}.Encode()
	checkpoint := s.EncodeCheckpoint()
	decode := map[string]func([]byte) error{
		"record":     func(b []byte) error { _, err := DecodeRecord(b); return err },
		"command":    func(b []byte) error { _, err := DecodeCommand(b); return err },
		"checkpoint": func(b []byte) error { _, err := DecodeCheckpoint(b); return err },
	}
	good := map[string][]byte{"record": record, "command": command, "checkpoint": checkpoint}
	for _, c := range []struct {
		what string
		name string
		set  map[int]byte
		want error
	}{
		{"record", "newer, readable", map[int]byte{2: 9}, nil},
		{"record", "newer", map[int]byte{2: 9, 3: 2}, logcore.ErrUnsupportedVersion},
		{"record", "flag", map[int]byte{4: 2}, logcore.ErrUnsupportedVersion},
		{"record", "magic", map[int]byte{0: 1}, logcore.ErrCorrupt},
		{"record", "version 0", map[int]byte{2: 0}, logcore.ErrCorrupt},
		{"command", "newer, readable", map[int]byte{2: 9}, nil},
		{"command", "older", map[int]byte{2: 1, 3: 1}, logcore.ErrUnsupportedVersion},
		{"command", "newer", map[int]byte{2: 9, 3: 9}, logcore.ErrUnsupportedVersion},
		{"command", "flag", map[int]byte{4: 0x80}, logcore.ErrUnsupportedVersion},
		{"command", "op", map[int]byte{5: 200}, logcore.ErrUnsupportedVersion},
		{"command", "op 0", map[int]byte{5: 0}, logcore.ErrCorrupt},
		{"checkpoint", "newer, readable", map[int]byte{4: 9}, nil},
		{"checkpoint", "newer", map[int]byte{4: 9, 6: 3}, logcore.ErrUnsupportedVersion},
		{"checkpoint", "older", map[int]byte{4: 1, 6: 1}, logcore.ErrUnsupportedVersion},
		{"checkpoint", "flag", map[int]byte{8: 0x80}, logcore.ErrUnsupportedVersion},
		{"checkpoint", "log flag", map[int]byte{40 + 96: 17}, logcore.ErrUnsupportedVersion},
		{"checkpoint", "magic", map[int]byte{0: 0}, logcore.ErrCorrupt},
	} {
		b := bytes.Clone(good[c.what])
		for at, v := range c.set {
			b[at] = v
		}
		err := decode[c.what](b)
		if !errors.Is(err, c.want) || c.want == logcore.ErrUnsupportedVersion && errors.Is(err, logcore.ErrCorrupt) {
			t.Errorf("%s, %s: %v, want %v", c.what, c.name, err, c.want)
		}
	}
	for what, b := range good {
		for n := range len(b) {
			if err := decode[what](b[:n]); err == nil {
				t.Fatalf("%s cut to %d of %d bytes decodes", what, n, len(b))
			}
		}
	}
}

// model is the fold told a second time, as plainly as possible.
type model struct {
	names   []string
	epoch   map[string]int
	open    map[string]bool
	bodies  map[string][]string
	placed  map[string][]logcore.LSN // of the epoch
	lastLSN map[string]logcore.LSN
}

// TestPropertyFold runs random valid histories against the model, with a trip through
// a checkpoint at random places.
func TestPropertyFold(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, f := NewState(), &feeder{}
		m := model{epoch: map[string]int{}, open: map[string]bool{}, bodies: map[string][]string{}, placed: map[string][]logcore.LSN{}, lastLSN: map[string]logcore.LSN{}}
		apply := func(e logcore.Entry) {
			if err := s.Apply(e); err != nil {
				rt.Fatal(err)
			}
		}
		apply(f.entry(logcore.KindRaft, nil))
		pick := func() string { return rapid.SampledFrom(m.names).Draw(rt, "log") }
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				name := fmt.Sprintf("log%d", len(m.names))
				m.names = append(m.names, name)
				apply(f.command(Command{Op: OpCreate, Log: s.NextLog(), Name: name}))
			},
			"open": func(rt *rapid.T) {
				if len(m.names) == 0 {
					rt.Skip()
				}
				name := pick()
				m.epoch[name]++
				m.open[name], m.placed[name] = true, nil
				l, _ := s.ByName(name)
				apply(f.command(Command{Op: OpOpenWriter, Log: l.ID, Epoch: logcore.Epoch(m.epoch[name])}))
			},
			"append": func(rt *rapid.T) {
				if len(m.names) == 0 {
					rt.Skip()
				}
				name := pick()
				if !m.open[name] {
					rt.Skip()
				}
				l, _ := s.ByName(name)
				for range rapid.IntRange(1, 300).Draw(rt, "n") {
					apply(f.data(l.ID, l.Epoch, l.Sequence+1, "x"))
					m.bodies[name] = append(m.bodies[name], "x")
					m.placed[name] = append(m.placed[name], f.lsn)
					m.lastLSN[name] = f.lsn
				}
			},
			"checkpoint": func(rt *rapid.T) {
				e := f.entry(logcore.KindCheckpoint, s.EncodeCheckpoint())
				s = NewState()
				apply(e)
			},
			"": func(rt *rapid.T) {
				for _, name := range m.names {
					l, err := s.ByName(name)
					if err != nil {
						rt.Fatal(err)
					}
					if int(l.Epoch) != m.epoch[name] || int(l.Entries) != len(m.bodies[name]) || l.LastLSN != m.lastLSN[name] || int(l.Sequence) != len(m.placed[name]) {
						rt.Fatalf("%s = %+v, want epoch %d, %d entries, last %d", name, l, m.epoch[name], len(m.bodies[name]), m.lastLSN[name])
					}
					for i, want := range m.placed[name] {
						p, ok := l.Placed(uint64(i + 1))
						remembered := len(m.placed[name])-i <= WindowEntries
						if ok != remembered || ok && p.LSN != want {
							rt.Fatalf("%s: sequence %d of %d placed at %v, %v; want %d", name, i+1, len(m.placed[name]), p, ok, want)
						}
					}
				}
			},
		})
	})
}

func FuzzDecode(f *testing.F) {
	for _, e := range story() {
		f.Add(e.Payload)
	}
	f.Add(fold(f, NewState(), story()).EncodeCheckpoint())
	entries, state := stripesStory(f)
	for _, e := range entries {
		f.Add(e.Payload)
	}
	f.Add(state.EncodeCheckpoint())
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRecord(b); err == nil {
			if b[2] == recordVersion && !bytes.Equal(r.Append(nil), b) {
				t.Fatalf("record %x decodes to %+v", b, r)
			}
		} else if !errors.Is(err, logcore.ErrCorrupt) && !errors.Is(err, logcore.ErrUnsupportedVersion) {
			t.Fatalf("untyped: %v", err)
		}
		if c, err := DecodeCommand(b); err == nil {
			if b[2] == catalogVersion && b[3] == catalogVersion && !bytes.Equal(c.Encode(), b) {
				t.Fatalf("command %x decodes to %+v", b, c)
			}
		}
		if s, err := DecodeCheckpoint(b); err == nil {
			again, err := DecodeCheckpoint(s.EncodeCheckpoint())
			if err != nil || !reflect.DeepEqual(s, again) {
				t.Fatalf("checkpoint %x: %v", b, err)
			}
		}
	})
}
