package replbench

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/hotlog"
)

// hotOne is the hot log by itself, one append in flight: what a commit costs before there
// is a network.
func hotOne(ctx context.Context, dir string, seconds time.Duration) (t turn, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, _, err := hotlog.Open(ctx, hotlog.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return t, err
	}
	clock := uint64(logcore.HLCAt(time.Now()))
	one := make([]logcore.Entry, 1)
	payload := make([]byte, payloadBytes+40) // with the envelope that the service adds
	t, err = oneAtATime(seconds, func() error {
		clock++
		one[0] = logcore.Entry{Term: 1, Kind: logcore.KindData, Time: logcore.HLC(clock), Tx: logcore.TxID{1}, Payload: payload}
		return l.AppendNext(ctx, one)
	})
	return t, errors.Join(err, l.Close())
}
