//go:build !amd64

package media

// canWriteBack: this build has no cache-line instructions, so msync is used.
func canWriteBack() bool { return false }

func writeBackInstruction() string { return "none" }

func writeBackLines([]byte) { panic("media: write-back without an instruction for it") }
