package waldump

import "github.com/logcore/logcore/engine/postgres/wal"

func find(m wal.Manager, op uint8) *kind {
	if m == wal.ManagerTransaction {
		op &= 0x70 // the eighth bit says that details follow
	}
	if m == wal.ManagerGeneric {
		op = 0 // has no operations
	}
	list := kinds[m]
	for i := range list {
		if list[i].op == op {
			return &list[i]
		}
	}
	return nil
}

// The texts of records that more than one operation shares.
const (
	heapInsert  = "off {u16@0} flags 0x{x8@2}"
	heapUpdate  = "off {u16@4} xmax {u32@0} flags 0x{x8@7} {bits@6}; new off {u16@12} xmax {u32@8}"
	multiInsert = "{u16@2} tuples flags 0x{x8@0}"
	btreeInsert = "off {u16@0}"
	btreeSplit  = "level {u32@0}, firstrightoff {u16@4}, newitemoff {u16@6}, postingoff {u16@8}"
	btreeUnlink = "left {u32@0}; right {u32@4}; level {u32@8}; safexid {xid@16}; leafleft {u32@24}; leafright {u32@28}; leaftopparent {u32@32}"
	brinInsert  = "heapBlk {u32@0} pagesPerRange {u32@4} offnum {u16@8}"
	brinUpdate  = "heapBlk {u32@4} pagesPerRange {u32@8} old offnum {u16@0}, new offnum {u16@12}"
	checkpoint  = "redo {pos@0}; tli {u32@8}; prev tli {u32@12}; fpw {bool@16}; xid {xid@24}; oid {u32@32}; multi {u32@36}; offset {u32@40}; " +
		"oldest xid {u32@44} in DB {u32@48}; oldest multi {u32@52} in DB {u32@56}; oldest/newest commit timestamp xid: {u32@72}/{u32@76}; oldest running xid {u32@80}; "
	parameters = "max_connections={i32@0} max_worker_processes={i32@4} max_wal_senders={i32@8} max_prepared_xacts={i32@12} " +
		"max_locks_per_xact={i32@16} wal_level={wal_level@20} wal_log_hints={on@24} track_commit_timestamp={on@25}"
	pageReuse = "{xid@16}"
)

// kinds are the operations of PostgreSQL 15. The offsets follow from the C structs in
// its headers, named xl_* or *xlog*, with the alignment of 64-bit machines.
var kinds = map[wal.Manager][]kind{
	wal.ManagerXLog: {
		op(0x00, "CHECKPOINT_SHUTDOWN", checkpoint+"shutdown"),
		op(0x10, "CHECKPOINT_ONLINE", checkpoint+"online"),
		op(0x20, "NOOP", ""),
		op(0x30, "NEXTOID", "{u32@0}"),
		op(0x40, "SWITCH", ""),
		op(0x50, "BACKUP_END", "{pos@0}"),
		op(0x60, "PARAMETER_CHANGE", parameters),
		op(0x70, "RESTORE_POINT", "{text@8}"),
		op(0x80, "FPW_CHANGE", "{bool@0}"),
		op(0x90, "END_OF_RECOVERY", "tli {u32@8}; prev tli {u32@12}; time {time@0}"),
		op(0xA0, "FPI_FOR_HINT", ""),
		op(0xB0, "FPI", ""),
		op(0xD0, "OVERWRITE_CONTRECORD", "lsn {pos@0}; time {time@8}"),
	},
	wal.ManagerTransaction: {
		variable(0x00, "COMMIT", "", appendCommit),
		variable(0x10, "PREPARE", "", appendPrepare),
		variable(0x20, "ABORT", "", appendAbort),
		variable(0x30, "COMMIT_PREPARED", "", appendCommit),
		variable(0x40, "ABORT_PREPARED", "", appendAbort),
		variable(0x50, "ASSIGNMENT", "xtop {u32@0}: subxacts:", appendNumbers(4, 8)),
		variable(0x60, "INVALIDATION", "", appendXactInvalidations),
	},
	wal.ManagerStorage: {
		variable(0x10, "CREATE", "", appendStorageCreate),
		op(0x20, "TRUNCATE", "{path@4} to {u32@0} blocks flags {i32@16}"),
	},
	wal.ManagerCLOG: {
		op(0x00, "ZEROPAGE", "page {i32@0}"),
		op(0x10, "TRUNCATE", "page {i32@0}; oldestXact {u32@4}"),
	},
	wal.ManagerDatabase: {
		op(0x00, "CREATE_FILE_COPY", "copy dir {u32@12}/{u32@8} to {u32@4}/{u32@0}"),
		op(0x10, "CREATE_WAL_LOG", "create dir {u32@4}/{u32@0}"),
		variable(0x20, "DROP", "dir", appendDatabaseDrop),
	},
	wal.ManagerTablespace: {
		op(0x00, "CREATE", `{u32@0} "{text@4}"`),
		op(0x10, "DROP", "{u32@0}"),
	},
	wal.ManagerMultiXact: {
		op(0x00, "ZERO_OFF_PAGE", "{i32@0}"),
		op(0x10, "ZERO_MEM_PAGE", "{i32@0}"),
		variable(0x20, "CREATE_ID", "{u32@0} offset {u32@4} nmembers {i32@8}: ", appendMembers),
		op(0x30, "TRUNCATE_ID", "offsets [{u32@4}, {u32@8}), members [{u32@12}, {u32@16})"),
	},
	wal.ManagerRelMap: {
		op(0x00, "UPDATE", "database {u32@0} tablespace {u32@4} size {i32@8}"),
	},
	wal.ManagerStandby: {
		variable(0x00, "LOCK", "", appendLocks),
		variable(0x10, "RUNNING_XACTS", "nextXid {u32@12} latestCompletedXid {u32@20} oldestRunningXid {u32@16}", appendRunning),
		variable(0x20, "INVALIDATIONS", "", appendStandbyInvalidations),
	},
	wal.ManagerHeap2: {
		op(0x00, "REWRITE", ""),
		op(0x10, "PRUNE", "latestRemovedXid {u32@0} nredirected {u16@4} ndead {u16@6}"),
		op(0x20, "VACUUM", "nunused {u16@0}"),
		op(0x30, "FREEZE_PAGE", "cutoff xid {u32@0} ntuples {u16@4}"),
		op(0x40, "VISIBLE", "cutoff xid {u32@0} flags 0x{x8@4}"),
		op(0x50, "MULTI_INSERT", multiInsert),
		op(0xD0, "MULTI_INSERT+INIT", multiInsert),
		op(0x60, "LOCK_UPDATED", "off {u16@4}: xmax {u32@0}: flags 0x{x8@7} {bits@6}"),
		op(0x70, "NEW_CID", "rel {rel@16}; tid {blk@28}/{u16@32}; cmin: {u32@4}, cmax: {u32@8}, combo: {u32@12}"),
	},
	wal.ManagerHeap: {
		op(0x00, "INSERT", heapInsert),
		op(0x80, "INSERT+INIT", heapInsert),
		op(0x10, "DELETE", "off {u16@4} flags 0x{x8@7} {bits@6}"),
		op(0x20, "UPDATE", heapUpdate),
		op(0xA0, "UPDATE+INIT", heapUpdate),
		variable(0x30, "TRUNCATE", "", appendHeapTruncate),
		op(0x40, "HOT_UPDATE", heapUpdate),
		op(0xC0, "HOT_UPDATE+INIT", heapUpdate),
		op(0x50, "HEAP_CONFIRM", "off {u16@0}"),
		op(0x60, "LOCK", "off {u16@4}: xid {u32@0}: flags 0x{x8@7} {bits@6}"),
		op(0x70, "INPLACE", "off {u16@0}"),
	},
	wal.ManagerBtree: {
		op(0x00, "INSERT_LEAF", btreeInsert),
		op(0x10, "INSERT_UPPER", btreeInsert),
		op(0x20, "INSERT_META", btreeInsert),
		op(0x30, "SPLIT_L", btreeSplit),
		op(0x40, "SPLIT_R", btreeSplit),
		op(0x50, "INSERT_POST", btreeInsert),
		op(0x60, "DEDUP", "nintervals {u16@0}"),
		op(0x70, "DELETE", "latestRemovedXid {u32@0}; ndeleted {u16@4}; nupdated {u16@6}"),
		op(0x80, "UNLINK_PAGE", btreeUnlink),
		op(0x90, "UNLINK_PAGE_META", btreeUnlink),
		op(0xA0, "NEWROOT", "lev {u32@4}"),
		op(0xB0, "MARK_PAGE_HALFDEAD", "topparent {u32@16}; leaf {u32@4}; left {u32@8}; right {u32@12}"),
		op(0xC0, "VACUUM", "ndeleted {u16@0}; nupdated {u16@2}"),
		op(0xD0, "REUSE_PAGE", "rel {rel@0}; latestRemovedXid "+pageReuse),
		variable(0xE0, "META_CLEANUP", "last_cleanup_num_delpages ", appendMetaCleanup),
	},
	wal.ManagerHash: {
		op(0x00, "INIT_META_PAGE", "num_tuples {f64@0}, fillfactor {u16@12}"),
		op(0x10, "INIT_BITMAP_PAGE", "bmsize {u16@0}"),
		op(0x20, "INSERT", "off {u16@0}"),
		op(0x30, "ADD_OVFL_PAGE", "bmsize {u16@0}, bmpage_found {TF@2}"),
		variable(0x40, "SPLIT_ALLOCATE_PAGE", "new_bucket {u32@0}, ", appendSplitAllocate),
		op(0x50, "SPLIT_PAGE", ""),
		op(0x60, "SPLIT_COMPLETE", "old_bucket_flag {u16@0}, new_bucket_flag {u16@2}"),
		op(0x70, "MOVE_PAGE_CONTENTS", "ntups {u16@0}, is_primary {TF@2}"),
		op(0x80, "SQUEEZE_PAGE", "prevblkno {u32@0}, nextblkno {u32@4}, ntups {u16@8}, is_primary {TF@10}"),
		op(0x90, "DELETE", "clear_dead_marking {TF@0}, is_primary {TF@1}"),
		op(0xA0, "SPLIT_CLEANUP", ""),
		op(0xB0, "UPDATE_META_PAGE", "ntuples {f64@0}"),
		op(0xC0, "VACUUM_ONE_PAGE", "ntuples {i32@4}, latestRemovedXid {u32@0}"),
	},
	wal.ManagerGin: {
		op(0x10, "CREATE_PTREE", ""),
		variable(0x20, "INSERT", "", appendGinInsert),
		variable(0x30, "SPLIT", "", appendGinSplit),
		op(0x40, "VACUUM_PAGE", ""),
		variable(0x90, "VACUUM_DATA_LEAF_PAGE", "", appendGinVacuumLeaf),
		op(0x50, "DELETE_PAGE", ""),
		op(0x60, "UPDATE_META_PAGE", ""),
		op(0x70, "INSERT_LISTPAGE", ""),
		op(0x80, "DELETE_LISTPAGE", "ndeleted: {i32@56}"),
	},
	wal.ManagerGist: {
		op(0x00, "PAGE_UPDATE", ""),
		op(0x10, "DELETE", "delete: latestRemovedXid {u32@0}, nitems: {u16@4}"),
		op(0x20, "PAGE_REUSE", "rel {rel@0}; blk {u32@12}; latestRemovedXid "+pageReuse),
		op(0x30, "PAGE_SPLIT", "page_split: splits to {u16@18} pages"),
		op(0x60, "PAGE_DELETE", "deleteXid {xid@0}; downlink {u16@8}"),
		op(0x70, "ASSIGN_LSN", ""),
	},
	wal.ManagerSequence: {
		op(0x00, "LOG", "rel {rel@0}"),
	},
	wal.ManagerSPGist: {
		op(0x10, "ADD_LEAF", "off: {u16@2}, headoff: {u16@4}, parentoff: {u16@6}, nodeI: {u16@8}{?0| (newpage)}{?1| (nulls)}"),
		op(0x20, "MOVE_LEAFS", "nmoves: {u16@0}, parentoff: {u16@6}, nodeI: {u16@8}{?2| (newpage)}{?3| (replacedead)}{?4| (nulls)}"),
		op(0x30, "ADD_NODE", "off: {u16@0}, newoff: {u16@2}, parentBlk: {i8@5}, parentoff: {u16@6}, nodeI: {u16@8}{?4| (newpage)}"),
		op(0x40, "SPLIT_TUPLE", "prefixoff: {u16@0}, postfixoff: {u16@2}{?4| (newpage)}{?5| (same)}"),
		op(0x50, "PICKSPLIT", "ndelete: {u16@2}, ninsert: {u16@4}, inneroff: {u16@8}, parentoff: {u16@14}, nodeI: {u16@16}{?12| (innerIsParent)}{?11| (nulls)}{?0| (isRootSplit)}"),
		op(0x60, "VACUUM_LEAF", "ndead: {u16@0}, nplaceholder: {u16@2}, nmove: {u16@4}, nchain: {u16@6}"),
		op(0x70, "VACUUM_ROOT", "ndelete: {u16@0}"),
		op(0x80, "VACUUM_REDIRECT", "ntoplaceholder: {u16@0}, firstplaceholder: {u16@2}, newestredirectxid: {u32@4}"),
	},
	wal.ManagerBRIN: {
		op(0x00, "CREATE_INDEX", "v{u16@4} pagesPerRange {u32@0}"),
		op(0x10, "INSERT", brinInsert),
		op(0x90, "INSERT+INIT", brinInsert),
		op(0x20, "UPDATE", brinUpdate),
		op(0xA0, "UPDATE+INIT", brinUpdate),
		op(0x30, "SAMEPAGE_UPDATE", "offnum {u16@0}"),
		op(0x40, "REVMAP_EXTEND", "targetBlk {u32@0}"),
		op(0x50, "DESUMMARIZE", "pagesPerRange {u32@0}, heapBlk {u32@4}, page offset {u16@8}"),
	},
	wal.ManagerCommitTs: {
		op(0x00, "ZEROPAGE", "{i32@0}"),
		op(0x10, "TRUNCATE", "pageno {i32@0}, oldestXid {u32@4}"),
	},
	wal.ManagerReplicationOrigin: {
		op(0x00, "SET", "set {u16@8}; lsn {pos@0}; force: {u8@10}"),
		op(0x10, "DROP", "drop {u16@0}"),
	},
	wal.ManagerGeneric: {
		variable(0x00, "Generic", "", appendGeneric),
	},
	wal.ManagerLogicalMessage: {
		variable(0x00, "MESSAGE", "", appendMessage),
	},
}
