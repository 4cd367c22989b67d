package tiering

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// fitSum lets the fuzzer past the checksum at the end of a header.
func fitSum(b []byte) []byte {
	b = append([]byte(nil), b...)
	if len(b) > preludeBytes {
		if n := binary.LittleEndian.Uint32(b[offHeaderLen:]); n >= preludeBytes+headerSumSize && int64(n) <= int64(len(b)) {
			resum(b)
		}
	}
	return b
}

func FuzzObject(f *testing.F) {
	f.Add(mustSeal(f, testSpan(testFrames(9000)), chunkBytesMin))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseObjectHeader(fitSum(b))
		if err == nil && (h.objectBytes() <= int64(h.bytes) || h.rawBytes > rawBytesMax) {
			t.Fatalf("%+v", h)
		}
		openObject(context.Background(), testKeys(), fitSum(b))
	})
}

func FuzzRecord(f *testing.F) {
	for _, file := range []string{"record-v1.golden", "claim-v1.golden"} {
		b, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, r := range []*record{testRecord2(), testClaim(), testKeyChange(f)} {
		b, err := encodeRecord(context.Background(), testKeys2(), r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = fitSum(b)
		parseRecord(context.Background(), nil, b)
		// Few inputs are signed: look behind the signature too.
		p, err := parsePrelude(b, recordMagic, recFixedBytes+2+4+4+recTailBytes, recBytesMax)
		if err != nil {
			return
		}
		r, _, err := decodeRecord(p, recordVersion)
		if err != nil {
			return
		}
		// Whatever passes can be folded and written again.
		if again, err := appendRecordBody(recordFixed(r), r); err != nil || !bytes.Equal(again[recFixedBytes:], p[recFixedBytes:len(again)]) && len(r.settings) < 2 {
			t.Fatalf("%v: written again it differs", err)
		}
		s := &state{}
		s.apply(r, [32]byte{})
		findPath(r.objects)
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Add(encodeKeyFile([]keyEntry{testKey(1), {id: KeyID{5}, wrapped: []byte("w")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeyFile(b)
		if err == nil && (len(keys) == 0 || len(keys) > keysMax) {
			t.Fatal(len(keys))
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add(objectName{10, 12, 40, KindSealed, 3, [8]byte{1}}.key(testCluster, 0, 3))
	f.Fuzz(func(t *testing.T, key string) {
		if n, i, ok := parseFragmentKey(testCluster, 0, key); ok && n.key(testCluster, 0, i) != key {
			t.Fatal(key)
		}
		parseRecordKey(testCluster, 0, key)
		parseLocation(key)
	})
}
