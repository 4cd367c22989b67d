package sampledb

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

func memory(t *testing.T) *sqlite3.Conn {
	t.Helper()
	conn, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// sample returns a loaded sample after count transactions, and what was acknowledged.
func sample(t *testing.T, characters, count int) (*sqlite3.Conn, []Ack) {
	t.Helper()
	conn := memory(t)
	var acks []Ack
	s, err := NewSession(t.Context(), conn, Options{CharactersMax: characters, Acknowledged: func(a Ack) error {
		acks = append(acks, a)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), 1, count); err != nil {
		t.Fatal(err)
	}
	return conn, acks
}

func TestWholeSample(t *testing.T) {
	conn, acks := sample(t, 0, 300)
	state, err := Verify(conn)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := texts(conn, `SELECT count(*) FROM sqlite_schema WHERE type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows in %s tables after %d transactions", state.Rows, tables[0], state.N)
	if state.Rows < 40_000 || state.N != int64(len(acks)) || state.Digest != acks[len(acks)-1].Digest {
		t.Fatalf("state %+v, last acknowledged %+v", state, acks[len(acks)-1])
	}
	ledger, err := Ledger(conn)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range acks {
		if l := ledger[i]; l.N != a.N || l.Digest != a.Digest || l.Kind != a.Kind || l.Changes != a.Changes {
			t.Fatalf("ledger says %+v, acknowledged was %+v", l, a)
		}
	}
	kinds := make(map[string]int)
	for _, a := range acks {
		kinds[a.Kind]++
	}
	for _, s := range steps {
		if kinds[s.kind] == 0 {
			t.Errorf("no transaction %q in the run", s.kind)
		}
	}
}

// The incremental digest must equal the one computed from all rows after every
// transaction, whatever REPLACE, cascades and real numbers do.
func TestDigestAfterEveryTransaction(t *testing.T) {
	conn := memory(t)
	s, err := NewSession(t.Context(), conn, Options{CharactersMax: 300, Acknowledged: func(a Ack) error {
		full, _, err := ContentDigest(conn, ledgerTable)
		if err != nil {
			return err
		}
		if full != a.Digest {
			t.Fatalf("after transaction %d (%s) the digest is %v, the rows give %v", a.N, a.Kind, a.Digest, full)
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), 7, 250); err != nil {
		t.Fatal(err)
	}
}

func TestSameSeedSameContent(t *testing.T) {
	_, a := sample(t, 200, 120)
	_, b := sample(t, 200, 120)
	for i := range a {
		if a[i].Digest != b[i].Digest {
			t.Fatalf("transaction %d differs between two runs", a[i].N)
		}
	}
}

func TestVerifyFindsWhatWasChanged(t *testing.T) {
	for _, damage := range []string{
		`UPDATE character SET views = views + 1 WHERE codepoint = (SELECT max(codepoint) FROM character)`,
		`DELETE FROM note WHERE id = (SELECT max(id) FROM note)`,
		`UPDATE reader SET points = -points WHERE points > 0`,
		`INSERT INTO script VALUES (9999, 'Klingon')`,
		`UPDATE note SET body = CAST(body AS BLOB)`,
		`CREATE INDEX extra ON note(stars)`,
		`DROP INDEX note_reader`,
		`DELETE FROM ledger WHERE n = 40`,
		`DELETE FROM ledger WHERE n = (SELECT max(n) FROM ledger)`,
		`UPDATE ledger SET n = n + 1 WHERE n = (SELECT max(n) FROM ledger)`,
		`DELETE FROM ledger`,
		`PRAGMA foreign_keys = off; UPDATE note SET reader = 77777`,
	} {
		conn, _ := sample(t, 200, 150)
		if _, err := Verify(conn); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(damage); err != nil {
			t.Fatalf("%s: %v", damage, err)
		}
		if _, err := Verify(conn); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: Verify says %v", damage, err)
		}
	}
}

func TestSessionGoesOn(t *testing.T) {
	conn := memory(t)
	ctx, cancel := context.WithCancel(t.Context())
	opts := Options{CharactersMax: 700, RowsPerTx: 100, Acknowledged: func(a Ack) error {
		if a.N == 20 {
			cancel() // in mid-load
		}
		return nil
	}}
	s, err := NewSession(ctx, conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Load = %v, want canceled", err)
	}
	s.Close()
	opts.Acknowledged = nil
	if s, err = NewSession(t.Context(), conn, opts); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), 3, 20); err != nil {
		t.Fatal(err)
	}
	state, err := Verify(conn)
	if err != nil || state.N != s.N() || state.Rows < rows {
		t.Fatalf("Verify = %+v, %v; session at %d, loaded %d rows", state, err, s.N(), rows)
	}
}

func TestFailedTransactionLeavesNoTrace(t *testing.T) {
	conn := memory(t)
	s, err := NewSession(t.Context(), conn, Options{CharactersMax: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err = s.transaction(t.Context(), "fails", func() error {
		if err := s.exec(`DELETE FROM decomposition`); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("transaction = %v", err)
	}
	if err := s.Run(t.Context(), 1, 5); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(conn); err != nil {
		t.Fatal(err)
	}
}

func TestDigestArithmetic(t *testing.T) {
	var h rowHasher
	rows := make([]Digest, 50)
	var forward, backward Digest
	for i := range rows {
		h.begin("t")
		h.integer(int64(i))
		rows[i] = h.sum()
		forward.add(rows[i])
	}
	for i := len(rows) - 1; i >= 0; i-- {
		backward.add(rows[i])
	}
	if forward != backward || forward == (Digest{}) {
		t.Fatal("the sum depends on the order")
	}
	for _, r := range rows {
		forward.sub(r)
	}
	if forward != (Digest{}) {
		t.Fatalf("%v left after everything was taken out", forward)
	}
	// The same bytes split differently must not look the same.
	h.begin("t")
	h.bytes('t', []byte("ab"))
	h.bytes('t', []byte("c"))
	one := h.sum()
	h.begin("t")
	h.bytes('t', []byte("a"))
	h.bytes('t', []byte("bc"))
	if one == h.sum() {
		t.Fatal("columns run into each other")
	}
}

func TestAckAsJSON(t *testing.T) {
	_, acks := sample(t, 50, 3)
	want := acks[len(acks)-1]
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Ack
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest || got.N != want.N || got.Commit != want.Commit || !got.Began.Equal(want.Began) {
		t.Fatalf("%s became %+v", data, got)
	}
	if err := json.Unmarshal([]byte(`{"Digest":"abc"}`), &got); err == nil {
		t.Fatal("a short digest was read")
	}
}
