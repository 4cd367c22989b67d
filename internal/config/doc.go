// Package config reads the configuration of the daemons: defaults, over them a
// strict YAML file, over it LOGCORE_* variables, over them flags. Whatever is wrong
// is reported together, each problem with the name of its field, where it was set
// and what to do.
package config
