package hotlog

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// childEnv makes the test binary a process that appends until it is killed.
const childEnv = "LOGCORE_HOTLOG_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := appendForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if dir := os.Getenv(fewFilesEnv); dir != "" {
		if err := withFewFiles(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func killOptions(dir string) Options {
	return Options{Dir: dir, SegmentBytes: 256 << 10, DiskReserveBytes: 1 << 20, Logger: quiet()}
}

// killEntry is the entry of an LSN: anyone can say what it must be.
func killEntry(lsn logcore.LSN) logcore.Entry {
	rng := rand.New(rand.NewPCG(uint64(lsn), 1))
	e := logcore.Entry{LSN: lsn, Term: 1, Kind: logcore.KindData, Time: logcore.HLC(lsn), Payload: make([]byte, rng.IntN(3000))}
	for i := 0; i+8 <= len(e.Payload); i += 8 {
		binary.LittleEndian.PutUint64(e.Payload[i:], rng.Uint64())
	}
	if lsn%97 == 0 {
		e.Kind, e.Payload = logcore.KindSeal, nil
	}
	return e
}

// appendForEver keeps up to 16 submissions in flight and prints each LSN that was
// acknowledged.
func appendForEver(dir string) error {
	l, _, err := Open(context.Background(), killOptions(dir))
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 16)
	fmt.Printf("first %d\n", l.First())
	for lsn := l.Last() + 1; ; lsn++ {
		slots <- struct{}{}
		err := l.Submit([]logcore.Entry{killEntry(lsn)}, func(err error) {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Printf("ack %d\n", lsn)
			<-slots
		})
		if err != nil {
			return err
		}
		if lsn%500 == 0 {
			if err := l.TrimHead(lsn - 400); err != nil {
				return err
			}
		}
	}
}

// F1: SIGKILL at a random moment, LOGCORE_KILLS times (25). Every acknowledged entry is
// there, and every entry that is there is right.
func TestSIGKILL(t *testing.T) {
	kills := 25
	if s := os.Getenv("LOGCORE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil || kills < 1 {
			t.Fatalf("LOGCORE_KILLS=%q: want a positive number", s)
		}
	}
	dir := filepath.Join(t.TempDir(), "log")
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	acked, total := logcore.LSN(0), 0
	for kill := range kills {
		n := runAndKill(t, dir, time.Duration(20+rng.IntN(131))*time.Millisecond)
		if n > 0 {
			total += int(n - min(acked, n))
		}
		acked = max(acked, n)
		checkKilled(t, dir, acked, kill)
	}
	if total < kills {
		t.Fatalf("void: %d acknowledgements in %d kills", total, kills)
	}
	t.Logf("%d kills, %d entries acknowledged, 0 lost", kills, total)
}

// runAndKill lets a child append for a while after it is open, kills it, and returns
// the last LSN it reported as acknowledged.
func runAndKill(t *testing.T, dir string, after time.Duration) (acked logcore.LSN) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("the child did not open the log: %v", cmd.Wait())
	}
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for lines.Scan() {
		var lsn logcore.LSN
		if n, _ := fmt.Sscanf(lines.Text(), "ack %d", &lsn); n == 1 {
			acked = lsn
		}
	}
	err = cmd.Wait()
	if state := cmd.ProcessState; state.Exited() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return acked
}

func checkKilled(t *testing.T, dir string, acked logcore.LSN, kill int) {
	t.Helper()
	l, report, err := Open(context.Background(), killOptions(dir))
	if err != nil {
		t.Fatalf("kill %d: %v", kill, err)
	}
	defer l.Close()
	if l.Last() < acked {
		t.Fatalf("kill %d: acknowledged up to %d, the log ends at %d (%+v)", kill, acked, l.Last(), report)
	}
	for at := l.First(); at <= l.Last(); {
		got, err := l.Entries(at, l.Last()+1, 1<<20)
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		for _, e := range got {
			if err := sameEntry(e, killEntry(e.LSN)); err != nil || e.LSN != at {
				t.Fatalf("kill %d: LSN %d: %v", kill, at, err)
			}
			at++
		}
	}
}
