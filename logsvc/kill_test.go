package logsvc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/logsvc"
	"github.com/logcore/logcore/replication"
)

// The test binary is its own server process when this names a directory.
const childDir = "LOGSVC_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child serves until it is killed.
func child(dir string) {
	t := childTB{}
	opts := replication.Options{}
	opts.Log.SegmentBytes = 256 << 10 // several segments a round
	n := start(t, dir, "", logsvc.Options{}, opts)
	fmt.Println("serving", n.addr)
	select {}
}

// childTB ends the process where a test would fail.
type childTB struct{ testing.TB }

func (childTB) Helper()        {}
func (childTB) Cleanup(func()) {}
func (childTB) Fatal(a ...any) { fmt.Fprintln(os.Stderr, a...); os.Exit(1) }
func (childTB) Error(a ...any) { fmt.Fprintln(os.Stderr, a...); os.Exit(1) }

// process is a server in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

func startProcess(t *testing.T, dir string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), childDir+"="+dir)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "serving ")
	if err != nil || !ok {
		t.Fatalf("the server said %q, %v", line, err)
	}
	p.addr = addr
	return p
}

// kill is SIGKILL: the process gets no chance to write anything.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// TestKill (F1, I1, I2): SIGKILL of the server in mid-append, again and again. Every
// acknowledged entry is in the log afterwards, once, at the place that was said, in
// order; nothing is there that was never sent.
func TestKill(t *testing.T) {
	const kills = 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	acked := map[string]client.Appended{}
	sent := map[string]bool{}
	unknown := 0
	for round := range kills {
		p := startProcess(t, dir)
		c, err := client.Dial(context.Background(), client.Options{Addr: p.addr, RetryFor: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		checkAcknowledged(t, c, round, acked, sent)
		time.AfterFunc(20*time.Millisecond+rand.N(130*time.Millisecond), func() { p.cmd.Process.Kill() })
		unknown += appendUntilKilled(t, c, round, random, acked, sent)
		p.kill()
		c.Close()
	}
	p := startProcess(t, dir)
	c, err := client.Dial(context.Background(), client.Options{Addr: p.addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	checkAcknowledged(t, c, kills, acked, sent)
	if len(acked) < kills*10 || unknown == 0 {
		t.Fatalf("void: %d acknowledged, %d of unknown outcome in %d kills", len(acked), unknown, kills)
	}
	t.Logf("%d kills, %d entries acknowledged, %d of unknown outcome, 0 lost", kills, len(acked), unknown)
}

// appendUntilKilled keeps a pipeline full until the server is gone, and returns how many
// appends it doesn't know the outcome of.
func appendUntilKilled(t *testing.T, c *client.Client, round int, random *rand.Rand, acked map[string]client.Appended, sent map[string]bool) (unknown int) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w, err := c.OpenWriter(ctx, "a", client.WriterOptions{Create: true, Takeover: true})
	if err != nil {
		if !errors.Is(err, client.ErrUnavailable) {
			t.Fatal(err)
		}
		return 0 // killed before it began
	}
	type flight struct {
		body string
		f    *client.Future
	}
	var flights []flight
	for i := 0; w.Err() == nil; i++ {
		body := fmt.Sprintf("%d/%d/%s", round, i, strings.Repeat("x", random.IntN(4000)))
		sent[body] = true
		flights = append(flights, flight{body, w.Submit(ctx, logcore.TxID{}, [][]byte{[]byte(body)}, nil)})
	}
	for _, fl := range flights {
		a, err := fl.f.Wait(ctx)
		switch {
		case err == nil:
			acked[fl.body] = a
		case errors.Is(err, client.ErrUnknownOutcome):
			unknown++
		default:
			t.Fatalf("append: %v", err)
		}
	}
	ctx, cancelClose := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancelClose()
	w.Close(ctx)
	return unknown
}

func checkAcknowledged(t *testing.T, c *client.Client, round int, acked map[string]client.Appended, sent map[string]bool) {
	t.Helper()
	if round == 0 {
		return
	}
	entries, err := readLogErr(t, c, "a", client.ReadOptions{})
	if errors.Is(err, logcore.ErrLogNotFound) && len(acked) == 0 {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]client.LogEntry{}
	for _, e := range entries {
		body := string(e.Payload)
		if _, twice := found[body]; twice || !sent[body] {
			t.Fatalf("round %d: LSN %d holds %.20q: twice %v, sent %v", round, e.LSN, body, twice, sent[body])
		}
		found[body] = e
	}
	for body, a := range acked {
		if e, ok := found[body]; !ok || e.LSN != a.LSN || e.Time != a.Time {
			t.Fatalf("round %d: acknowledged %.20q at %+v, found %v at LSN %d", round, body, a, ok, e.LSN)
		}
	}
}
