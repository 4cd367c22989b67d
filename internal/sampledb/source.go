package sampledb

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/currency"
	"golang.org/x/text/language"
	"golang.org/x/text/language/display"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/unicode/runenames"
	"golang.org/x/text/width"
)

// row is one row's columns: int64, string, []byte or nil.
type row []any

// table is a table to fill: what inserts a row, and the rows in an order that foreign
// keys allow.
type table struct {
	name   string
	insert string
	rows   []row
}

// characters returns the characters that have a name of their own: neither ideographs
// and Hangul syllables, whose names follow from their number, nor controls. At most
// limit, spread over the whole range, in ascending order.
func characters(limit int) []rune {
	var all []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if named(runenames.Name(r)) {
			all = append(all, r)
		}
	}
	if limit <= 0 || limit >= len(all) {
		return all
	}
	picked := make([]rune, limit)
	for i := range picked {
		picked[i] = all[i*len(all)/limit]
	}
	return picked
}

func named(name string) bool {
	for _, prefix := range []string{"<", "CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "HANGUL SYLLABLE"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return name != ""
}

// tables computes everything to load.
func tables(charactersMax int) []table {
	scripts, properties := slices.Sorted(maps.Keys(unicode.Scripts)), slices.Sorted(maps.Keys(unicode.Properties))
	chars := characters(charactersMax)
	regions, currencies := regionRows()
	return []table{
		{"script", `INSERT INTO script VALUES (?, ?)`, numbered(scripts)},
		{"category", `INSERT INTO category VALUES (?, ?)`, categoryRows()},
		{"property", `INSERT INTO property VALUES (?, ?)`, numbered(properties)},
		{"script_range", `INSERT INTO script_range VALUES (?, ?, ?, ?)`, rangeRows(scripts, unicode.Scripts)},
		{"property_range", `INSERT INTO property_range VALUES (?, ?, ?, ?)`, rangeRows(properties, unicode.Properties)},
		{"character", `INSERT INTO character(codepoint, name, category, script, upper, lower, title, bidi, width, utf8) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, characterRows(chars, scripts)},
		{"decomposition", `INSERT INTO decomposition VALUES (?, ?, ?)`, decompositionRows(chars)},
		{"currency", `INSERT INTO currency VALUES (?, ?, ?)`, currencies},
		{"region", `INSERT INTO region VALUES (?, ?, ?, ?)`, regions},
		{"language", `INSERT INTO language VALUES (?, ?, ?, ?)`, languageRows()},
		{"display_name", `INSERT INTO display_name VALUES (?, ?, ?, ?)`, displayRows()},
	}
}

func numbered(names []string) []row {
	rows := make([]row, len(names))
	for i, name := range names {
		rows[i] = row{int64(i + 1), name}
	}
	return rows
}

// categoryRows puts the one-letter classes before the categories in them.
func categoryRows() []row {
	rows := []row{{"Cn", nil}}
	for _, code := range slices.SortedFunc(maps.Keys(unicode.Categories), func(a, b string) int {
		return 2*(len(a)-len(b)) + strings.Compare(a, b)
	}) {
		switch {
		case code == "Cn":
		case len(code) == 1:
			rows = append(rows, row{code, nil})
		default:
			rows = append(rows, row{code, code[:1]})
		}
	}
	return rows
}

func rangeRows(names []string, of map[string]*unicode.RangeTable) []row {
	var rows []row
	for i, name := range names {
		for _, r := range of[name].R16 {
			rows = append(rows, row{int64(i + 1), int64(r.Lo), int64(r.Hi), int64(r.Stride)})
		}
		for _, r := range of[name].R32 {
			rows = append(rows, row{int64(i + 1), int64(r.Lo), int64(r.Hi), int64(r.Stride)})
		}
	}
	return rows
}

// inTable returns the first name whose table holds r, and its number from 1.
func inTable(r rune, names []string, of map[string]*unicode.RangeTable) (string, int64) {
	for i, name := range names {
		if unicode.Is(of[name], r) {
			return name, int64(i + 1)
		}
	}
	return "", 0
}

func characterRows(chars []rune, scripts []string) []row {
	var categories []string
	for code := range unicode.Categories {
		if len(code) == 2 && code != "LC" {
			categories = append(categories, code)
		}
	}
	slices.Sort(categories)
	rows := make([]row, len(chars))
	for i, r := range chars {
		category, _ := inTable(r, categories, unicode.Categories)
		if category == "" {
			category = "Cn"
		}
		var script any
		if _, id := inTable(r, scripts, unicode.Scripts); id != 0 {
			script = id
		}
		class, _ := bidi.LookupRune(r)
		rows[i] = row{int64(r), runenames.Name(r), category, script,
			mapped(r, unicode.ToUpper(r)), mapped(r, unicode.ToLower(r)), mapped(r, unicode.ToTitle(r)),
			bidiNames[class.Class()], width.LookupRune(r).Kind().String(), []byte(string(r))}
	}
	return rows
}

// mapped is a case mapping, NULL when it changes nothing.
func mapped(from, to rune) any {
	if from == to {
		return nil
	}
	return int64(to)
}

var bidiNames = [...]string{bidi.L: "L", bidi.R: "R", bidi.EN: "EN", bidi.ES: "ES", bidi.ET: "ET", bidi.AN: "AN", bidi.CS: "CS",
	bidi.B: "B", bidi.S: "S", bidi.WS: "WS", bidi.ON: "ON", bidi.BN: "BN", bidi.NSM: "NSM", bidi.AL: "AL", bidi.Control: "Control",
	bidi.LRO: "LRO", bidi.RLO: "RLO", bidi.LRE: "LRE", bidi.RLE: "RLE", bidi.PDF: "PDF", bidi.LRI: "LRI", bidi.RLI: "RLI", bidi.FSI: "FSI", bidi.PDI: "PDI"}

func decompositionRows(chars []rune) []row {
	var rows []row
	for _, r := range chars {
		parts := string(norm.NFKD.PropertiesString(string(r)).Decomposition())
		for i, part := range []rune(parts) {
			rows = append(rows, row{int64(r), int64(i), int64(part)})
		}
	}
	return rows
}

func regionRows() (regions, currencies []row) {
	seen := make(map[string]bool)
	for _, code := range pairs('A') {
		r, err := language.ParseRegion(code)
		if err != nil || !r.IsCountry() || r.String() != code {
			continue
		}
		var unit any
		if u, ok := currency.FromRegion(r); ok {
			unit = u.String()
			if !seen[u.String()] {
				seen[u.String()] = true
				decimals, increment := currency.Standard.Rounding(u)
				currencies = append(currencies, row{u.String(), int64(decimals), int64(increment)})
			}
		}
		regions = append(regions, row{code, r.ISO3(), int64(r.M49()), unit})
	}
	return regions, currencies
}

// languageCodes returns the two-letter languages that have an English name.
func languageCodes() []language.Base {
	var bases []language.Base
	names := display.English.Languages()
	for _, code := range pairs('a') {
		b, err := language.ParseBase(code)
		if err == nil && b.String() == code && names.Name(b) != "" {
			bases = append(bases, b)
		}
	}
	return bases
}

func languageRows() []row {
	var rows []row
	for _, b := range languageCodes() {
		tag, err := language.Compose(b)
		if err != nil {
			continue
		}
		script, _ := tag.Script()
		region, _ := tag.Region()
		var in any
		if region.IsCountry() {
			in = region.String()
		}
		rows = append(rows, row{b.String(), b.ISO3(), script.String(), in})
	}
	return rows
}

// displayRows names every language and region in some of the larger languages.
func displayRows() []row {
	var rows []row
	regions, _ := regionRows()
	for _, in := range []string{"ar", "bn", "de", "en", "es", "fr", "hi", "id", "ja", "ko", "pt", "ru", "sw", "tr", "zh"} {
		tag := language.MustParse(in)
		languages, places := display.Languages(tag), display.Regions(tag)
		for _, b := range languageCodes() {
			if name := languages.Name(b); name != "" {
				rows = append(rows, row{"language", b.String(), in, name})
			}
		}
		for _, r := range regions {
			if name := places.Name(language.MustParseRegion(r[0].(string))); name != "" {
				rows = append(rows, row{"region", r[0], in, name})
			}
		}
	}
	return rows
}

// pairs returns every pair of letters of the alphabet that begins at first.
func pairs(first rune) []string {
	var all []string
	for a := first; a < first+26; a++ {
		for b := first; b < first+26; b++ {
			all = append(all, string([]rune{a, b}))
		}
	}
	return all
}
