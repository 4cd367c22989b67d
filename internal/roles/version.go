package roles

import "runtime/debug"

// BuildInfo is what the Go toolchain wrote into the binary about its origin.
type BuildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

// ReadBuildInfo reads it.
func ReadBuildInfo() BuildInfo {
	b := BuildInfo{Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// Version is the version that a service shows of itself: of a build without a released
// version, the commit.
func Version() string {
	b := ReadBuildInfo()
	if b.Version == "(devel)" && b.Revision != "" {
		return "devel " + b.Revision[:min(12, len(b.Revision))]
	}
	return b.Version
}
