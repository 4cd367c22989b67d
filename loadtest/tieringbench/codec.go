package tieringbench

import (
	"context"
	"math/rand/v2"

	"github.com/klauspost/reedsolomon"

	"github.com/logcore/logcore/loadtest/figures"
	"github.com/logcore/logcore/tiering/erasure"
)

const (
	codecBytes   = 64 << 20
	codecRepeats = 2
)

// noise is bytes that don't compress.
func noise(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// codec compares the erasure stage, parity and block checksums over data that lies in its
// fragments, with the coder's own best on as much memory: one call over whole fragments and
// calls over stripes, on one and on all processors. What counts is the best round of each: the
// ceiling is the best of many, and a median would be held against a maximum.
func (r *run) codec(ctx context.Context) error {
	object := noise(1, codecBytes)
	meta := erasure.Meta{SegmentFirst: 1, First: 1, Last: 1, Kind: 1, K: erasure.DefaultK, M: erasure.DefaultM, Length: codecBytes}
	var c erasure.Coder
	if err := c.Begin(meta); err != nil {
		return err
	}
	parity := make([]byte, codecBytes/2)
	contenders := map[string]func() error{
		"layout": func() error { c.WriteAt(object, 0); return nil },
		"stage":  c.Parity,
		"hashes": func() error { c.Finish(); return nil },
	}
	for name, opts := range map[string][]reedsolomon.Option{"all": nil, "one": {reedsolomon.WithMaxGoroutines(1)}, "auto": {reedsolomon.WithAutoGoroutines(codecBytes / 4)}} {
		enc, err := reedsolomon.New(erasure.DefaultK, erasure.DefaultM, opts...)
		if err != nil {
			return err
		}
		for size, label := range map[int]string{codecBytes / 4: "whole", 1 << 20: "1M", erasure.DefaultBlockBytes: "stripes"} {
			contenders["coder "+name+" "+label] = func() error { return bareCode(enc, object, parity, size) }
		}
	}
	for name, once := range contenders { // each takes milliseconds
		contenders[name] = func() error {
			for range codecRepeats {
				if err := once(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	took, err := figures.Contest(ctx, max(r.o.Rounds, 25), figures.Contenders(contenders)...)
	if err != nil {
		return err
	}
	best, bestName := 0.0, ""
	detail := map[string]any{}
	for name, t := range took {
		rate := codecBytes * codecRepeats / t.Best / 1e9
		detail[name+" GB/s"] = rate
		if len(name) > 6 && name[:6] == "coder " && rate > best {
			best, bestName = rate, name
		}
	}
	detail["best"] = bestName
	detail["processor time of the best / of the stage"] = took[bestName].Processor / took["stage"].Processor
	r.Add("erasure: the coder's own best", best, "GB/s", nil)
	r.AtLeast("erasure stage / the coder's own best", codecBytes*codecRepeats/took["stage"].Best/1e9/best, 0.6, "", detail)
	return nil
}

// bareCode has the coder make parity for an object in memory, in stripes of 4 blocks.
func bareCode(enc reedsolomon.Encoder, object, parity []byte, size int) error {
	blocks := make([][]byte, 6)
	for at := 0; at < len(object); at += 4 * size {
		for i := range 4 {
			blocks[i] = object[at+i*size:][:size]
		}
		for i := range 2 {
			blocks[4+i] = parity[at/2+i*size:][:size]
		}
		if err := enc.Encode(blocks); err != nil {
			return err
		}
	}
	return nil
}
