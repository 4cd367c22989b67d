package segment

// Byte layout, version 1. FORMAT.md beside this file is the same in prose; all
// integers are little-endian.

const (
	// FormatVersion is the version this build writes.
	FormatVersion = 1
	// MinReaderVersion is the oldest reader that understands what this build writes.
	MinReaderVersion = 1

	// BlockBytes is the size of the header block and of each mark block.
	BlockBytes = 4096
	// MarkOffset is where the first of the two mark blocks begins.
	MarkOffset = BlockBytes
	// FramesOffset is where the first frame begins.
	FramesOffset = 3 * BlockBytes

	// FrameHeaderBytes is the size of a frame without payload and padding.
	FrameHeaderBytes = 60
	// FrameAlign is the alignment of frames in the file.
	FrameAlign = 8
	// PayloadBytesMax bounds the payload of one frame.
	PayloadBytesMax = 64 << 20
	// SegmentBytesMax bounds a whole segment file: offsets in the index are 32 bits.
	SegmentBytesMax = 1<<32 - 1<<20

	// IndexStride is the distance, in file bytes, between two points of the sparse index.
	IndexStride = 64 << 10
	// IndexPointBytes is the size of one point of the sparse index.
	IndexPointBytes = 24
	// LogRangeBytes is the size of one log's range in the footer.
	LogRangeBytes = 40
	// DigestBytes is the size of the footer's digest.
	DigestBytes = 32
)

// Magics. The first 32 bytes of header, mark and footer share one layout, the
// preamble, which no later version may change.
const (
	headerMagic = "LOGCSEG\n"
	markMagic   = "LOGCMRK\n"
	footerMagic = "LOGCFTR\n"
	frameMagic  = 0x3146434C // "LCF1"
)

// Preamble.
const (
	preMagic     = 0  // 8
	preVersion   = 8  // 4
	preMinReader = 12 // 4
	preFlags     = 16 // 8
	preLength    = 24 // 4, of the whole structure
	preCRC       = 28 // 4, over bytes [0, 28)
	preBytes     = 32
)

// blockCRC is where the checksum of a header or mark block lies, 4.
const blockCRC = 4092

// Known flag bits. None yet.
const (
	headerFlagsKnown = 0
	markFlagsKnown   = 0
	footerFlagsKnown = 0
	frameFlagsKnown  = 0
)

// Header block.
const (
	hdrShard    = 32 // 4
	hdrPrev     = 36 // 4, checksum of the entry before First
	hdrFirst    = 40 // 8
	hdrPrevTerm = 48 // 8, term of the entry before First, 0 = unknown or none
	hdrKeyID    = 56 // 8, 0 = not encrypted
	hdrCipher   = 64 // 2, 0 = none
	hdrTagBytes = 66 // 2, AEAD tag at the end of each payload, 0 = none
	hdrReserved = 68 // zero up to blockCRC
)

// Mark block.
const (
	mrkSeq      = 32 // 8, rises by one with every mark of the file
	mrkShard    = 40 // 4
	mrkState    = 44 // 4
	mrkFirst    = 48 // 8, first LSN of the segment, with mrkShard its identity
	mrkLSN      = 56 // 8, proven durable; First-1 = nothing
	mrkEnd      = 64 // 8, file offset behind the frame of mrkLSN
	mrkSum      = 72 // 4, checksum of that frame
	mrkClean    = 76 // 4, 1 = nothing follows mrkEnd
	mrkReach    = 80 // 8, no byte at or behind it was written in this life of the file
	mrkReserved = 88 // zero up to blockCRC
)

// Frame.
const (
	frmMagic   = 0  // 4
	frmLength  = 4  // 4, of the payload
	frmLSN     = 8  // 8
	frmTerm    = 16 // 8
	frmKind    = 24 // 1
	frmVersion = 25 // 1
	frmFlags   = 26 // 2
	frmPrev    = 28 // 4
	frmCRC     = 32 // 4
	frmTime    = 36 // 8
	frmTx      = 44 // 16
)

// Footer, behind the frame of the SEAL entry.
const (
	ftrShard      = 32  // 4
	ftrPrev       = 36  // 4
	ftrFirst      = 40  // 8
	ftrLast       = 48  // 8
	ftrFirstTime  = 56  // 8
	ftrLastTime   = 64  // 8
	ftrEntries    = 72  // 8
	ftrFrameBytes = 80  // 8
	ftrPayload    = 88  // 8, sum of the payload lengths
	ftrSum        = 96  // 4, checksum of the last frame
	ftrPoints     = 100 // 4, number of index points
	ftrDigestKind = 104 // 4
	ftrLogs       = 108 // 4, number of log ranges, or logsNotKept
	ftrDigest     = 112 // 32
	ftrFixed      = 144 // index points begin here; log ranges, CRC 4 and zero 4 follow them
	ftrTail       = 8

	logsNotKept = 0xffffffff // no ranges: any log may have entries in the segment
)

// Index point.
const (
	ptLSN    = 0  // 8
	ptTime   = 8  // 8, highest time up to and with this entry
	ptOffset = 16 // 4
	ptPrev   = 20 // 4, checksum of the entry before
)

// Log range.
const (
	lrLog     = 0  // 8
	lrFirst   = 8  // 8, LSN of the log's first entry in the segment
	lrLast    = 16 // 8
	lrEntries = 24 // 8
	lrPayload = 32 // 8, sum of the payload lengths
)
