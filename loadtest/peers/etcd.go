package main

import (
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
)

// etcdLog is etcd's write-ahead log. It saves entries without a hard state, which is
// less than etcd itself writes.
type etcdLog struct {
	wal     *wal.WAL
	last    uint64
	entries []*raftpb.Entry // reused; Save keeps none of them
}

func etcdPeer() peer {
	return peer{name: "etcd-wal", apis: []api{async, blocking}, open: openEtcd, read: readEtcd}
}

// etcdDir is a directory of its own: Create renames one over it.
func etcdDir(dir string) string { return filepath.Join(dir, "wal") }

func openEtcd(dir string) (appendLog, error) {
	w, err := wal.Create(zap.NewNop(), etcdDir(dir), nil)
	if err != nil {
		return nil, err
	}
	return newDriver(&etcdLog{wal: w}), nil
}

func (l *etcdLog) appendSync(payloads [][]byte) error {
	for len(l.entries) < len(payloads) {
		term := uint64(1)
		l.entries = append(l.entries, &raftpb.Entry{Index: new(uint64), Term: &term, Type: new(raftpb.EntryType)})
	}
	for i, p := range payloads {
		l.last++
		*l.entries[i].Index = l.last
		l.entries[i].Data = p
	}
	return l.wal.Save(nil, l.entries[:len(payloads)])
}

func (l *etcdLog) Close() error { return l.wal.Close() }

func readEtcd(dir string, visit func([]byte)) error {
	w, err := wal.Open(zap.NewNop(), etcdDir(dir), &walpb.Snapshot{Index: new(uint64), Term: new(uint64)})
	if err != nil {
		return err
	}
	defer w.Close()
	_, _, entries, err := w.ReadAll()
	if err != nil {
		return err
	}
	for _, e := range entries {
		visit(e.GetData())
	}
	return nil
}
