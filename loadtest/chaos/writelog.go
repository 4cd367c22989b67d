package chaos

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/client"
	"github.com/logcore/logcore/internal/config"
	"github.com/logcore/logcore/internal/roles"
)

// segmentBytes is small, so that many segments are sealed, folded and dropped.
const segmentBytes = 1 << 20

// writeLog runs a log service without an archive in a directory, has a client write so many
// bytes to two logs, and stops it.
func writeLog(ctx context.Context, dir string, seed uint64, total int64, log *slog.Logger) (err error) {
	cfg := config.DefaultLogService()
	cfg.Dir, cfg.Listen, cfg.Metrics = filepath.Join(dir, "logsvc"), "127.0.0.1:0", ""
	cfg.SegmentBytes, cfg.DiskReserveBytes = segmentBytes, 1<<20
	service, err := roles.StartLogService(ctx, cfg, "chaos", log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Stop()) }()
	c, err := client.Dial(ctx, client.Options{Addr: service.Addr(), Logger: log})
	if err != nil {
		return err
	}
	defer c.Close()
	rng := rand.New(rand.NewPCG(seed, 2))
	var writers []*client.Writer
	for _, name := range []string{"orders", "notes"} {
		w, err := c.OpenWriter(ctx, name, client.WriterOptions{Create: true})
		if err != nil {
			return err
		}
		writers = append(writers, w)
	}
	for n := 0; total > 0; n++ {
		payload := somePayload(rng)
		if _, err := writers[n%2].AppendTx(ctx, logcore.TxID{}, [][]byte{payload}, nil); err != nil {
			return err
		}
		total -= int64(len(payload))
	}
	closing, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return errors.Join(writers[0].Close(closing), writers[1].Close(closing))
}

// somePayload is half random and half not, as data is.
func somePayload(rng *rand.Rand) []byte {
	half := 500 + rng.IntN(12_000)
	b := bytes.Repeat([]byte{byte(rng.Uint32())}, 2*half)
	for i := range half {
		b[i] = byte(rng.Uint32())
	}
	return b
}
