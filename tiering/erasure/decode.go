package erasure

import (
	"errors"
	"fmt"

	"github.com/klauspost/reedsolomon"

	"github.com/logcore/logcore"
)

// ErrTooFew: a stripe has fewer than k good blocks left.
var ErrTooFew = errors.New("erasure: too few good fragments")

// Fault is something wrong with a fragment.
type Fault struct {
	Index  int   // of the fragment
	Offset int64 // in the fragment
	Reason string
}

// String names the fragment, the offset and the reason.
func (f Fault) String() string {
	return fmt.Sprintf("fragment %d at offset %d: %s", f.Index, f.Offset, f.Reason)
}

// Rebuild returns the object m describes from its fragments: fragments[i] is what was found
// in the place of the one with index i, or nil. A fragment of the object that was found in
// another's place is used as what it is. Any k good blocks of each stripe are enough,
// whichever fragments they come from. It returns every fault it met whether or
// not it succeeded. It fails with ErrTooFew, or with logcore.ErrCorrupt when every
// checksum holds and yet the digest of the object does not. The caller owns the object.
func Rebuild(m Meta, fragments [][]byte) (object []byte, faults []Fault, err error) {
	if err := m.Validate(); err != nil {
		return nil, nil, fmt.Errorf("erasure: rebuild: %w", err)
	}
	if len(fragments) > m.K+m.M {
		return nil, nil, fmt.Errorf("%w: erasure: %d fragments of a %d+%d code", logcore.ErrInvalid, len(fragments), m.K, m.M)
	}
	inPlace, faults := sortIn(m, fragments)
	object, more, err := decodeStripes(m, 0, m.stripes()-1, HeaderBytes, headerless(inPlace))
	faults = append(faults, more...)
	if err != nil {
		return nil, faults, err
	}
	if DigestOf(m, object) != m.Digest {
		return nil, faults, corrupt(-1, "object [%d,%d]: the rebuilt bytes do not have the digest of the object", m.First, m.Last)
	}
	return object, faults, nil
}

// ReadRange returns [offset, offset+length) of the object m describes. pieces[i] is
// the part of fragment i that m.FragmentRange names, or nil. Faults and errors are as
// for Rebuild, but that the digest of the whole object is not checked.
func ReadRange(m Meta, offset, length int64, pieces [][]byte) (data []byte, faults []Fault, err error) {
	if err := m.Validate(); err != nil {
		return nil, nil, fmt.Errorf("erasure: read range: %w", err)
	}
	first, last, err := m.stripeRange(offset, length)
	if err != nil {
		return nil, nil, err
	}
	data, faults, err = decodeStripes(m, first, last, m.blockOffset(first), pieces)
	if err != nil {
		return nil, faults, err
	}
	skip := offset - first*m.stripeBytes()
	return data[skip : skip+length : skip+length], faults, nil
}

// VerifyFragment checks the header and every block of one fragment, and that it is as
// long as it says. With want it must be fragment index of that object. It returns all
// faults; none means that the fragment is whole.
func VerifyFragment(want *Meta, index int, fragment []byte) []Fault {
	h, err := ParseHeader(fragment)
	if want != nil {
		if fault := checkHeader(*want, index, fragment); fault != nil {
			return []Fault{*fault}
		}
	} else if err != nil {
		return []Fault{faultOf(index, err)}
	} else if int64(len(fragment)) != h.FragmentBytes() {
		return []Fault{{h.Index, min(int64(len(fragment)), h.FragmentBytes()), fmt.Sprintf("%d bytes long, want %d", len(fragment), h.FragmentBytes())}}
	}
	var faults []Fault
	salt := headerSum(h.Meta, h.Index)
	for s := range h.stripes() {
		at := h.blockOffset(s)
		if _, fault := blockAt(h.Meta, h.Index, salt, s, fragment[at:], at); fault != nil {
			faults = append(faults, *fault)
		}
	}
	return faults
}

// sortIn returns the fragments in the places that their headers name. Those that are not
// whole stay where they were found: their blocks may be good.
func sortIn(m Meta, fragments [][]byte) (out [][]byte, faults []Fault) {
	out = make([][]byte, m.K+m.M)
	var strays [][]byte
	for i, f := range fragments {
		if f == nil {
			continue
		}
		fault := checkHeader(m, i, f)
		if fault == nil {
			out[i] = f
			continue
		}
		faults = append(faults, *fault)
		if h, err := ParseHeader(f); err == nil && h.Meta == m && h.Index != i {
			strays = append(strays, f)
		} else {
			out[i] = f
		}
	}
	for _, f := range strays {
		if h, _ := ParseHeader(f); out[h.Index] == nil || checkHeader(m, h.Index, out[h.Index]) != nil {
			out[h.Index] = f
		}
	}
	return out, faults
}

// checkHeader tells whether a fragment claims to be fragment index of m, whole.
func checkHeader(m Meta, index int, fragment []byte) *Fault {
	h, err := ParseHeader(fragment)
	if err != nil {
		f := faultOf(index, err)
		return &f
	}
	switch {
	case h.Meta != m:
		return &Fault{index, 0, fmt.Sprintf("it belongs to another object: entries [%d,%d], epoch %d, digest %x", h.First, h.Last, h.Epoch, h.Digest[:8])}
	case h.Index != index:
		return &Fault{index, offIndex, fmt.Sprintf("it is fragment %d, want %d", h.Index, index)}
	case int64(len(fragment)) != m.FragmentBytes():
		return &Fault{index, min(int64(len(fragment)), m.FragmentBytes()), fmt.Sprintf("%d bytes long, want %d", len(fragment), m.FragmentBytes())}
	}
	return nil
}

func faultOf(index int, err error) Fault {
	var ce *logcore.CorruptionError
	if errors.As(err, &ce) {
		return Fault{index, max(ce.Offset, 0), ce.Reason}
	}
	return Fault{index, 0, err.Error()}
}

// headerless cuts the header off each fragment; one that is shorter is left empty, and
// every block of it is then a fault.
func headerless(fragments [][]byte) [][]byte {
	out := make([][]byte, len(fragments))
	for i, f := range fragments {
		if f != nil {
			out[i] = f[min(HeaderBytes, len(f)):]
		}
	}
	return out
}

// blockAt returns the block of a stripe, which begins at src and at offset in its
// fragment, verified.
func blockAt(m Meta, index int, salt uint32, stripe int64, src []byte, offset int64) ([]byte, *Fault) {
	n := m.blockBytes(stripe)
	if len(src) < n+m.sumBytes() {
		return nil, &Fault{index, offset + int64(len(src)), fmt.Sprintf("cut short in block %d", stripe)}
	}
	got, want := m.blockSum(salt, stripe, src[:n]), m.storedSum(src[n:])
	if got != want {
		return nil, &Fault{index, offset, fmt.Sprintf("checksum of block %d is %x, stored %x", stripe, got, want)}
	}
	return src[:n:n], nil
}

// decodeStripes rebuilds stripes [first, last]; pieces begin at offset start of their
// fragments.
func decodeStripes(m Meta, first, last, start int64, pieces [][]byte) (out []byte, faults []Fault, err error) {
	if len(pieces) > m.K+m.M {
		return nil, nil, fmt.Errorf("%w: erasure: %d fragments of a %d+%d code", logcore.ErrInvalid, len(pieces), m.K, m.M)
	}
	enc, err := codec(m.K, m.M)
	if err != nil {
		return nil, nil, err
	}
	salts := make([]uint32, len(pieces))
	for i := range pieces {
		salts[i] = headerSum(m, i)
	}
	from := first * m.stripeBytes()
	out = make([]byte, min(m.Length, (last+1)*m.stripeBytes())-from)
	done := make([]stripeResult, last-first+1)
	inParallel(len(done), func(j int) {
		s := first + int64(j)
		at := s * m.stripeBytes()
		dst := out[at-from : min(m.Length, at+m.stripeBytes())-from]
		done[j] = decodeStripe(m, enc, salts, s, start, pieces, dst)
	})
	for _, d := range done { // all of them: the caller wants every fault named
		faults = append(faults, d.faults...)
		if err == nil {
			err = d.err
		}
	}
	if err != nil {
		return nil, faults, err
	}
	return out, faults, nil
}

type stripeResult struct {
	faults []Fault
	err    error
}

// decodeStripe rebuilds one stripe into dst, which is as long as the object's bytes in it.
func decodeStripe(m Meta, enc reedsolomon.Encoder, salts []uint32, s, start int64, pieces [][]byte, dst []byte) (res stripeResult) {
	blocks := make([][]byte, m.K+m.M)
	good := 0
	for i, p := range pieces {
		if p == nil {
			continue
		}
		at := m.blockOffset(s) - start
		block, fault := blockAt(m, i, salts[i], s, p[min(at, int64(len(p))):], start+min(at, int64(len(p))))
		if fault != nil {
			res.faults = append(res.faults, *fault)
			continue
		}
		blocks[i] = block
		good++
	}
	if good < m.K {
		res.err = fmt.Errorf("%w: stripe %d of entries [%d,%d] has %d of the %d it needs", ErrTooFew, s, m.First, m.Last, good, m.K)
		return res
	}
	if err := reconstruct(enc, blocks, m.K); err != nil {
		res.err = fmt.Errorf("erasure: stripe %d: %w", s, err)
		return res
	}
	for _, b := range blocks[:m.K] {
		dst = dst[copy(dst, b):]
	}
	return res
}

// reconstruct fills in the missing ones of the first k blocks.
func reconstruct(enc reedsolomon.Encoder, blocks [][]byte, k int) error {
	for _, b := range blocks[:k] {
		if b == nil {
			return enc.ReconstructData(blocks)
		}
	}
	return nil
}
