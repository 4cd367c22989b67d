package sqlite

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/logcore/logcore"
)

// setting is one way to run SQLite and LogCore; random runs are made under many.
type setting struct {
	pageSize, autoVacuum int
	journal              string
	cachePages           int   // SQLite's own cache; few = it spills in mid-transaction
	cacheBytes           int64 // ours
	entryMax             int
}

func randomSetting(rng *rand.Rand) setting {
	s := setting{
		pageSize:   512 << rng.IntN(8),
		autoVacuum: rng.IntN(3),
		journal:    []string{"delete", "memory", "truncate", "persist"}[rng.IntN(4)],
		cachePages: []int{1, 10, 2000}[rng.IntN(3)],
		cacheBytes: []int64{1, 100_000, 64 << 20}[rng.IntN(3)],
		entryMax:   []int{66_000, 16 << 20}[rng.IntN(2)],
	}
	return s
}

func (s setting) pragmas() string {
	return fmt.Sprintf(`PRAGMA page_size = %d; PRAGMA auto_vacuum = %d; PRAGMA journal_mode = %s; PRAGMA cache_size = %d; PRAGMA foreign_keys = on`,
		s.pageSize, s.autoVacuum, s.journal, s.cachePages)
}

const workloadSchema = `
	CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INT);
	CREATE TABLE child(p INTEGER NOT NULL REFERENCES parent(id) ON DELETE CASCADE, k TEXT, body, PRIMARY KEY (p, k)) WITHOUT ROWID;
	CREATE INDEX parent_name ON parent(name);
	CREATE TABLE big(id INTEGER PRIMARY KEY, body TEXT UNIQUE);`

// statement returns a random statement; the ones that fail must fail in the oracle too.
func statement(rng *rand.Rand) string {
	id := rng.IntN(60)
	text := func(max int) string {
		return fmt.Sprintf(`replace(hex(zeroblob(%d)), '00', '%02x')`, rng.IntN(max), rng.IntN(256))
	}
	switch rng.IntN(24) {
	case 0, 1, 2:
		return fmt.Sprintf(`INSERT OR REPLACE INTO parent VALUES (%d, %s, %d)`, id, text(40), rng.IntN(9))
	case 3, 4:
		return fmt.Sprintf(`INSERT INTO child SELECT id, 'k%d', %s FROM parent WHERE id %% 7 = %d`, rng.IntN(5), text(300), rng.IntN(7))
	case 5, 6:
		return fmt.Sprintf(`INSERT OR IGNORE INTO big VALUES (%d, %s || %d)`, id, text(20_000), id)
	case 7:
		return fmt.Sprintf(`UPDATE big SET body = body || %s WHERE id < %d`, text(100), id)
	case 8:
		return fmt.Sprintf(`UPDATE parent SET name = %s, n = n + 1 WHERE id %% 5 = %d`, text(60), rng.IntN(5))
	case 9:
		return fmt.Sprintf(`DELETE FROM parent WHERE id = %d`, id)
	case 10:
		return fmt.Sprintf(`DELETE FROM big WHERE id BETWEEN %d AND %d`, id, id+rng.IntN(20))
	case 11:
		// Fails half way: SQLite undoes the statement alone, from its statement journal.
		return fmt.Sprintf(`INSERT INTO big SELECT id + 1, body || 'x' FROM big ORDER BY (id + %d) %% 7`, id)
	case 12:
		return fmt.Sprintf(`UPDATE big SET id = %d - id`, 30+id)
	case 13:
		return `SAVEPOINT s`
	case 14:
		return `ROLLBACK TO s`
	case 15:
		return `RELEASE s`
	case 16, 17:
		return `BEGIN`
	case 18, 19:
		return `COMMIT`
	case 20:
		return `ROLLBACK`
	case 21:
		return []string{`CREATE INDEX IF NOT EXISTS big_len ON big(length(body))`, `DROP INDEX IF EXISTS big_len`,
			`CREATE TABLE IF NOT EXISTS extra AS SELECT * FROM big`, `DROP TABLE IF EXISTS extra`, `ANALYZE`, `REINDEX`}[rng.IntN(6)]
	case 22:
		return []string{`PRAGMA incremental_vacuum(3)`, `PRAGMA incremental_vacuum`, `DELETE FROM big`, `DELETE FROM parent`}[rng.IntN(4)]
	}
	if rng.IntN(3) > 0 {
		return `VACUUM`
	}
	return fmt.Sprintf(`PRAGMA page_size = %d; VACUUM`, 512<<rng.IntN(8))
}

// TestWorkloadAgainstSQLite runs random statements here and in a plain in-memory
// SQLite: the same statements must fail and the same content must come out, now, after
// reopening, and at every earlier LSN.
func TestWorkloadAgainstSQLite(t *testing.T) {
	for seed := range uint64(runs(t, "LOGCORE_SEEDS", 10)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			s, m := randomSetting(rng), newModel()
			m.entryMax = s.entryMax
			workload(t, rng, s, 300, m)
		})
	}
}

func workload(t *testing.T, rng *rand.Rand, s setting, steps int, source Source) {
	t.Logf("%+v", s)
	oracle, err := sqlite3.Open(":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer oracle.Close()
	opts := Options{Source: source, CacheBytes: s.cacheBytes, Logger: quiet}
	h := open(t, opts)
	both := func(sql string) {
		want, got := oracle.Exec(sql), h.try(sql)
		if (want == nil) != (got == nil) {
			t.Fatalf("%s\nSQLite says %v, here it is %v", sql, want, got)
		}
	}
	both(s.pragmas())
	both(workloadSchema)
	history := make(map[logcore.LSN]string)
	for range steps {
		both(statement(rng))
		if !oracle.GetAutocommit() || rng.IntN(12) > 0 {
			continue
		}
		check(t, h.conn)
		want := dump(t, oracle)
		if got := dump(t, h.conn); got != want {
			t.Fatalf("content differs\n%.2000s\nwant\n%.2000s", got, want)
		}
		history[h.db.LSN()] = want
		if rng.IntN(3) == 0 {
			h.close()
			h = open(t, opts)
			both(fmt.Sprintf(`PRAGMA cache_size = %d; PRAGMA journal_mode = %s`, s.cachePages, s.journal))
		}
	}
	for lsn, want := range history {
		pinned := open(t, Options{Source: source, LSN: lsn, CacheBytes: s.cacheBytes, Logger: quiet})
		check(t, pinned.conn)
		if dump(t, pinned.conn) != want {
			t.Fatalf("LSN %d does not read as it was", lsn)
		}
		pinned.close()
	}
}
