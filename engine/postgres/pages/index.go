package pages

// pageIndex finds by its page what there is of it: a map that is cleared at no cost and allocates only while it grows.
type pageIndex struct {
	slots []pageSlot // a power of two of them, at least twice as many as are used
	used  int
	round uint32 // slots of another one are free
}

type pageSlot struct {
	key   pageKey
	round uint32
	value int32
}

const pageIndexSlotsMin = 64

// clear forgets everything.
func (x *pageIndex) clear() {
	x.used = 0
	if x.round++; x.round == 0 { // slots of the round of that number, long ago, would be in use again
		clear(x.slots)
		x.round = 1
	}
}

// slot returns where a key is, or would be.
func (x *pageIndex) slot(k pageKey) *pageSlot {
	h := k.space.Hi*0x9E3779B97F4A7C15 ^ k.space.Lo*0xC2B2AE3D27D4EB4F ^ uint64(k.page)*0x165667B19E3779F9
	h *= 0x9E3779B97F4A7C15
	mask := len(x.slots) - 1
	for i := int(h>>32) & mask; ; i = (i + 1) & mask {
		if s := &x.slots[i]; s.round != x.round || s.key == k {
			return s
		}
	}
}

// find returns a key's value, none when it has none.
func (x *pageIndex) find(k pageKey) int32 {
	if x.used == 0 {
		return none
	}
	if s := x.slot(k); s.round == x.round {
		return s.value
	}
	return none
}

// set gives a key a value.
func (x *pageIndex) set(k pageKey, value int32) {
	if 2*x.used >= len(x.slots) {
		x.grow()
	}
	s := x.slot(k)
	if s.round != x.round {
		x.used++
	}
	*s = pageSlot{k, x.round, value}
}

func (x *pageIndex) grow() {
	old, round := x.slots, x.round
	x.slots, x.used, x.round = make([]pageSlot, max(2*len(old), pageIndexSlotsMin)), 0, 1
	for i := range old {
		if s := &old[i]; s.round == round && round != 0 {
			*x.slot(s.key) = pageSlot{s.key, 1, s.value}
			x.used++
		}
	}
}
