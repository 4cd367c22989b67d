package roles

import (
	"fmt"

	"github.com/logcore/logcore"
	"github.com/logcore/logcore/catalog"
)

// decisions says what is decided about the shard's archive, by what it is about, for the comparison with the other shards; nil
// while nothing is known to be.
func (p *shardPart) decisions() map[string]string {
	s := p.decided()
	if s.Record == 0 {
		return nil
	}
	out := map[string]string{"the code": fmt.Sprintf("%d+%d", s.K, s.M)}
	for _, name := range s.Targets {
		out["target "+name] = "in use"
	}
	for _, name := range s.Leaving {
		out["target "+name] = "being evacuated"
	}
	if s.Lock > 0 {
		out["the lock"] = s.Lock.String()
	}
	if len(s.Policies) == 0 {
		return out
	}
	names := p.logNames()
	for _, policy := range s.Policies {
		of := "every log"
		if policy.Log != 0 {
			of = fmt.Sprintf("log %q", names[policy.Log])
			if names[policy.Log] == "" {
				of = fmt.Sprintf("log %d", policy.Log)
			}
		}
		if policy.Keep > 0 {
			out["the retention of "+of] = policy.Keep.String()
		}
		if policy.Hold != "" {
			out["the hold on "+of] = policy.Hold
		}
	}
	return out
}

// logNames returns the names of all logs, of every shard.
func (s *logService) logNames() map[logcore.LogID]string {
	names := map[logcore.LogID]string{}
	for _, p := range s.parts {
		p.group.View(func(state *catalog.State) {
			for _, l := range state.Logs() {
				names[l.ID] = l.Name
			}
		})
	}
	return names
}

// logID finds a log by name, in whichever shard it is; 0 for no name.
func (s *logService) logID(name string) (id logcore.LogID, err error) {
	if name == "" {
		return 0, nil
	}
	err = fmt.Errorf("%w: %q", logcore.ErrLogNotFound, name)
	for _, p := range s.parts {
		p.group.View(func(state *catalog.State) {
			if l, ok := state.Named(name); ok { // also of one that has moved on: its id is the same everywhere
				id, err = l.ID, nil
			}
		})
	}
	return id, err
}

// unknownTargets says which targets the shard's archive has and this member does not know: it can neither read nor
// write what is there.
func (p *shardPart) unknownTargets() (problems []string) {
	for _, name := range p.decided().Targets {
		if _, ok := p.targets.knows(name); !ok {
			problems = append(problems, fmt.Sprintf("this member does not know target %s, which the archive has: give `logcore target add URL` again, or put it into the configuration", name))
		}
	}
	return problems
}
