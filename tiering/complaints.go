package tiering

import "time"

// How often something that goes on failing is said again: when it fails in another way,
// and now and then when it does not change.
const (
	complainChanged = time.Minute
	complainSame    = 10 * time.Minute
)

// complaints keeps what is tried every second from being complained about every second. It
// belongs to one goroutine.
type complaints map[string]*complaint

type complaint struct {
	text string
	at   time.Time
}

// worth reports whether an error is worth a line in the log: the first one, one that
// differs after a minute, any after ten.
func (c complaints) worth(what string, err error, now time.Time) bool {
	last := c[what]
	switch {
	case last == nil:
		c[what] = &complaint{err.Error(), now}
		return true
	case now.Sub(last.at) >= complainSame, now.Sub(last.at) >= complainChanged && last.text != err.Error():
		*last = complaint{err.Error(), now}
		return true
	}
	return false
}

// over reports whether something that failed has ended.
func (c complaints) over(what string) bool {
	_, failed := c[what]
	delete(c, what)
	return failed
}
