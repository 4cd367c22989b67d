package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes; its text form takes the units KiB, MiB, GiB and TiB.
type Bytes int64

var byteUnits = []struct {
	name string
	size int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String returns the shortest exact form.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Set reads a number with an optional unit.
func (b *Bytes) Set(s string) error {
	factor, number := int64(1), strings.TrimSpace(s)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			factor, number = u.size, strings.TrimSpace(rest)
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return fmt.Errorf("%q is not a size: want a whole number with an optional KiB, MiB, GiB or TiB, such as 16MiB", s)
	}
	*b = Bytes(n * factor)
	return nil
}

// Type names the value in a flag's usage.
func (b *Bytes) Type() string { return "size" }

type stringValue string

func (v *stringValue) String() string     { return string(*v) }
func (v *stringValue) Set(s string) error { *v = stringValue(s); return nil }
func (v *stringValue) Type() string       { return "string" }

// String is a field's value over a string.
func String(p *string) *stringValue { return (*stringValue)(p) }

type intValue int

func (v *intValue) String() string { return strconv.Itoa(int(*v)) }
func (v *intValue) Type() string   { return "number" }
func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", s)
	}
	*v = intValue(n)
	return nil
}

// Int is a field's value over an int.
func Int(p *int) *intValue { return (*intValue)(p) }

type durationValue time.Duration

func (v *durationValue) String() string { return time.Duration(*v).String() }
func (v *durationValue) Type() string   { return "duration" }
func (v *durationValue) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration: want a number with a unit, such as 500ms, 2s or 1m30s", s)
	}
	*v = durationValue(d)
	return nil
}

// Duration is a field's value over a time.Duration.
func Duration(p *time.Duration) *durationValue { return (*durationValue)(p) }

// List is a field's value over a list of strings; its text form is separated by commas.
type List struct{ items *[]string }

// Strings returns a List over p.
func Strings(p *[]string) List { return List{items: p} }

// String joins the items with commas.
func (v List) String() string {
	if v.items == nil {
		return ""
	}
	return strings.Join(*v.items, ",")
}

// Type names the value in a flag's usage.
func (v List) Type() string { return "list" }

// Set replaces the items by those between the commas of s.
func (v List) Set(s string) error {
	if strings.TrimSpace(s) == "" {
		return v.SetItems(nil)
	}
	return v.SetItems(strings.Split(s, ","))
}

// SetItems replaces the items.
func (v List) SetItems(items []string) error {
	out := make([]string, 0, len(items))
	for _, item := range items {
		item = strings.TrimSpace(item)
		if item == "" {
			return errors.New("an item of the list is empty: remove it or the comma too many")
		}
		out = append(out, item)
	}
	*v.items = out
	return nil
}
