package tiering

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcore/logcore"
)

// stubKMS is a key service in memory: AES-GCM under a key of its own and random nonces, as
// Tink's AEAD is. It can be down, hang, and lie.
type stubKMS struct {
	aead  cipher.AEAD
	down  atomic.Bool
	hang  chan struct{} // nil = answers at once
	lies  atomic.Bool
	calls atomic.Int64
}

var errDown = errors.New("the key service is down")

func newStubKMS(key byte) *stubKMS {
	block, err := aes.NewCipher(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &stubKMS{aead: aead}
}

func (k *stubKMS) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	if k.down.Load() {
		return nil, errDown
	}
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, plaintext, associatedData), nil
}

func (k *stubKMS) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	k.calls.Add(1)
	if k.hang != nil {
		<-k.hang
	}
	if k.down.Load() {
		return nil, errDown
	}
	if k.lies.Load() {
		return make([]byte, masterKeyBytes), nil
	}
	if len(ciphertext) < k.aead.NonceSize() {
		return nil, errors.New("too short")
	}
	return k.aead.Open(nil, ciphertext[:k.aead.NonceSize()], ciphertext[k.aead.NonceSize():], associatedData)
}

// testKMSKeys is a keyring that holds the key of testKeys, wrapped by nonce zero so that
// golden files stay the same.
func testKMSKeys() *KMSKeyring {
	kms, id := newStubKMS(7), testKeys().Current()
	key := testKeys().keys[id]
	nonce := make([]byte, kms.aead.NonceSize())
	return newKMSKeyring(kms, []keyEntry{{id: id, wrapped: kms.aead.Seal(nonce, nonce, key[:], wrapContext(id))}})
}

// An archive whose master key a key service wraps: archived, rotated, and read back by who
// has the buckets and the key service, key ids of before the rotation included.
func TestArchiveUnderAKMS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	kms := newStubKMS(1)
	keys, err := GenerateWrappedKeyFile(path, kms)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "wrapped ") || strings.Contains(string(b), "\nkey ") {
		t.Fatalf("the key file: %v %s", err, b)
	}
	w := newWorld(t, 80)
	w.change = func(o *Options) { o.Keys = keys }
	a := w.start(nil)
	w.hot.append(5, 2000)
	a.flushAll()
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	if keys, err = RotateWrappedKeyFile(path, kms); err != nil {
		t.Fatal(err)
	}
	if ids := keys.IDs(); len(ids) != 2 || keys.Current() != ids[1] {
		t.Fatalf("%v, current %v", keys.IDs(), keys.Current())
	}
	b := w.start(nil)
	w.hot.append(5, 2000)
	b.flushAll()
	used := map[[8]byte]bool{}
	for _, o := range b.state.Load().live {
		used[o.KeyID] = true
	}
	if err := b.close(); err != nil || len(used) != 2 {
		t.Fatalf("%v, objects under %d keys, want 2", err, len(used))
	}
	loaded, err := LoadWrappedKeyFile(path, kms)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(t.Context(), ReaderOptions{Targets: without(w.bare(), 0, 3), Keys: loaded, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	got, first, last, err := readBack(t.Context(), r)
	if err != nil || first != 1 || last != 10 || !bytes.Equal(got, w.hot.content(1, 10)) {
		t.Fatalf("[%d,%d]: %v", first, last, err)
	}
	// With the key file lost, and two targets, the key service and the objects are enough.
	recovered, err := RecoverKeys(t.Context(), without(w.bare(), 0, 5), kms)
	if err != nil || !slices.Equal(recovered.IDs(), keys.IDs()) || recovered.Current() != keys.Current() {
		t.Fatalf("recovered %v: %v", recovered, err)
	}
	if r, err = OpenReader(t.Context(), ReaderOptions{Targets: w.bare(), Keys: recovered, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	if got, _, _, err = readBack(t.Context(), r); err != nil || !bytes.Equal(got, w.hot.content(1, 10)) {
		t.Fatal(err)
	}
	if _, err := RecoverKeys(t.Context(), w.bare(), newStubKMS(9)); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("by another key service: %v", err)
	}
	if _, err := RecoverKeys(t.Context(), newWorld(t, 1).bare(), kms); !errors.Is(err, ErrNoArchive) {
		t.Fatalf("of nothing: %v", err)
	}
	if _, err := LoadKeyFile(path); !errors.Is(err, ErrKeyFile) {
		t.Fatalf("a wrapped key is not a key: %v", err)
	}
}

// While the key service is down nothing is written, neither in the clear nor otherwise;
// once it is back the archiver goes on by itself.
func TestNothingIsWrittenWhileTheKMSIsDown(t *testing.T) {
	w := newWorld(t, 81)
	kms := newStubKMS(2)
	entry, err := newWrappedKey(kms)
	if err != nil {
		t.Fatal(err)
	}
	keys := newKMSKeyring(kms, []keyEntry{entry})
	w.change = func(o *Options) { o.Keys = keys }
	kms.down.Store(true)
	_, err = keys.Derive(t.Context(), keys.Current(), nil, "x")
	if !errors.Is(err, ErrKeyUnavailable) || !errors.Is(err, errDown) || isFatal(err) || errors.Is(err, logcore.ErrCorrupt) {
		t.Fatalf("%v: want ErrKeyUnavailable, which is tried again", err)
	}
	if _, err := Open(t.Context(), w.options()); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("opened without a key: %v", err)
	}
	if _, err := GenerateWrappedKeyFile(filepath.Join(t.TempDir(), "key"), kms); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("a key file without a key service: %v", err)
	}
	for i := range w.stores {
		if found := w.keysOn(i, ""); len(found) > 0 {
			t.Fatalf("written without a key: %v", found)
		}
	}
	kms.down.Store(false)
	a := w.start(nil)
	w.hot.append(3, 500)
	a.flushAll()
	// The service goes down, and the keyring with it: a process started anew has no key.
	kms.down.Store(true)
	keys.mu.Lock()
	clear(keys.keys)
	keys.mu.Unlock()
	w.hot.append(3, 500)
	a.until("held up by the key service", func() bool { return strings.Contains(a.Status().LastError, errDown.Error()) })
	if c := a.Covered(); c != 3 {
		t.Fatalf("covered %d without a key", c)
	}
	kms.down.Store(false)
	a.flushAll()
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	for i := range w.stores {
		for _, key := range w.keysOn(i, "/fragment/") {
			b, err := w.stores[i].Get(t.Context(), key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			for l := logcore.LSN(1); l <= 6; l++ {
				if run := w.hot.content(l, l)[8:40]; bytes.Contains(b, run) {
					t.Fatalf("%s holds plaintext of entry %d", key, l)
				}
			}
		}
	}
}

// A reader that has the key service and no key file opens an object by the wrapped key that
// the object carries; one whose key service unwraps something else does not.
func TestObjectsCarryTheirWrappedKey(t *testing.T) {
	full := testKMSKeys()
	object, err := sealObject(t.Context(), full, full.Current(), testCluster, testSpan(testFrames(9000)), compressFast)
	if err != nil {
		t.Fatal(err)
	}
	again, err := sealObject(t.Context(), full, full.Current(), testCluster, testSpan(testFrames(9000)), compressFast)
	if err != nil || !bytes.Equal(object, again) {
		t.Fatalf("sealed twice, other bytes: %v", err)
	}
	bare := newKMSKeyring(newStubKMS(7), nil)
	span, err := openObject(t.Context(), bare, object)
	if err != nil || !bytes.Equal(span.Frames, testFrames(9000)) {
		t.Fatal(err)
	}
	if len(bare.IDs()) != 1 {
		t.Fatalf("learnt %v", bare.IDs())
	}
	if _, err := openObject(t.Context(), newKMSKeyring(newStubKMS(8), nil), object); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatalf("another key service: %v", err)
	}
	liar := newStubKMS(7)
	liar.lies.Store(true)
	if _, err := openObject(t.Context(), newKMSKeyring(liar, nil), object); !errors.Is(err, ErrKeyFile) {
		t.Fatalf("a key service that gives another key: %v", err)
	}
	for bit := range len(object[:objFixedBytes+200]) * 8 {
		object[bit/8] ^= 1 << (bit % 8)
		if _, err := openObject(t.Context(), full, object); !errors.Is(err, logcore.ErrCorrupt) {
			t.Fatalf("flip of bit %d: %v", bit, err)
		}
		object[bit/8] ^= 1 << (bit % 8)
	}
}

// Many who need a key ask the service once; one that hangs holds nobody up for longer than
// the timeout.
func TestKMSIsAskedOnce(t *testing.T) {
	keys := testKMSKeys()
	kms := keys.kms.(*stubKMS)
	kms.hang = make(chan struct{})
	keys.timeout = 20 * time.Millisecond
	if _, err := keys.Derive(t.Context(), keys.Current(), nil, "x"); !errors.Is(err, ErrKeyUnavailable) {
		t.Fatal(err)
	}
	keys.timeout = time.Minute
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = keys.Derive(t.Context(), keys.Current(), nil, "x") })
	}
	time.Sleep(10 * time.Millisecond)
	close(kms.hang)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if n := kms.calls.Load(); n < 1 || n > 2 {
		t.Fatalf("asked %d times", n)
	}
	a, _ := keys.Derive(t.Context(), keys.Current(), []byte("s"), "x")
	b, _ := testKeys().Derive(t.Context(), keys.Current(), []byte("s"), "x")
	if a != b {
		t.Fatal("another key than the one that was wrapped")
	}
}

// F20: no key meets a nonce twice, whatever is archived again: the same spans, spans that
// differ by a bit, other ranges, cuts, epochs, compressions and key ids. A key and nonce may
// only come back with the very same plaintext.
func TestNoNonceIsRepeated(t *testing.T) {
	type use struct {
		seed [32]byte
		n    uint32
	}
	plain := map[use]string{}
	two := newKeyring([][32]byte{{1}, {2}})
	objects := 0
	for cut := 0; cut < 60; cut++ {
		frames := testFrames(3*chunkBytesMin + 100*(cut/6))
		frames[cut] ^= byte(cut)
		for _, c := range []compression{{chunkBytes: chunkBytesMin}, {chunkBytes: 2 * chunkBytesMin}, {better: true, chunkBytes: chunkBytesMin}} {
			for _, id := range two.IDs() {
				for again := range 2 {
					span := testSpan(frames)
					span.Last += logcore.LSN(cut % 3)
					span.Sealed = cut%2 == 0
					s, err := prepareSeal(t.Context(), two, id, testCluster, span, c)
					if err != nil {
						t.Fatal(err)
					}
					h, err := parseObjectHeader(s.header)
					if err != nil {
						t.Fatal(err)
					}
					for i, chunk := range s.chunks {
						u := use{h.seed, binary.LittleEndian.Uint32(chunkNonce(i))}
						what := fmt.Sprintf("%x %x", s.aad, chunk)
						if was, ok := plain[u]; ok && was != what {
							t.Fatalf("cut %d, attempt %d: key and nonce %d repeat over other bytes", cut, again, i)
						}
						plain[u] = what
					}
					objects++
				}
			}
		}
	}
	t.Logf("%d objects, %d keys and nonces, 0 repeated over other bytes", objects, len(plain))
	if len(plain) < 500 {
		t.Fatalf("only %d", len(plain))
	}
}
