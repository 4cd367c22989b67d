package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/logcore/logcore"
)

// Format is a payload format and its decoder.
type Format struct {
	// Name is what a log announces in the catalog, for instance "pages".
	Name string
	// Magic begins every payload of the format; empty when payloads don't tell.
	Magic []byte
	// Decoder decodes the format.
	Decoder Decoder
}

// Mux knows the payload formats that a page server can decode and chooses a log's: by
// the format that the log announced or, where it announced none, by how its first
// payload begins. It never changes and may be used by many goroutines.
type Mux struct{ formats []Format }

// NewMux returns a mux of these formats. Names must differ and no magic may begin
// another one: it panics otherwise, since formats are known when the program is built.
func NewMux(formats ...Format) *Mux {
	for i, f := range formats {
		for _, g := range formats[:i] {
			clash := len(f.Magic) > 0 && len(g.Magic) > 0 && (bytes.HasPrefix(f.Magic, g.Magic) || bytes.HasPrefix(g.Magic, f.Magic))
			if f.Name == g.Name || clash {
				panic(fmt.Sprintf("engine: payload formats %q and %q can't be told apart", f.Name, g.Name))
			}
		}
		if f.Name == "" || f.Decoder == nil {
			panic("engine: a payload format needs a name and a decoder")
		}
	}
	return &Mux{slices.Clone(formats)}
}

// Only returns a mux that decodes every log with one decoder, whatever it announced.
func Only(d Decoder) *Mux { return &Mux{[]Format{{Decoder: d}}} }

// Named returns the format that a log announced, or an error that wraps
// logcore.ErrPayloadFormat and says which ones there are.
func (m *Mux) Named(name string) (Format, error) {
	for _, f := range m.formats {
		if f.Name == name || f.Name == "" {
			return f, nil
		}
	}
	return Format{}, fmt.Errorf("%w: the log holds %q, this page server decodes %s", logcore.ErrPayloadFormat, name, m.names())
}

// Of returns the format of a payload by its magic, or an error that wraps
// logcore.ErrPayloadFormat.
func (m *Mux) Of(payload []byte) (Format, error) {
	for _, f := range m.formats {
		if f.Name == "" || len(f.Magic) > 0 && bytes.HasPrefix(payload, f.Magic) {
			return f, nil
		}
	}
	return Format{}, fmt.Errorf("%w: the log announced none and its first payload begins with %q; this page server decodes %s",
		logcore.ErrPayloadFormat, payload[:min(8, len(payload))], m.names())
}

func (m *Mux) names() string {
	names := make([]string, len(m.formats))
	for i, f := range m.formats {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}
