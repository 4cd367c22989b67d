package wal

import "errors"

var errPGLZ = errors.New("damaged data")

// decompressPGLZ undoes PostgreSQL's own compression (common/pg_lzcompress.c). Control
// bytes say, lowest bit first, of each of the eight items that follow whether it is a
// literal byte or a match: two bytes with a length of 3 to 17 in the low four bits of the
// first, an offset of 12 bits, and a third byte of more length when the length is 18.
// The output must fill dst exactly and the input must be used up.
func decompressPGLZ(dst, src []byte) ([]byte, error) {
	out := 0
	for len(src) > 0 && out < len(dst) {
		control := src[0]
		src = src[1:]
		for i := 0; i < 8 && len(src) > 0 && out < len(dst); i++ {
			if control&1 == 0 {
				dst[out] = src[0]
				out++
				src = src[1:]
			} else {
				n, offset, used := pglzMatch(src)
				if used == 0 || offset == 0 || offset > out {
					return nil, errPGLZ
				}
				src = src[used:]
				n = min(n, len(dst)-out)
				for ; n > 0; n-- { // byte by byte: a match may overlap itself
					dst[out] = dst[out-offset]
					out++
				}
			}
			control >>= 1
		}
	}
	if out != len(dst) || len(src) != 0 {
		return nil, errPGLZ
	}
	return dst, nil
}

// pglzMatch reads one match; used is 0 when src is too short.
func pglzMatch(src []byte) (n, offset, used int) {
	if len(src) < 2 {
		return 0, 0, 0
	}
	n = int(src[0]&0x0F) + 3
	offset = int(src[0]&0xF0)<<4 | int(src[1])
	if n < 18 {
		return n, offset, 2
	}
	if len(src) < 3 {
		return 0, 0, 0
	}
	return n + int(src[2]), offset, 3
}
