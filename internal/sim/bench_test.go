package sim

import "testing"

// BenchmarkSeed is one run of the default length: make sim needs 10,000 of them.
func BenchmarkSeed(b *testing.B) {
	b.ReportAllocs()
	for i := range b.N {
		if r := Run(uint64(i)+1, Options{}); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}
