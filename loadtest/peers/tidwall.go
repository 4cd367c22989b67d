package main

import "github.com/tidwall/wal"

// tidwallLog is tidwall/wal with its own defaults: a sync for every batch.
type tidwallLog struct {
	log   *wal.Log
	last  uint64
	batch wal.Batch
}

func tidwallPeer() peer {
	return peer{name: "tidwall-wal", apis: []api{async, blocking}, open: openTidwall, read: readTidwall}
}

func openTidwall(dir string) (appendLog, error) {
	l, err := wal.Open(dir, nil)
	if err != nil {
		return nil, err
	}
	return newDriver(&tidwallLog{log: l}), nil
}

func (l *tidwallLog) appendSync(payloads [][]byte) error {
	for _, p := range payloads {
		l.last++
		l.batch.Write(l.last, p)
	}
	return l.log.WriteBatch(&l.batch)
}

func (l *tidwallLog) Close() error { return l.log.Close() }

func readTidwall(dir string, visit func([]byte)) error {
	l, err := wal.Open(dir, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	for i := uint64(1); i <= last; i++ {
		p, err := l.Read(i)
		if err != nil {
			return err
		}
		visit(p)
	}
	return nil
}
