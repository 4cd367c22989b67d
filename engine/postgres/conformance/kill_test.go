//go:build postgres

package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	kills   = 20 // at scale; the bank's are fewer
	clients = 8

	bankKills = 5
)

// bank is a workload whose every transaction can be checked afterwards: it moves money, and
// notes who did it and which one it was.
type bank struct {
	conn  string
	acked [clients]int // the last transaction of each client that was acknowledged
	asked [clients]int // the last that was begun
}

func (b *bank) setUp(t *testing.T) {
	c := connect(t, b.conn)
	query(t, c, `create table accounts(id int primary key, balance bigint not null, filler char(84));
		insert into accounts select g, 0, '' from generate_series(1, 20000) g;
		create table tellers(id int primary key, balance bigint not null);
		insert into tellers select g, 0 from generate_series(1, 50) g;
		create table history(client int, seq int, delta int, at timestamptz default now(), primary key (client, seq));
		create index on accounts(balance);
		create extension amcheck`)
}

// work runs transactions on all connections until they break, and calls begun once they are open.
func (b *bank) work(t *testing.T, begun func()) {
	var wg sync.WaitGroup
	var open [clients]*pgconn.PgConn
	for i := range open {
		var err error
		if open[i], err = pgconn.Connect(t.Context(), b.conn); err != nil {
			t.Fatal(err)
		}
	}
	begun()
	for i, c := range open {
		wg.Go(func() {
			defer c.Close(context.Background())
			rng := rand.New(rand.NewPCG(uint64(i), uint64(b.asked[i])))
			for {
				b.asked[i]++
				delta := rng.IntN(10000) - 5000
				_, err := c.Exec(t.Context(), fmt.Sprintf(`begin; update accounts set balance = balance + %d where id = %d;
					update tellers set balance = balance + %d where id = %d; insert into history values (%d, %d, %d); commit`,
					delta, 1+rng.IntN(20000), delta, 1+rng.IntN(50), i, b.asked[i], delta)).ReadAll()
				if err != nil {
					return
				}
				b.acked[i] = b.asked[i]
			}
		})
	}
	wg.Wait()
}

// check verifies that everything acknowledged is there, nothing is there by half, and the indexes agree.
func (b *bank) check(t *testing.T) (there int) {
	c := connect(t, b.conn)
	sums := query(t, c, `select (select coalesce(sum(balance), 0) from accounts), (select coalesce(sum(balance), 0) from tellers), (select coalesce(sum(delta), 0) from history)`)[0]
	if f := strings.Split(sums, "|"); f[0] != f[1] || f[1] != f[2] {
		t.Errorf("sums of accounts, tellers and history: %s", sums)
	}
	for i := range clients {
		f := strings.Split(query(t, c, fmt.Sprintf("select count(*), coalesce(max(seq), 0) from history where client = %d", i))[0], "|")
		n, err1 := strconv.Atoi(f[0])
		last, err2 := strconv.Atoi(f[1])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if last < b.acked[i] || last > b.asked[i] || n != last {
			t.Errorf("client %d: %d transactions, the last is %d; %d was acknowledged, %d begun", i, n, last, b.acked[i], b.asked[i])
		}
		if last < b.asked[i] {
			b.asked[i] = last // it was not committed; the next one has its number
		}
		b.acked[i] = last
		there += n
	}
	query(t, c, `select bt_index_check(c.oid, true) from pg_class c join pg_am m on m.oid = c.relam where amname = 'btree' and relpersistence = 'p'`)
	return there
}

// A compute node is killed at random moments; each time another is made from the log, and everything
// that was acknowledged is there.
func TestKilledComputeNodes(t *testing.T) {
	t.Parallel()
	service := newService(t)
	first := newServer(t)
	b := &bank{conn: first.connString()}
	b.setUp(t)
	attach := service.attach(t, "bank", first)
	first.stop(t)
	attach.stop()

	dir, port := workDir(t), freePort(t)
	node := service.background(t, "postgres", "run", "bank", "--dir", dir, "--port", strconv.Itoa(port), "--socket-dir", dir, "--addr", service.addr)
	node.waitFor(t, "ready:", 1)
	b.conn = connString(dir, port)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	there := 0
	for kill := 1; kill <= bankKills; kill++ {
		b.work(t, func() {
			time.AfterFunc(time.Duration(200+rng.IntN(1500))*time.Millisecond, func() { killPostmaster(filepath.Join(dir, "pgdata")) })
		})
		node.waitFor(t, "ready:", kill+1)
		if there = b.check(t); t.Failed() {
			t.Fatalf("after kill %d", kill)
		}
	}
	t.Logf("%d kills, %d transactions acknowledged, none lost", bankKills, there)
	if there < bankKills*20 {
		t.Errorf("%d transactions, want %d: nothing was shown", there, bankKills*20)
	}
	allFromPages(t, node.output.String())
	node.stop()
	vanillaReplays(t, service, b, there)
}
