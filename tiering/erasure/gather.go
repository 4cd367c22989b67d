package erasure

import (
	"crypto/sha256"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
)

// gather is bytes that lie in several pieces.
type gather struct {
	parts  [][]byte
	starts []int64 // of each part, and the end
}

func newGather(parts [][]byte) gather {
	g := gather{parts, make([]int64, len(parts)+1)}
	for i, p := range parts {
		g.starts[i+1] = g.starts[i] + int64(len(p))
	}
	return g
}

func (g gather) bytes() int64 { return g.starts[len(g.parts)] }

func (g gather) sha256() (sum [32]byte) {
	h := sha256.New()
	for _, p := range g.parts {
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum
}

// copyAt fills dst with the bytes at off and returns how many there are.
func (g gather) copyAt(dst []byte, off int64) (n int) {
	if off >= g.bytes() {
		return 0
	}
	i := sort.Search(len(g.parts), func(i int) bool { return g.starts[i+1] > off })
	for ; i < len(g.parts) && n < len(dst); i++ {
		n += copy(dst[n:], g.parts[i][off+int64(n)-g.starts[i]:])
	}
	return n
}

// inParallel calls f for [0,n), on as many goroutines as there are processors.
func inParallel(n int, f func(i int)) {
	workers := min(n, runtime.GOMAXPROCS(0))
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}
