//go:build !amd64

package segment

func saltedSum(salt uint32, frame []byte) uint32 { return saltedSumPortable(salt, frame) }
