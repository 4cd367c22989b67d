package page_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/logcore/logcore/engine/postgres/page"
)

// content returns the items of a page, nil for a line pointer without storage.
func content(t *testing.T, p page.Page) [][]byte {
	t.Helper()
	var out [][]byte
	for n := 1; n <= p.Items(); n++ {
		id, err := p.ItemID(n)
		if err != nil {
			t.Fatal(err)
		}
		if id.Length() == 0 {
			out = append(out, nil)
			continue
		}
		b, err := p.Item(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, bytes.Clone(b))
	}
	return out
}

func equal(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// Whatever is done to an index page, its items are those of a plain list.
func TestIndexPagesAreLists(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	p := make(page.Page, page.Bytes)
	p.Init(16)
	var model [][]byte
	full := 0
	item := func() []byte {
		b := make([]byte, 8*(1+rng.IntN(20)))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	for step := range 20000 {
		var err error
		switch n := 1 + rng.IntN(len(model)+1); {
		case n > len(model) || rng.IntN(3) > 0:
			b := item()
			if err = p.InsertItem(n, b); errors.Is(err, page.ErrDamaged) {
				full++
				model = model[len(model)/2:]
				var gone []int
				for i := 1; i <= p.Items()-len(model); i++ {
					gone = append(gone, i)
				}
				err = p.DeleteItems(gone)
				break
			}
			model = append(model[:n-1:n-1], append([][]byte{b}, model[n-1:]...)...)
		case rng.IntN(2) == 0:
			err = p.DeleteItem(n)
			model = append(model[:n-1:n-1], model[n:]...)
		default:
			b := item()
			if err = p.OverwriteItem(n, b); errors.Is(err, page.ErrDamaged) {
				err = nil // no room for more
				break
			}
			model[n-1] = b
		}
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if got := content(t, p); !equal(got, model) {
			t.Fatalf("step %d: %d items, want %d", step, len(got), len(model))
		}
	}
	if full < 100 {
		t.Errorf("the page was full %d times, want 100", full)
	}
}

// Heap pages keep the numbers of their items.
func TestHeapPagesKeepNumbers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 9))
	p := make(page.Page, page.Bytes)
	p.Init(0)
	var model [][]byte
	repairs := 0
	for step := range 20000 {
		n := 1 + rng.IntN(len(model)+1)
		if n > len(model) || model[n-1] == nil {
			b := bytes.Repeat([]byte{byte(step)}, 24+rng.IntN(100))
			if err := p.AddItem(n, b); err == nil {
				if n > len(model) {
					model = append(model, b)
				} else {
					model[n-1] = b
				}
				continue
			}
		}
		for range 5 {
			n := 1 + rng.IntN(len(model))
			if model[n-1] != nil {
				model[n-1] = nil
				if err := p.SetItemID(n, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := p.RepairFragmentation(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		repairs++
		for len(model) > 0 && model[len(model)-1] == nil {
			model = model[:len(model)-1]
		}
		free := 0
		used := 0
		for _, b := range model {
			used += (len(b) + 7) &^ 7
			if b == nil {
				free++
			}
		}
		if got := content(t, p); !equal(got, model) || p.Upper() != page.Bytes-used || p.Flags()&page.HasFreeLines != 0 != (free > 0) {
			t.Fatalf("step %d: %d items, upper %d, flags %d; want %d, %d, %d free", step, len(got), p.Upper(), p.Flags(), len(model), page.Bytes-used, free)
		}
	}
	if repairs < 1000 {
		t.Errorf("%d repairs, want 1,000", repairs)
	}
}

func TestDamagedPagesAreRefused(t *testing.T) {
	for name, damage := range map[string]func(page.Page){
		"lower":   func(p page.Page) { p.SetLower(9000) },
		"upper":   func(p page.Page) { p.SetUpper(10) },
		"pointer": func(p page.Page) { _ = p.SetItemID(1, page.MakeItemID(8190, page.Normal, 40)) },
	} {
		p := make(page.Page, page.Bytes)
		p.Init(16)
		for n := range 4 {
			if err := p.AddItem(n+1, make([]byte, 40)); err != nil {
				t.Fatal(err)
			}
		}
		damage(p)
		for op, err := range map[string]error{
			"delete": p.DeleteItem(1), "delete three": p.DeleteItems([]int{1, 2, 3}), "overwrite": p.OverwriteItem(1, make([]byte, 48)),
			"repair": p.RepairFragmentation(), "delete keeping numbers": p.DeleteItemKeepingNumbers(1),
		} {
			if !errors.Is(err, page.ErrDamaged) {
				t.Errorf("%s, then %s: %v, want ErrDamaged", name, op, err)
			}
		}
	}
}
