package sim

// flaws are bugs that are planted to see whether the simulation finds them. Each sits in
// what surrounds a member: its disk, its state store, its service.
type flaws struct {
	ackEarly        bool // entries count as durable before they are
	voteEarly       bool // term and vote count as durable before they are
	keepSuffix      bool // a follower keeps what conflicts with the leader's log
	forgetful       bool // what was appended before is appended again
	staleReads      bool // who believes to lead answers reads without asking the others
	syncRetries     bool // a failed sync is retried, and the second one "succeeds"
	trimEarly       bool // hot logs are trimmed to what is committed, archived or not
	sealsAlone      bool // one member ends its segments where it likes
	placeEarly      bool // a log that moves is placed before it has left
	createsAnywhere bool // a log that is not known in a shard is created there
	movesForget     bool // what was appended before a move is appended again after it
}

// Planted lists the bugs that Options.Planted can name.
var Planted = []string{"ack-early", "vote-early", "keep-suffix", "forgetful", "stale-reads", "seals-alone", "sync-retries", "trim-early", "place-early", "moves-forget", "creates-anywhere"}

func (f *flaws) plant(name string) bool {
	switch name {
	case "":
	case "ack-early":
		f.ackEarly = true
	case "vote-early":
		f.voteEarly = true
	case "keep-suffix":
		f.keepSuffix = true
	case "forgetful":
		f.forgetful = true
	case "stale-reads":
		f.staleReads = true
	case "seals-alone":
		f.sealsAlone = true
	case "sync-retries":
		f.syncRetries = true
	case "trim-early":
		f.trimEarly = true
	case "place-early":
		f.placeEarly = true
	case "moves-forget":
		f.movesForget = true
	case "creates-anywhere":
		f.createsAnywhere = true
	default:
		return false
	}
	return true
}
