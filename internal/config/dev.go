package config

// Dev is what the directory of a development service says about its archive, in the
// file DevFile.
type Dev struct {
	// Key is the file with the archive's key; a relative path is one below the directory.
	Key string
	// Targets are the archive's buckets as URLs.
	Targets []string
}

// DevFile is the name of the file in the directory.
const DevFile = "logcore.yaml"

// Fields lists the settings.
func (c *Dev) Fields() []Field {
	return []Field{
		{"key", "file with the archive's key; a relative path begins at this directory", String(&c.Key)},
		{"targets", "buckets of the archive as URLs", Strings(&c.Targets)},
	}
}

// Validate reports every bad value.
func (c *Dev) Validate() []Problem {
	var v checks
	v.required("key", c.Key, "name the key file that the archive was written with")
	if len(c.Targets) == 0 {
		v.add("targets", "is required: list the archive's buckets")
	}
	return v.problems
}
