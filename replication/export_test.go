package replication

import "github.com/logcore/logcore/hotlog/segment"

type span = segment.Span
