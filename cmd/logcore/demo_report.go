package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/sampledb"
	"github.com/logcore/logcore/recovery"
)

// demoResult is what the demo found, step by step.
type demoResult struct {
	Targets      string          `json:"targets"`
	Rows         int64           `json:"rows"`
	LoadTx       int             `json:"load_transactions"`
	Transactions int             `json:"transactions"`
	PerSecond    float64         `json:"transactions_per_second"`
	CommitP50Ms  float64         `json:"commit_p50_ms"`
	CommitP99Ms  float64         `json:"commit_p99_ms"`
	Crash        demoCrash       `json:"crash_hot_tier_kept"`
	Disaster     demoCrash       `json:"crash_hot_tier_lost"`
	LostCloud    string          `json:"lost_cloud"`
	Restore      recovery.Report `json:"restore"`
	ColdStart    demoColdStart   `json:"cold_start"`
	EarlierLSN   logcore.LSN     `json:"earlier_lsn"`
	EarlierTx    int64           `json:"earlier_transaction"`
	Verified     demoVerify      `json:"verify"`
	Steps        []recovery.Step `json:"steps"`
}

// demoCrash is what a crash left.
type demoCrash struct {
	Acknowledged int64   `json:"acknowledged"`      // transactions, by number
	Recovered    int64   `json:"recovered"`         // the last one that is there
	Compared     int     `json:"compared"`          // ledger rows compared with their acknowledgement
	Missing      []int64 `json:"missing"`           // acknowledged and not there
	MissingMs    float64 `json:"missing_window_ms"` // between the oldest missing acknowledgement and the crash
	Digest       string  `json:"digest"`
}

// demoColdStart is how the page server began that had lost its directory.
type demoColdStart struct {
	Checkpoint  uint64  `json:"checkpoint"` // that it began from
	Tables      uint64  `json:"tables"`
	Bytes       uint64  `json:"bytes"`
	Made        uint64  `json:"made"`          // the one that was made before the loss
	FirstPageMs float64 `json:"first_page_ms"` // after the process was started
}

type demoVerify struct {
	Bytes    int64    `json:"bytes"`
	Problems []string `json:"problems"`
}

// latencies sets throughput and quantiles from the transactions of the workload.
func (r *demoResult) latencies(acks []sampledb.Ack) {
	commits := make([]time.Duration, len(acks))
	for i, a := range acks {
		commits[i] = a.Commit
	}
	slices.Sort(commits)
	took := acks[len(acks)-1].Began.Add(acks[len(acks)-1].Total).Sub(acks[0].Began)
	r.Transactions = len(acks)
	r.PerSecond = float64(len(acks)) / took.Seconds()
	r.CommitP50Ms = milliseconds(commits[len(commits)/2])
	r.CommitP99Ms = milliseconds(commits[len(commits)*99/100])
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// missingText says which acknowledged transactions are gone.
func (c demoCrash) missingText() string {
	switch n := len(c.Missing); n {
	case 0:
		return "nothing"
	case 1:
		return fmt.Sprintf("transaction %d, acknowledged %.0f ms before the crash and not archived yet", c.Missing[0], c.MissingMs)
	default:
		return fmt.Sprintf("transactions %d to %d, acknowledged in the last %.0f ms before the crash and not archived yet", c.Missing[0], c.Missing[n-1], c.MissingMs)
	}
}

// oneLine is the demo's last line.
func (r *demoResult) oneLine() string {
	steps := make([]string, len(r.Steps))
	for i, s := range r.Steps {
		steps[i] = fmt.Sprintf("%s %.1f s", s.Name, s.Seconds)
	}
	return fmt.Sprintf("DONE: %d rows loaded and %d transactions committed over %s at %.0f/s (commit p50 %.2f ms, p99 %.2f ms); "+
		"killed in mid-commit with the hot tier kept: lost %s (%d acknowledged, %d there); killed again, hot tier and page server deleted, cloud %s gone, restored from the rest: lost %s "+
		"(%d acknowledged, %d there, each equal to its acknowledgement); the page server began from checkpoint %d, first page after %.0f ms; read again as of LSN %d; verified %s; %s",
		r.Rows, r.Transactions, r.Targets, r.PerSecond, r.CommitP50Ms, r.CommitP99Ms,
		r.Crash.missingText(), r.Crash.Acknowledged, r.Crash.Recovered, r.LostCloud,
		r.Disaster.missingText(), r.Disaster.Acknowledged, r.Disaster.Recovered, r.ColdStart.Checkpoint, r.ColdStart.FirstPageMs, r.EarlierLSN, sizeText(r.Verified.Bytes), strings.Join(steps, ", "))
}
