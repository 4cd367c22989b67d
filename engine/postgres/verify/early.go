package verify

import (
	"math/bits"

	"github.com/logcore/logcore/engine/postgres/page"
)

// earlyBits are the bits of visibility maps that the server had cleared, in the image
// of some record, before the record that clears them. They have to be cleared by one.
type earlyBits map[earlyPlace]byte

type earlyPlace struct {
	page   pageKey
	offset int
}

// note compares a map as redone with the server's. It reports false when the server's has
// a bit that the other hasn't, or differs in more than bits of the map.
func (e earlyBits) note(key pageKey, mine, theirs page.Page) bool {
	header := len(mine) - len(mine.Content())
	for i := range mine {
		if mine[i] != theirs[i] && (i < header || theirs[i]&^mine[i] != 0) {
			return false
		}
	}
	for i := range mine {
		if extra := mine[i] &^ theirs[i]; extra != 0 {
			e[earlyPlace{key, i}] |= extra
		}
	}
	return true
}

// settle takes out what a record has cleared now.
func (e earlyBits) settle(key pageKey, before, after page.Page) {
	if len(e) == 0 {
		return
	}
	for i := range before {
		if cleared := before[i] &^ after[i]; cleared != 0 {
			place := earlyPlace{key, i}
			if e[place] &^= cleared; e[place] == 0 {
				delete(e, place)
			}
		}
	}
}

func (e earlyBits) left() int {
	n := 0
	for _, b := range e {
		n += bits.OnesCount8(b)
	}
	return n
}
