package main

import (
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// raftLog is HashiCorp's write-ahead log for Raft, with its own defaults.
type raftLog struct {
	wal  *raftwal.WAL
	last uint64
	logs []*raft.Log // reused; StoreLogs keeps none of them
}

func raftWALPeer() peer {
	return peer{name: "raft-wal", apis: []api{async, blocking}, open: openRaftWAL, read: readRaftWAL}
}

func openRaftWAL(dir string) (appendLog, error) {
	w, err := raftwal.Open(dir, raftwal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return nil, err
	}
	return newDriver(&raftLog{wal: w}), nil
}

func (l *raftLog) appendSync(payloads [][]byte) error {
	for len(l.logs) < len(payloads) {
		l.logs = append(l.logs, &raft.Log{Term: 1, Type: raft.LogCommand})
	}
	for i, p := range payloads {
		l.last++
		l.logs[i].Index = l.last
		l.logs[i].Data = p
	}
	return l.wal.StoreLogs(l.logs[:len(payloads)])
}

func (l *raftLog) Close() error { return l.wal.Close() }

func readRaftWAL(dir string, visit func([]byte)) error {
	w, err := raftwal.Open(dir, raftwal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		return err
	}
	defer w.Close()
	last, err := w.LastIndex()
	if err != nil {
		return err
	}
	for i := uint64(1); i <= last; i++ {
		var entry raft.Log
		if err := w.GetLog(i, &entry); err != nil {
			return err
		}
		visit(entry.Data)
	}
	return nil
}
