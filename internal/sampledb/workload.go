package sampledb

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// step is a kind of transaction and how often it comes, of 100.
type step struct {
	kind  string
	share int
	run   func(*Session, *rand.Rand) error
}

// steps are what readers of a character dictionary do.
var steps = []step{
	{"view", 30, (*Session).view},
	{"add note", 20, (*Session).addNote},
	{"edit note", 10, (*Session).editNote},
	{"delete notes", 5, (*Session).deleteNotes},
	{"new reader", 5, (*Session).newReader},
	{"new collection", 10, (*Session).newCollection},
	{"collect", 15, (*Session).collect},
	{"drop collection", 5, (*Session).dropCollection},
}

// Run commits count transactions that follow from the seed, their numbers and what
// the database holds, so the same run on the same sample makes the same content. The
// sample must have been loaded.
func (s *Session) Run(ctx context.Context, seed uint64, count int) error {
	for range count {
		rng := rand.New(rand.NewPCG(seed, uint64(s.n+1)))
		pick := rng.IntN(100)
		var next step
		for _, next = range steps {
			if pick -= next.share; pick < 0 {
				break
			}
		}
		if err := s.transaction(ctx, next.kind, func() error { return next.run(s, rng) }); err != nil {
			return err
		}
	}
	return nil
}

// character returns the code point of a random character.
func (s *Session) character(rng *rand.Rand) (int64, error) {
	return s.near(rng, "character", "codepoint")
}

// near returns the key of a random row: the first at or above a random number up to
// the largest; 0 when the table is empty.
func (s *Session) near(rng *rand.Rand, table, key string) (int64, error) {
	last, err := s.number(`SELECT max(` + key + `) FROM ` + table)
	if err != nil || last == 0 {
		return 0, err
	}
	return s.number(`SELECT `+key+` FROM `+table+` WHERE `+key+` >= ? ORDER BY `+key+` LIMIT 1`, rng.Int64N(last)+1)
}

// reader returns a random reader, making the first one.
func (s *Session) reader(rng *rand.Rand) (int64, error) {
	if id, err := s.near(rng, "reader", "id"); err != nil || id != 0 {
		return id, err
	}
	if err := s.newReader(rng); err != nil {
		return 0, err
	}
	return s.near(rng, "reader", "id")
}

func (s *Session) view(rng *rand.Rand) error {
	for range 1 + rng.IntN(5) {
		c, err := s.character(rng)
		if err != nil {
			return err
		}
		if err := s.exec(`UPDATE character SET views = views + 1 WHERE codepoint = ?`, c); err != nil {
			return err
		}
	}
	r, err := s.reader(rng)
	if err != nil {
		return err
	}
	return s.exec(`UPDATE reader SET points = points + ? WHERE id = ?`, rng.Float64(), r)
}

func (s *Session) newReader(rng *rand.Rand) error {
	const insert = `INSERT INTO reader(name, language) VALUES (?, (SELECT code FROM language ORDER BY code LIMIT 1 OFFSET ? % (SELECT count(*) FROM language)))`
	return s.exec(insert, fmt.Sprintf("reader %08x", rng.Uint32()), rng.Int64N(1000))
}

func (s *Session) addNote(rng *rand.Rand) error {
	r, err := s.reader(rng)
	if err != nil {
		return err
	}
	c, err := s.character(rng)
	if err != nil {
		return err
	}
	var stars any
	if rng.IntN(3) > 0 {
		stars = 1 + rng.Int64N(5)
	}
	return s.exec(`INSERT INTO note(reader, codepoint, stars, body) VALUES (?, ?, ?, ?)`, r, c, stars, words(rng))
}

func (s *Session) editNote(rng *rand.Rand) error {
	id, err := s.near(rng, "note", "id")
	if err != nil {
		return err
	}
	return s.exec(`UPDATE note SET body = body || ' ' || ?, stars = NULL WHERE id = ?`, words(rng), id)
}

func (s *Session) deleteNotes(rng *rand.Rand) error {
	id, err := s.near(rng, "note", "id")
	if err != nil {
		return err
	}
	return s.exec(`DELETE FROM note WHERE id BETWEEN ? AND ?`, id, id+rng.Int64N(4))
}

func (s *Session) newCollection(rng *rand.Rand) error {
	r, err := s.reader(rng)
	if err != nil {
		return err
	}
	if err := s.exec(`INSERT INTO collection(reader, title) VALUES (?, ?)`, r, words(rng)); err != nil {
		return err
	}
	return s.fill(rng, s.conn.LastInsertRowID(), 3+rng.IntN(20))
}

func (s *Session) collect(rng *rand.Rand) error {
	id, err := s.near(rng, "collection", "id")
	if err != nil {
		return err
	}
	if id == 0 {
		return s.newCollection(rng)
	}
	return s.fill(rng, id, 1+rng.IntN(4))
}

// fill adds characters to a collection; one that is there already is replaced.
func (s *Session) fill(rng *rand.Rand, collection int64, count int) error {
	for range count {
		c, err := s.character(rng)
		if err != nil {
			return err
		}
		if err := s.exec(`INSERT OR REPLACE INTO collection_item VALUES (?, ?, ?)`, collection, c, words(rng)); err != nil {
			return err
		}
	}
	return s.exec(`UPDATE collection SET size = (SELECT count(*) FROM collection_item WHERE collection = id) WHERE id = ?`, collection)
}

// dropCollection deletes a collection; its items go with it.
func (s *Session) dropCollection(rng *rand.Rand) error {
	id, err := s.near(rng, "collection", "id")
	if err != nil {
		return err
	}
	return s.exec(`DELETE FROM collection WHERE id = ?`, id)
}

// vocabulary for notes and titles.
var vocabulary = []string{"curl", "stroke", "hook", "serif", "tail", "dot", "bar", "ring", "arch", "bowl", "spine", "stem", "ligature", "diacritic", "ancient", "rare", "common", "lovely", "odd"}

func words(rng *rand.Rand) string {
	text := vocabulary[rng.IntN(len(vocabulary))]
	for range rng.IntN(12) {
		text += " " + vocabulary[rng.IntN(len(vocabulary))]
	}
	return text
}
