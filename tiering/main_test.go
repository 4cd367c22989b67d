package tiering

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

// parallelTests is how many tests run beside each other where the machine has fewer
// processors: most of them wait for pauses and deadlines, not for the processor.
const parallelTests = 8

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", strconv.Itoa(parallelTests)); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
