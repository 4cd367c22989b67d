package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lc "github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/exit"
	"github.com/logcore/logcore/internal/sampledb"
)

// runDemo runs the real binary and returns what it found.
func runDemo(t *testing.T, args ...string) demoResult {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "logcore"), append([]string{"demo", "--json"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("demo %v: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	var r demoResult
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	return r
}

// checkDemo checks what the demo itself does not already fail on.
func checkDemo(t *testing.T, r demoResult, transactions int) {
	t.Helper()
	if r.Transactions != transactions || r.Rows < 10000 {
		t.Errorf("%d transactions over %d rows, want %d over 10,000 at least", r.Transactions, r.Rows, transactions)
	}
	if len(r.Crash.Missing) != 0 || r.Crash.Recovered < r.Crash.Acknowledged {
		t.Errorf("hot tier kept: %+v", r.Crash)
	}
	if r.Disaster.Recovered < int64(transactions) || int64(len(r.Disaster.Missing)) != max(0, r.Disaster.Acknowledged-r.Disaster.Recovered) {
		t.Errorf("hot tier lost: %+v", r.Disaster)
	}
	if r.Restore.ObjectsRead == 0 || r.Restore.FragmentsRebuilt == 0 || r.LostCloud == "" {
		t.Errorf("a cloud was lost, but the restore rebuilt nothing: %+v", r.Restore)
	}
	if r.ColdStart.Made == 0 || r.ColdStart.Checkpoint < r.ColdStart.Made || r.ColdStart.FirstPageMs <= 0 {
		t.Errorf("the page server did not begin from its checkpoint: %+v", r.ColdStart)
	}
	if r.EarlierTx <= 0 || r.EarlierTx >= r.Disaster.Recovered || len(r.Verified.Problems) != 0 || r.Verified.Bytes == 0 {
		t.Errorf("earlier transaction %d, verified %+v", r.EarlierTx, r.Verified)
	}
}

// The main job, twice in the same directory.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		checkDemo(t, runDemo(t, "--dir", dir), 2000)
	}
}

func TestDemoOnS3(t *testing.T) {
	checkDemo(t, runDemo(t, "--dir", t.TempDir(), "--s3", "--transactions", "500", "--characters", "5000"), 500)
}

func TestDemoCleansOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "demo", "--dir", dir).want(t, exit.Usage, "not empty", "mine"[:0])
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error("the demo removed someone else's file")
	}
}

// The comparison finds every way in which a database can differ from what was
// acknowledged, and counts what may be missing.
func TestCompareLedger(t *testing.T) {
	crashed := time.Now()
	acks := func(n int) (list []sampledb.Ack) {
		for i := range n {
			list = append(list, sampledb.Ack{N: int64(i + 1), Kind: "view", Changes: i, Digest: sampledb.Digest{byte(i)}, LSN: lc.LSN(10 + i),
				Began: crashed.Add(time.Duration(i-n) * time.Millisecond)})
		}
		return list
	}
	changed := acks(5)
	changed[3].Digest[31] = 1
	for name, tc := range map[string]struct {
		acks, ledger []sampledb.Ack
		restored     lc.LSN
		missing      int
		bad          string
	}{
		"all there":                      {acks(5), acks(5), 0, 0, ""},
		"one more, under way":            {acks(5), acks(6), 0, 0, ""},
		"two more":                       {acks(5), acks(7), 0, 0, "only the one under way"},
		"another content":                {acks(5), changed, 0, 0, "transaction 4 differs"},
		"missing, hot tier kept":         {acks(5), acks(3), 0, 2, ""},
		"missing above the restored LSN": {acks(5), acks(3), 12, 2, ""},
		"missing below the restored LSN": {acks(5), acks(3), 13, 0, "transaction 4 of LSN 13 is missing"},
		"there above the restored LSN":   {acks(5), acks(5), 13, 0, "transaction 5 of LSN 14 is there"},
	} {
		found, err := compareLedger(tc.acks, tc.ledger, tc.restored, crashed)
		if (err != nil) != (tc.bad != "") || err != nil && !strings.Contains(err.Error(), tc.bad) {
			t.Errorf("%s: %v, want %q", name, err, tc.bad)
		}
		if err == nil && (len(found.Missing) != tc.missing || tc.missing == 2 && found.MissingMs != 2) {
			t.Errorf("%s: %+v", name, found)
		}
	}
	if text := (demoCrash{Missing: []int64{7, 8, 9}, MissingMs: 12}).missingText(); !strings.Contains(text, "7 to 9") || !strings.Contains(text, "12 ms") {
		t.Error(text)
	}
}
