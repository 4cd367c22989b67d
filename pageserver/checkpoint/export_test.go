package checkpoint

import (
	"errors"

	"github.com/logcore/logcore"
)

func isFenced(err error) bool { return errors.Is(err, logcore.ErrFenced) }
