package roles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/logcore/logcore"
	logcorev1 "github.com/logcore/logcore/proto/logcore/v1"
	"github.com/logcore/logcore/tiering"
	"github.com/logcore/logcore/tiering/target"
)

// A member knows its targets from its configuration, and from what it was told while it ran. Which of
// them are part of a shard's archive the shard's manifest says: an archiver takes in those that its member knows and the
// manifest never had. So every member has to know a new target, whichever shard it leads by and by, before the
// first archive has it, and none may forget one before the last archive has let it go.

// now returns the targets as they are at the moment.
func (t *Targets) now() []tiering.Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.All)
}

// knows returns where the target of a name is; false when there is none.
func (t *Targets) knows(name string) (url string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, one := range t.All {
		if one.Name == name {
			return t.urls[i], true
		}
	}
	return "", false
}

// add puts a target behind the others; its bucket is closed with theirs.
func (t *Targets) add(url string, one tiering.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.All, t.urls, t.opened = append(slices.Clone(t.All), one), append(slices.Clone(t.urls), url), append(t.opened, one.Bucket)
}

// drop takes a target out. Its bucket stays open: an archiver may still be collecting there.
func (t *Targets) drop(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.All, func(one tiering.Target) bool { return one.Name == name }); i >= 0 {
		t.All, t.urls = slices.Delete(slices.Clone(t.All), i, i+1), slices.Delete(slices.Clone(t.urls), i, i+1)
	}
}

// registerTarget makes the target at a URL known to this member. One that it knows, at the same place, is left as it is.
func (s *logService) registerTarget(ctx context.Context, url string) error {
	spec, err := target.Parse(url)
	if err != nil {
		return fmt.Errorf("%w: %w", logcore.ErrInvalid, err)
	}
	s.registering.Lock()
	defer s.registering.Unlock()
	if known, ok := s.targets.knows(spec.Name); ok {
		if withoutName(known) != withoutName(url) {
			return fmt.Errorf("%w: there is a target named %s at %s: give the new one another name", logcore.ErrInvalid, spec.Name, withoutName(known))
		}
		return nil
	}
	for _, p := range s.parts {
		if archiver := p.archiver.Load(); archiver != nil && archiver.Removed(spec.Name) {
			return fmt.Errorf("%w: a target named %s was removed from the archive: give the new one another name", logcore.ErrInvalid, spec.Name)
		}
	}
	one, closeIt, err := NewTarget(ctx, url, s.identity.ID)
	if err != nil {
		return err
	}
	if one.Bucket, err = s.hardened(one); err != nil {
		return errors.Join(err, closeIt())
	}
	// Commit point: with the note the member opens it at every start.
	if err := NoteTargetAdded(s.cfg.Dir, url); err != nil {
		return errors.Join(err, closeIt())
	}
	s.targets.add(url, one)
	s.readAnew()
	s.process.log.Info("a target was made known", "target", spec.Name)
	return nil
}

// unregisterTarget makes this member forget a target.
func (s *logService) unregisterTarget(ctx context.Context, name string) error {
	s.registering.Lock()
	defer s.registering.Unlock()
	for _, p := range s.parts {
		if p.followed != nil {
			p.followed.refresh(ctx) // another member may have removed it a moment ago
		}
		if used := p.decided().Targets; slices.Contains(used, name) {
			return fmt.Errorf("%w: the archive of shard %d still has target %s: remove it first", logcore.ErrInvalid, p.id, name)
		}
	}
	if err := NoteTargetRemoved(s.cfg.Dir, name); err != nil {
		return err
	}
	s.targets.drop(name)
	s.readAnew()
	return nil
}

// readAnew makes those who read archives do so with the targets that there are now.
func (s *logService) readAnew() {
	for _, p := range s.parts {
		if p.followed != nil {
			p.followed.reopen()
		}
	}
}

// decided returns what is decided about the shard's archive, as far as this member knows.
func (p *shardPart) decided() tiering.Settings {
	if archiver := p.archiver.Load(); archiver != nil {
		return archiver.Reader().Settings()
	}
	if p.followed != nil {
		if _, reader, _ := p.followed.now(); reader != nil {
			return reader.Settings()
		}
	}
	return tiering.Settings{}
}

// RegisterTarget implements logcorev1.ArchiveServiceServer.
func (a archiveService) RegisterTarget(ctx context.Context, req *logcorev1.RegisterTargetRequest) (*logcorev1.RegisterTargetResponse, error) {
	if len(a.s.cfg.Targets) == 0 {
		return nil, errNoArchive
	}
	return &logcorev1.RegisterTargetResponse{}, registerStatus(a.s.registerTarget(ctx, req.Url))
}

// UnregisterTarget implements logcorev1.ArchiveServiceServer.
func (a archiveService) UnregisterTarget(ctx context.Context, req *logcorev1.UnregisterTargetRequest) (*logcorev1.UnregisterTargetResponse, error) {
	return &logcorev1.UnregisterTargetResponse{}, registerStatus(a.s.unregisterTarget(ctx, req.Name))
}

// registerStatus says that a target is not to be had as it is: nothing was changed.
func registerStatus(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return toStatus(err)
	}
	return status.Error(codes.FailedPrecondition, strings.TrimPrefix(err.Error(), "logcore: "))
}
