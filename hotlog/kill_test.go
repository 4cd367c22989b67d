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
	"strings"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog/media"
)

// childEnv makes the test binary a process of its own: "what directory".
const childEnv = "LOGCORE_HOTLOG_CHILD"

// children are what it then does.
var children = map[string]func(dir string) error{
	"append": func(dir string) error { return appendForEver(dir, Open, false) },
	// Planted: each entry is acknowledged when it is submitted.
	"append-early": func(dir string) error { return appendForEver(dir, Open, true) },
	"append-file": func(dir string) error {
		return appendForEver(dir, func(ctx context.Context, o Options) (*Log, RecoveryReport, error) {
			o.Medium = "file"
			return Open(ctx, o)
		}, false)
	},
	// Planted: a commit is written, not synced.
	"append-unsynced": func(dir string) error { return appendForEver(dir, openUnsynced, false) },
	"few-files":       withFewFiles,
}

func TestMain(m *testing.M) {
	what, dir, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	if err := children[what](dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// childCommand is the test binary as a process that does one of the children.
func childCommand(what, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what+" "+dir)
	cmd.Stderr = os.Stderr
	return cmd
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

// openLog is Open, or something like it.
type openLog func(context.Context, Options) (*Log, RecoveryReport, error)

// openUnsynced opens a log whose commits are not synced.
func openUnsynced(ctx context.Context, o Options) (*Log, RecoveryReport, error) {
	dir, err := media.OpenFile(o.Dir)
	if err == nil {
		o, err = o.withDefaults()
	}
	if err != nil {
		return nil, RecoveryReport{}, err
	}
	return openOn(ctx, wrappingDir{dir, func(f media.File) media.File { return unsyncedFile{f} }}, o, openMode{})
}

type unsyncedFile struct{ media.File }

func (f unsyncedFile) WriteSync(writes []media.Write) error {
	for _, w := range writes {
		if _, err := f.WriteAt(w.P, w.Off); err != nil {
			return err
		}
	}
	return nil
}

// appendForEver keeps up to 16 submissions in flight and prints each LSN that was
// acknowledged, or, early, submitted.
func appendForEver(dir string, open openLog, early bool) error {
	l, _, err := open(context.Background(), killOptions(dir))
	if err != nil {
		return err
	}
	slots := make(chan struct{}, 16)
	fmt.Printf("first %d\n", l.First())
	for lsn := l.Last() + 1; ; lsn++ {
		slots <- struct{}{}
		if early {
			fmt.Printf("ack %d\n", lsn)
		}
		err := l.Submit([]logcore.Entry{killEntry(lsn)}, func(err error) {
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			if !early {
				fmt.Printf("ack %d\n", lsn)
			}
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

// F1: SIGKILL of a real process at a random moment. Every acknowledged entry is there,
// and every entry that is there is right.
func TestF1Kill(t *testing.T) {
	kills := figure(t, 15, 200)
	total, err := killRun(t, "append", kills)
	if err != nil {
		t.Fatal(err)
	}
	void(t, "acknowledgements", total, 20*kills)
	t.Logf("%d kills, %d entries acknowledged, 0 lost", kills, total)
}

// A log that acknowledges too early is found out.
func TestF1FindsPlantedEarlyAck(t *testing.T) {
	if total, err := killRun(t, "append-early", 60); err == nil {
		t.Fatalf("not found in 60 kills, %d entries", total)
	} else {
		t.Log("found:", err)
	}
}

// killRun lets a process append and kills it, so often, and returns how many entries it
// acknowledged and the first that is lost or wrong.
func killRun(t *testing.T, what string, kills int) (total int, err error) {
	dir := filepath.Join(t.TempDir(), "log")
	rng := rand.New(rand.NewPCG(faultSeed(t), 0))
	acked := logcore.LSN(0)
	for kill := range kills {
		n := runAndKill(t, childCommand(what, dir), time.Duration(20+rng.IntN(131))*time.Millisecond)
		if n > 0 {
			total += int(n - min(acked, n))
		}
		acked = max(acked, n)
		if err := checkKilled(dir, acked, killOptions(dir)); err != nil {
			return total, fmt.Errorf("kill %d: %w", kill, err)
		}
	}
	return total, nil
}

// runAndKill lets a child append for a while after it is open, kills it, and returns
// the last LSN it reported as acknowledged.
func runAndKill(t *testing.T, cmd *exec.Cmd, after time.Duration) (acked logcore.LSN) {
	t.Helper()
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

// checkKilled opens the log and compares all of it with what it must be.
func checkKilled(dir string, acked logcore.LSN, opts Options) error {
	l, report, err := Open(context.Background(), opts)
	if err != nil {
		return err
	}
	defer l.Close()
	if l.Last() < acked {
		return fmt.Errorf("acknowledged up to %d, the log ends at %d (%+v)", acked, l.Last(), report)
	}
	at := l.First()
	for e, err := range l.Stream(StreamOptions{From: at}) {
		if err == nil {
			err = sameEntry(e, killEntry(at))
		}
		if err != nil {
			return fmt.Errorf("LSN %d: %w", at, err)
		}
		at++
	}
	return nil
}
