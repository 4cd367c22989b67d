package replbench

import (
	"context"
	"errors"
	"time"
)

const killEvery = 5 * time.Second

func (b *bench) threeMembers(context.Context) error { return errors.New("not yet") }
