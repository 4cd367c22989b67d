package wire

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
)

// Fields of GetPagesResponse and Page; TestPagesOnTheWire holds them against the
// generated code.
const (
	pagesLSN         = 1
	pagesPages       = 2
	pagesIncarnation = 3

	pageNumber  = 1
	pageData    = 2
	pageDigest  = 3
	pageLastLSN = 4
)

// apartMin is how large a page is that goes out as its own buffer: a smaller one is
// copied at less than what a buffer costs.
const apartMin = 1 << 10

// marshalPages is the message as the generated code would write it, without a copy of the
// pages: they are shared and never written to, so they go out from where they are.
func marshalPages(m *logcorev1.GetPagesResponse) mem.BufferSlice {
	const perPage = 48 // of tags, lengths and numbers, at most
	b := make([]byte, 0, 32+perPage*len(m.Pages))
	out := make(mem.BufferSlice, 0, 2*len(m.Pages)+1)
	from := 0
	flush := func() {
		if len(b) > from {
			out = append(out, mem.SliceBuffer(b[from:len(b):len(b)]))
			from = len(b)
		}
	}
	b = appendUint(b, pagesLSN, m.Lsn)
	for _, p := range m.Pages {
		head := sizeUint(pageNumber, uint64(p.Page))
		tail := sizeUint(pageLastLSN, p.LastLsn)
		if p.Digest != 0 {
			tail += protowire.SizeTag(pageDigest) + protowire.SizeFixed64()
		}
		body := 0
		if len(p.Data) > 0 {
			body = protowire.SizeTag(pageData) + protowire.SizeBytes(len(p.Data))
		}
		b = protowire.AppendTag(b, pagesPages, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(head+body+tail))
		b = appendUint(b, pageNumber, uint64(p.Page))
		if body > 0 {
			b = protowire.AppendTag(b, pageData, protowire.BytesType)
			b = protowire.AppendVarint(b, uint64(len(p.Data)))
			if len(p.Data) < apartMin {
				b = append(b, p.Data...)
			} else {
				flush()
				out = append(out, mem.SliceBuffer(p.Data))
			}
		}
		if p.Digest != 0 {
			b = protowire.AppendFixed64(protowire.AppendTag(b, pageDigest, protowire.Fixed64Type), p.Digest)
		}
		b = appendUint(b, pageLastLSN, p.LastLsn)
	}
	if m.Incarnation != 0 {
		b = protowire.AppendFixed64(protowire.AppendTag(b, pagesIncarnation, protowire.Fixed64Type), m.Incarnation)
	}
	flush()
	return out
}

// appendUint appends a number, which protobuf leaves out when it is 0.
func appendUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func sizeUint(field protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(field) + protowire.SizeVarint(v)
}
