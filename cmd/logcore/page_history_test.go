package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
)

// TestPageHistoryOutput: the output for people and for programs, to the byte.
func TestPageHistoryOutput(t *testing.T) {
	at := logcore.HLCAt(time.Date(2026, 11, 24, 12, 0, 0, 5e6, time.UTC))
	h := client.PageChanges{LSN: 90, Next: 40, CompleteFrom: 7, Changes: []client.PageChange{
		{LSN: 88, Time: at, Kind: "cut", BytesChanged: 64},
		{LSN: 41, Time: at, Tx: logcore.TxID{15: 0xab}, Kind: "delta", BytesChanged: 3, RecordBytes: 12}}}
	for format, want := range map[string]string{
		"table": "LSN  TIME                      KIND   BYTES CHANGED  RECORD BYTES  TRANSACTION\n" +
			"88   2026-11-24T12:00:00.005Z  cut    64             0             \n" +
			"41   2026-11-24T12:00:00.005Z  delta  3              12            " + logcore.TxID{15: 0xab}.String() + "\n" +
			"there are more: go on with --lsn 40\n",
		"json": `{
  "lsn": 90,
  "complete_from": 7,
  "changes": [
    {
      "lsn": 88,
      "time": "2026-11-24T12:00:00.005Z",
      "kind": "cut",
      "bytes_changed": 64,
      "record_bytes": 0
    },
    {
      "lsn": 41,
      "time": "2026-11-24T12:00:00.005Z",
      "tx": "` + logcore.TxID{15: 0xab}.String() + `",
      "kind": "delta",
      "bytes_changed": 3,
      "record_bytes": 12
    }
  ],
  "next": 40
}
`} {
		var out bytes.Buffer
		a := &app{stdio: stdio{out: &out}, format: format}
		if err := a.writeHistory(h); err != nil || out.String() != want {
			t.Errorf("%s, %v:\n%s\nwant\n%s", format, err, out.String(), want)
		}
	}
}

// TestPageDiffOutput: ranges that differ, of pages that are there and that are not.
func TestPageDiffOutput(t *testing.T) {
	before, after := make([]byte, 64), make([]byte, 64)
	copy(before[3:], "abc")
	copy(after[3:], "aXc")
	after[60] = 9
	for format, want := range map[string]string{
		"table": "page 5, LSN 10 to 20: 2 ranges differ\noffset 4, 1 bytes\n- 62\n+ 58\noffset 60, 1 bytes\n- 00\n+ 09\n",
		"json": `{
  "page": 5,
  "from": 10,
  "to": 20,
  "ranges": [
    {
      "offset": 4,
      "before": "62",
      "after": "58"
    },
    {
      "offset": 60,
      "before": "00",
      "after": "09"
    }
  ]
}
`} {
		var out bytes.Buffer
		a := &app{stdio: stdio{out: &out}, format: format}
		if err := a.writeDiff(diffJSON{Page: 5, From: 10, To: 20, Ranges: diffRanges(before, after)}); err != nil || out.String() != want {
			t.Errorf("%s, %v:\n%s\nwant\n%s", format, err, out.String(), want)
		}
	}
	if got := diffRanges(nil, []byte{0, 0, 7}); len(got) != 1 || got[0] != (rangeJSON{2, "00", "07"}) {
		t.Errorf("against a page that does not exist: %+v", got)
	}
}
