package engine_test

import (
	"errors"
	"testing"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/engine"
)

// named is a decoder that can be told from others.
type named struct {
	engine.Decoder
	name string
}

func TestMuxChooses(t *testing.T) {
	m := engine.NewMux(engine.Format{Name: "a", Magic: []byte("AA"), Decoder: named{name: "a"}},
		engine.Format{Name: "b", Magic: []byte("AB"), Decoder: named{name: "b"}}, engine.Format{Name: "c", Decoder: named{name: "c"}})
	for _, name := range []string{"a", "b", "c"} {
		if f, err := m.Named(name); err != nil || f.Decoder.(named).name != name {
			t.Errorf("named %s: %v, %v", name, f.Decoder, err)
		}
	}
	for payload, want := range map[string]string{"AAx": "a", "AB": "b"} {
		if f, err := m.Of([]byte(payload)); err != nil || f.Name != want {
			t.Errorf("payload %s: %v, %v", payload, f.Name, err)
		}
	}
	for _, payload := range []string{"", "A", "AC", "x"} {
		if _, err := m.Of([]byte(payload)); !errors.Is(err, logcore.ErrPayloadFormat) {
			t.Errorf("payload %q: %v, want ErrPayloadFormat", payload, err)
		}
	}
	for _, name := range []string{"", "d"} {
		if _, err := m.Named(name); !errors.Is(err, logcore.ErrPayloadFormat) {
			t.Errorf("named %q: %v, want ErrPayloadFormat", name, err)
		}
	}
	only := engine.Only(named{name: "o"})
	for _, name := range []string{"", "pages"} {
		if f, err := only.Named(name); err != nil || f.Decoder.(named).name != "o" {
			t.Errorf("only, named %q: %v", name, err)
		}
	}
	if f, err := only.Of([]byte("x")); err != nil || f.Decoder.(named).name != "o" {
		t.Errorf("only, by payload: %v", err)
	}
}

func TestMuxRefusesClashes(t *testing.T) {
	d := named{name: "x"}
	for what, formats := range map[string][]engine.Format{
		"same name":  {{Name: "a", Decoder: d}, {Name: "a", Decoder: d}},
		"magic":      {{Name: "a", Magic: []byte("AB"), Decoder: d}, {Name: "b", Magic: []byte("A"), Decoder: d}},
		"no name":    {{Decoder: d}},
		"no decoder": {{Name: "a"}},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", what)
				}
			}()
			engine.NewMux(formats...)
		}()
	}
}

func TestValidate(t *testing.T) {
	page, key := make([]byte, 64), []byte("k")
	for what, r := range map[string]engine.Record{
		"redo":        {Op: engine.OpRedo, PageSize: 64, Init: true, Data: []byte("x")},
		"empty redo":  {Op: engine.OpRedo, PageSize: 64},
		"drop group":  {Op: engine.OpDropGroup, Space: engine.Space{Hi: 3}},
		"copy group":  {Op: engine.OpCopyGroup, Space: engine.Space{Hi: 3}, From: 4},
		"put":         {Op: engine.OpPut, Key: key, Data: make([]byte, engine.ObjectBytesMax)},
		"put nothing": {Op: engine.OpPut, Key: key},
	} {
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, r := range map[string]engine.Record{
		"redo without page size": {Op: engine.OpRedo, Data: page},
		"redo too large":         {Op: engine.OpRedo, PageSize: 64, Data: make([]byte, engine.RedoBytesMax+1)},
		"redo of no page":        {Op: engine.OpRedo, PageSize: 64, Page: 1<<32 - 1},
		"init of an image":       {Op: engine.OpImage, PageSize: 64, Data: page, Init: true},
		"group with lo":          {Op: engine.OpDropGroup, Space: engine.Space{Hi: 3, Lo: 1}},
		"group with page size":   {Op: engine.OpDropGroup, PageSize: 64},
		"group with page":        {Op: engine.OpCopyGroup, Page: 1},
		"from of a drop":         {Op: engine.OpDropGroup, From: 1},
		"put without key":        {Op: engine.OpPut, Data: page},
		"put with a long key":    {Op: engine.OpPut, Key: make([]byte, engine.KeyBytesMax+1)},
		"put too large":          {Op: engine.OpPut, Key: key, Data: make([]byte, engine.ObjectBytesMax+1)},
		"put into a space":       {Op: engine.OpPut, Key: key, Space: engine.SpaceOf(1)},
		"key of a redo":          {Op: engine.OpRedo, PageSize: 64, Key: key},
		"unknown":                {Op: 9},
	} {
		if err := r.Validate(); !errors.Is(err, logcore.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
}
