package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/internal/stripemap"
)

// The layout of manifests and stored files; see FORMAT.md. Little-endian throughout.
const (
	manifestMagic = "LCPMANIF"
	fileMagic     = "LCPTABLE"
	// A manifest is written as version 2, for readers of version 2, when it says what
	// version 1 can't: stripes or loans. A stored table is version 1.
	manifestVersion = 2
	fileVersion     = 1

	offVersion   = 8
	offMinReader = 10
	offFlags     = 12
	preludeBytes = 16

	offManCluster     = 16
	offManEpoch       = 32
	offManNumber      = 40
	offManIncarnation = 48
	offManPrev        = 56
	offManCreated     = 88
	offManServer      = 96
	offManKeyID       = 112
	offManSeed        = 120
	offManBody        = 152
	offManReserved    = 156
	offManSum         = 160
	manHeaderBytes    = 168

	offFileCluster  = 16
	offFileKeyID    = 32
	offFileSeed     = 40
	offFileSize     = 72
	offFileBlock    = 80
	offFileReserved = 84
	offFileSum      = 88
	fileHeaderBytes = 96

	checksumBytes = 8
	tagBytes      = 16 // of AES-256-GCM
	// blockExtra is what a stored block has beside its content.
	blockExtra = tagBytes + checksumBytes
)

// Limits that a decoder checks before it allocates.
const (
	manifestBytesMax = 256 << 20
	filesMax         = 1 << 20
	logsMax          = 1 << 20
	warmMax          = 1 << 16
	loansMax         = 1 << 10
	smallBytesMax    = 128 << 20 // of one small file
	nameBytesMax     = 255
	fileBytesMax     = 4 << 30
	// BlockBytes is how much of a file is verified, and fetched at least, at once. It is
	// part of a stored file, so that another value can be chosen later.
	BlockBytes    = 256 << 10
	blockBytesMin = 4 << 10
	blockBytesMax = 16 << 20
)

// Digest is a SHA-256.
type Digest [sha256.Size]byte

// Log is what a checkpoint has of a log.
type Log struct {
	ID          logcore.LogID
	Name        string
	Incarnation uint64      // of the log's shard
	Ingested    logcore.LSN // everything up to it is in the checkpoint
	Entry       logcore.LSN // the last entry at or below it
}

// Table is a stored file: an sstable, which never changes.
type Table struct {
	Name    string // in the store's directory
	Size    int64  // of the content
	Epoch   uint64 // of who stored it; part of its key
	Object  Digest // of the stored bytes; part of its key
	Content Digest // of the file's content
	KeyID   [8]byte
	Seed    [32]byte
	Block   int // bytes of content in a block

	store string // whose chain it is in; part of its key, and never in a manifest
}

// Small is a file that the manifest holds itself.
type Small struct {
	Name string
	Data []byte
}

// Block names a block of a table.
type Block struct {
	Table int // index in Manifest.Tables
	Block int
}

// Loan says that a store which began from another's checkpoint still needs it.
type Loan struct {
	Store  string    // who began from it
	Number uint64    // of the manifest in this chain that names what is lent
	Until  time.Time // when the loan ends unless it is renewed
}

// Manifest is one checkpoint: what a store is made of.
type Manifest struct {
	Cluster     [16]byte
	Epoch       uint64 // of its writer, rising along the chain
	Number      uint64 // in the chain, from 1, gapless
	Incarnation uint64 // of the first log's shard; 0 in an empty one
	Prev        Digest // of the manifest before, as stored; zeros in number 1
	Created     time.Time
	Server      [16]byte // random, of the process that wrote it

	Name         string        // of the store, in its cluster
	Stripes      stripemap.Set // whose pages the store has in full; All of one that does not share them
	Loans        []Loan
	StoreVersion uint32 // format of the store's keys and values; 0: it holds no checkpoint yet
	Logs         []Log
	Small        []Small
	Tables       []Table
	Warm         []Block // what is read first, in order

	version uint16 // of the format, as stored; sealing chooses it
	keyID   [8]byte
	seed    [32]byte
	digest  Digest // of the whole as stored
	raw     []byte // the whole as stored
}

// Empty reports whether the manifest takes an epoch and holds no checkpoint.
func (m *Manifest) Empty() bool { return m.StoreVersion == 0 }

// Bytes is the size of the tables.
func (m *Manifest) Bytes() int64 {
	n := int64(0)
	for _, t := range m.Tables {
		n += t.Size
	}
	return n
}

func damaged(object, format string, args ...any) error {
	return &logcore.CorruptionError{Place: "checkpoint", Object: object, Offset: -1, Reason: fmt.Sprintf(format, args...)}
}

func appendPrelude(magic string, version uint16) []byte {
	b := append(make([]byte, 0, manHeaderBytes), magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, version)
	return binary.LittleEndian.AppendUint32(b, 0)
}

// checkPrelude checks the front of a header of headerBytes that ends with its checksum.
// The version comes first: what a header for newer readers than newest covers is not known here.
func checkPrelude(what, magic string, newest uint16, b []byte, headerBytes int) error {
	if len(b) < preludeBytes || string(b[:offVersion]) != magic {
		return damaged(what, "it does not begin with %q", magic)
	}
	version, reader, flags := binary.LittleEndian.Uint16(b[offVersion:]), binary.LittleEndian.Uint16(b[offMinReader:]), binary.LittleEndian.Uint32(b[offFlags:])
	if version == 0 || reader == 0 || reader > version {
		return damaged(what, "format version %d for readers of version %d", version, reader)
	}
	if reader > newest || flags != 0 {
		return fmt.Errorf("%w: %s of format version %d needs a reader of version %d with flags %#x, this build has %d: use a newer build", logcore.ErrUnsupportedVersion, what, version, reader, flags, newest)
	}
	if len(b) < headerBytes {
		return damaged(what, "%d bytes, its header has %d", len(b), headerBytes)
	}
	if sum := headerBytes - checksumBytes; xxh3.Hash(b[:sum]) != binary.LittleEndian.Uint64(b[sum:]) {
		return damaged(what, "the header fails its checksum")
	}
	return nil
}

// manifestHeader lays out the clear part; what seals the body is filled in by seal.
func (m *Manifest) header(body int) []byte {
	le := binary.LittleEndian
	b := append(appendPrelude(manifestMagic, m.version), make([]byte, manHeaderBytes-preludeBytes)...)
	copy(b[offManCluster:], m.Cluster[:])
	le.PutUint64(b[offManEpoch:], m.Epoch)
	le.PutUint64(b[offManNumber:], m.Number)
	le.PutUint64(b[offManIncarnation:], m.Incarnation)
	copy(b[offManPrev:], m.Prev[:])
	le.PutUint64(b[offManCreated:], uint64(m.Created.UnixNano()))
	copy(b[offManServer:], m.Server[:])
	copy(b[offManKeyID:], m.keyID[:])
	copy(b[offManSeed:], m.seed[:])
	le.PutUint32(b[offManBody:], uint32(body+tagBytes))
	le.PutUint64(b[offManSum:], xxh3.Hash(b[:offManSum]))
	return b
}

// parseHeader reads the clear part of a manifest and checks all that needs no key. It
// returns the sealed body.
func parseManifestHeader(b []byte) (*Manifest, []byte, error) {
	if len(b) > manifestBytesMax {
		return nil, nil, damaged("manifest", "%d bytes, at most %d are allowed", len(b), manifestBytesMax)
	}
	if err := checkPrelude("manifest", manifestMagic, manifestVersion, b, manHeaderBytes); err != nil {
		return nil, nil, err
	}
	le := binary.LittleEndian
	m := &Manifest{Cluster: [16]byte(b[offManCluster:]), Epoch: le.Uint64(b[offManEpoch:]), Number: le.Uint64(b[offManNumber:]),
		Incarnation: le.Uint64(b[offManIncarnation:]), Prev: Digest(b[offManPrev:]), Created: time.Unix(0, int64(le.Uint64(b[offManCreated:]))).UTC(),
		Server: [16]byte(b[offManServer:]), version: le.Uint16(b[offVersion:]), keyID: [8]byte(b[offManKeyID:]), seed: [32]byte(b[offManSeed:]), digest: sha256.Sum256(b), raw: b}
	sealed := int64(le.Uint32(b[offManBody:]))
	rest := b[manHeaderBytes:]
	switch {
	case m.Epoch == 0 || m.Number == 0 || le.Uint32(b[offManReserved:]) != 0:
		return nil, nil, damaged("manifest", "number %d of epoch %d", m.Number, m.Epoch)
	case int64(len(rest)) != sealed+checksumBytes || sealed < tagBytes:
		return nil, nil, damaged("manifest", "%d bytes after the header, want %d", len(rest), sealed+checksumBytes)
	case xxh3.Hash(rest[:sealed]) != le.Uint64(rest[sealed:]):
		return nil, nil, damaged("manifest", "the body fails its checksum")
	}
	return m, rest[:sealed], nil
}

// body lays out what is sealed.
func (m *Manifest) body() []byte {
	w := &writer{}
	w.string16(m.Name)
	w.u32(m.StoreVersion)
	w.u32(uint32(len(m.Logs)))
	for _, l := range m.Logs {
		w.u64(uint64(l.ID))
		w.u64(l.Incarnation)
		w.u64(uint64(l.Ingested))
		w.u64(uint64(l.Entry))
		w.string16(l.Name)
	}
	w.u32(uint32(len(m.Small)))
	for _, s := range m.Small {
		w.string16(s.Name)
		w.u32(uint32(len(s.Data)))
		w.b = append(w.b, s.Data...)
	}
	w.u32(uint32(len(m.Tables)))
	for _, t := range m.Tables {
		w.string16(t.Name)
		w.u64(uint64(t.Size))
		w.u64(t.Epoch)
		w.b = append(append(append(append(w.b, t.Object[:]...), t.Content[:]...), t.KeyID[:]...), t.Seed[:]...)
		w.u32(uint32(t.Block))
	}
	w.u32(uint32(len(m.Warm)))
	for _, x := range m.Warm {
		w.u32(uint32(x.Table))
		w.u32(uint32(x.Block))
	}
	if m.version < 2 {
		return w.b
	}
	w.b = append(w.b, m.Stripes.Bytes()...)
	w.u32(uint32(len(m.Loans)))
	for _, l := range m.Loans {
		w.string16(l.Store)
		w.u64(l.Number)
		w.u64(uint64(l.Until.UnixNano()))
	}
	return w.b
}

// chooseVersion sets the oldest version that can say what the manifest says.
func (m *Manifest) chooseVersion() {
	m.version = 1
	if m.Stripes != stripemap.All || len(m.Loans) > 0 {
		m.version = manifestVersion
	}
}

// parseBody reads what was sealed into m. Every count is bounded before it allocates.
func (m *Manifest) parseBody(b []byte) error {
	r := &reader{b: b}
	m.Name = r.name()
	m.StoreVersion = r.u32()
	for range r.count(logsMax, 34) {
		l := Log{ID: logcore.LogID(r.u64()), Incarnation: r.u64(), Ingested: logcore.LSN(r.u64()), Entry: logcore.LSN(r.u64())}
		l.Name = string(r.take(int(r.u16())))
		m.Logs = append(m.Logs, l)
	}
	for range r.count(filesMax, 6) {
		s := Small{Name: r.name()}
		n := r.u32()
		if n > smallBytesMax {
			r.fail("small file of %d bytes", n)
			break
		}
		s.Data = append([]byte{}, r.take(int(n))...)
		m.Small = append(m.Small, s)
	}
	for range r.count(filesMax, 126) {
		t := r.table()
		t.store = m.Name
		m.Tables = append(m.Tables, t)
	}
	for range r.count(warmMax, 8) {
		m.Warm = append(m.Warm, Block{Table: int(r.u32()), Block: int(r.u32())})
	}
	m.Stripes = stripemap.All
	if m.version >= 2 {
		r.shared(m)
	}
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return r.err
	}
	return m.validate()
}

// shared reads what version 2 added.
func (r *reader) shared(m *Manifest) {
	if b := r.take(stripemap.SetBytes); b != nil {
		m.Stripes, _ = stripemap.SetOf(b)
	}
	for range r.count(loansMax, 18) {
		l := Loan{Store: r.name(), Number: r.u64(), Until: time.Unix(0, int64(r.u64())).UTC()}
		m.Loans = append(m.Loans, l)
	}
}

// validate checks what the rest of the package may then rely on.
func (m *Manifest) validate() error {
	seen := map[string]bool{}
	for _, s := range m.Small {
		if seen[s.Name] {
			return damaged("manifest", "two files %q", s.Name)
		}
		seen[s.Name] = true
	}
	for _, t := range m.Tables {
		if seen[t.Name] {
			return damaged("manifest", "two files %q", t.Name)
		}
		seen[t.Name] = true
		if t.Epoch == 0 || t.Epoch > m.Epoch {
			return damaged("manifest", "table %s stored in epoch %d, the manifest is of epoch %d", t.Name, t.Epoch, m.Epoch)
		}
	}
	lent := map[Loan]bool{}
	for _, l := range m.Loans {
		of := Loan{Store: l.Store, Number: l.Number}
		if lent[of] || l.Number == 0 || l.Number > m.Number {
			return damaged("manifest", "manifest %d lent to %s, twice or not yet there", l.Number, l.Store)
		}
		lent[of] = true
	}
	if m.Stripes.Empty() && !m.Empty() {
		return damaged("manifest", "a store without stripes")
	}
	for _, x := range m.Warm {
		if x.Table >= len(m.Tables) || x.Block >= m.Tables[x.Table].blocks() {
			return damaged("manifest", "block %d of table number %d does not exist", x.Block, x.Table)
		}
	}
	return nil
}

// blocks is the number of blocks of a table; a table has one at least.
func (t Table) blocks() int { return int((t.Size + int64(t.Block) - 1) / int64(t.Block)) }

// stored is where a block lies in the stored file.
func (t Table) stored(block int) (offset, length int64) {
	stride := int64(t.Block + blockExtra)
	return fileHeaderBytes + int64(block)*stride, int64(t.blockLen(block)) + blockExtra
}

// blockLen is the length of a block's content: the last one may be shorter.
func (t Table) blockLen(block int) int {
	return int(min(int64(t.Block), t.Size-int64(block)*int64(t.Block)))
}

type writer struct{ b []byte }

func (w *writer) u32(v uint32) { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) string16(s string) {
	w.b = append(binary.LittleEndian.AppendUint16(w.b, uint16(len(s))), s...)
}

// reader reads a body; after a failure it returns zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = damaged("manifest", format, args...)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("the body ends early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads how many elements of at least size bytes follow.
func (r *reader) count(most, size int) int {
	n := int64(r.u32())
	if n > int64(most) || n*int64(size) > int64(len(r.b)) {
		r.fail("%d elements in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

// name reads a file's name. It must be safe to use in a directory.
func (r *reader) name() string {
	s := string(r.take(int(r.u16())))
	if r.err == nil && !validName(s) {
		r.fail("%q is no file name", s)
	}
	return s
}

func validName(s string) bool {
	if s == "" || len(s) > nameBytesMax || s == "." || s == ".." {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	})
}

func (r *reader) table() Table {
	t := Table{Name: r.name()}
	size := r.u64()
	t.Epoch = r.u64()
	copy(t.Object[:], r.take(len(t.Object)))
	copy(t.Content[:], r.take(len(t.Content)))
	copy(t.KeyID[:], r.take(len(t.KeyID)))
	copy(t.Seed[:], r.take(len(t.Seed)))
	block := r.u32()
	if r.err == nil && (size == 0 || size > fileBytesMax || block < blockBytesMin || block > blockBytesMax) {
		r.fail("table %s of %d bytes in blocks of %d", t.Name, size, block)
	}
	t.Size, t.Block = int64(min(size, math.MaxInt64)), int(max(block, blockBytesMin))
	return t
}
