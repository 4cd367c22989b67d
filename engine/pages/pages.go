package pages

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// Encode returns the records, in order, as payloads of at most bytesMax bytes each;
// every payload can be decoded by itself. Without records there is no payload. The
// payloads share no memory with the records. A malformed record is an error that
// wraps logcore.ErrInvalid, a record that does not fit in bytesMax one that wraps
// logcore.ErrTooLarge.
func Encode(records []engine.Record, bytesMax int) ([][]byte, error) {
	var payloads [][]byte
	for len(records) > 0 {
		count, size, err := fit(records, bytesMax)
		if err != nil {
			return nil, err
		}
		payload := appendHeader(make([]byte, 0, size))
		for _, r := range records[:count] {
			payload = appendRecord(payload, r)
		}
		setCount(payload, uint32(count))
		payloads = append(payloads, payload)
		records = records[count:]
	}
	return payloads, nil
}

// fit returns how many of the first records fit in one payload, at least one, and
// the payload's size.
func fit(records []engine.Record, bytesMax int) (count, size int, err error) {
	size = headerBytes
	for i, r := range records {
		if err := validate(&r); err != nil {
			return 0, 0, fmt.Errorf("pages: record %d: %w", i, err)
		}
		n := recordHeaderBytes + bodyBytes(r)
		if size+n > bytesMax {
			if i == 0 {
				return 0, 0, fmt.Errorf("%w: pages: a record of space %v page %d takes %d bytes, a payload may have %d: raise the entry limit to at least %d",
					logcore.ErrTooLarge, r.Space, r.Page, headerBytes+n, bytesMax, RecordBytesMax)
			}
			return i, size, nil
		}
		size += n
	}
	return len(records), size, nil
}

// Decoder decodes payloads of this format. The zero value is ready; it has no state.
type Decoder struct{}

var _ engine.Decoder = Decoder{}

// FormatName is what a log of such payloads announces.
const FormatName = "pages"

// Format is the format for a page server's engine.Mux.
func Format() engine.Format {
	return engine.Format{Name: FormatName, Magic: []byte(Magic), Decoder: Decoder{}}
}

// Decode implements engine.Decoder.
func (Decoder) Decode(_, payload []byte) ([]engine.Record, []byte, error) {
	records, err := Decode(payload)
	return records, nil, err
}

// Redo implements engine.Decoder: the format has no redo records.
func (Decoder) Redo([]byte, []byte) error {
	return fmt.Errorf("%w: pages: a redo record in a format that has none", logcore.ErrCorrupt)
}

// Decode returns the records of a payload, whose slices point into it. A malformed one
// is an error that wraps logcore.ErrCorrupt or logcore.ErrUnsupportedVersion.
func Decode(payload []byte) ([]engine.Record, error) {
	count, rest, err := decodeHeader(payload)
	if err != nil {
		return nil, err
	}
	// A record takes at least its header, so the payload bounds the allocation.
	if uint64(count)*recordHeaderBytes > uint64(len(rest)) {
		return nil, corrupt(12, "%d records in %d bytes", count, len(rest))
	}
	records := make([]engine.Record, 0, count)
	for range count {
		r, after, err := decodeRecord(rest, len(payload)-len(rest))
		if err != nil {
			return nil, err
		}
		records, rest = append(records, r), after
	}
	if len(rest) != 0 {
		return nil, corrupt(len(payload)-len(rest), "%d bytes after the last record", len(rest))
	}
	return records, nil
}
