package target

import (
	"net/url"
	"strconv"
)

// Prices is what a provider asks, in dollars or whatever the operator counts in. Zero is
// free. They are the operator's own figures, out of the provider's price list: nothing
// here knows them.
type Prices struct {
	Storage float64 // for a gigabyte (1e9 bytes) and month of 30 days: storage=
	Egress  float64 // for a gigabyte read out of the provider: egress=
	Puts    float64 // for a thousand puts, lists and copies: puts=
	Gets    float64 // for a thousand gets and heads: gets=
}

// priceMax keeps a slip of the keyboard from passing for a price.
const priceMax = 1000

// parsePrices reads home=, storage=, egress=, puts= and gets=.
func (s *Spec) parsePrices(query url.Values, badf badFunc) {
	if text := query.Get("home"); text != "" {
		home, err := strconv.ParseBool(text)
		if err != nil {
			badf("field home: %q: want true or false", text)
		}
		s.Home = home
	}
	for _, f := range []struct {
		name  string
		price *float64
	}{{"storage", &s.Prices.Storage}, {"egress", &s.Prices.Egress}, {"puts", &s.Prices.Puts}, {"gets", &s.Prices.Gets}} {
		text := query.Get(f.name)
		if text == "" {
			continue
		}
		price, err := strconv.ParseFloat(text, 64)
		if err != nil || !(price >= 0 && price <= priceMax) {
			badf("field %s: %q: want a price from 0 to %d, as in %s=0.023", f.name, text, priceMax, f.name)
			continue
		}
		*f.price = price
	}
}
