package sampledb

// ledgerTable is left out of the digest that it holds.
const ledgerTable = "ledger"

// schema is the sample's. Tables of both kinds (with and without a rowid), keys over
// several columns, and every foreign key's child side indexed.
const schema = `
CREATE TABLE ledger(
	n INTEGER PRIMARY KEY,
	kind TEXT NOT NULL,
	changes INTEGER NOT NULL,
	digest BLOB NOT NULL CHECK (length(digest) = 32)
);
CREATE TABLE script(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE category(
	code TEXT PRIMARY KEY,
	parent TEXT REFERENCES category(code)
) WITHOUT ROWID;
CREATE TABLE property(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE script_range(
	script INTEGER NOT NULL REFERENCES script(id),
	lo INTEGER NOT NULL, hi INTEGER NOT NULL, stride INTEGER NOT NULL,
	PRIMARY KEY (script, lo, hi), CHECK (lo <= hi AND stride > 0)
) WITHOUT ROWID;
CREATE TABLE property_range(
	property INTEGER NOT NULL REFERENCES property(id),
	lo INTEGER NOT NULL, hi INTEGER NOT NULL, stride INTEGER NOT NULL,
	PRIMARY KEY (property, lo, hi), CHECK (lo <= hi AND stride > 0)
) WITHOUT ROWID;
CREATE TABLE character(
	codepoint INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	category TEXT NOT NULL REFERENCES category(code),
	script INTEGER REFERENCES script(id),
	upper INTEGER, lower INTEGER, title INTEGER,
	bidi TEXT NOT NULL,
	width TEXT NOT NULL,
	utf8 BLOB NOT NULL,
	views INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX character_name ON character(name);
CREATE INDEX character_category ON character(category);
CREATE INDEX character_script ON character(script, codepoint);
CREATE TABLE decomposition(
	codepoint INTEGER NOT NULL REFERENCES character(codepoint),
	position INTEGER NOT NULL,
	part INTEGER NOT NULL,
	PRIMARY KEY (codepoint, position)
) WITHOUT ROWID;
CREATE INDEX decomposition_part ON decomposition(part);
CREATE TABLE currency(code TEXT PRIMARY KEY, decimals INTEGER NOT NULL, increment INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE region(
	code TEXT PRIMARY KEY,
	iso3 TEXT NOT NULL,
	m49 INTEGER NOT NULL,
	currency TEXT REFERENCES currency(code)
) WITHOUT ROWID;
CREATE INDEX region_currency ON region(currency);
CREATE TABLE language(
	code TEXT PRIMARY KEY,
	iso3 TEXT NOT NULL,
	script TEXT NOT NULL,
	region TEXT REFERENCES region(code)
) WITHOUT ROWID;
CREATE INDEX language_region ON language(region);
CREATE TABLE display_name(
	kind TEXT NOT NULL CHECK (kind IN ('language', 'region')),
	code TEXT NOT NULL,
	in_language TEXT NOT NULL REFERENCES language(code),
	name TEXT NOT NULL,
	PRIMARY KEY (kind, code, in_language)
) WITHOUT ROWID;
CREATE INDEX display_name_language ON display_name(in_language);
CREATE TABLE reader(id INTEGER PRIMARY KEY, name TEXT NOT NULL, language TEXT NOT NULL REFERENCES language(code), points REAL NOT NULL DEFAULT 0);
CREATE INDEX reader_language ON reader(language);
CREATE TABLE collection(
	id INTEGER PRIMARY KEY,
	reader INTEGER NOT NULL REFERENCES reader(id),
	title TEXT NOT NULL,
	size INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX collection_reader ON collection(reader);
CREATE TABLE collection_item(
	collection INTEGER NOT NULL REFERENCES collection(id) ON DELETE CASCADE,
	codepoint INTEGER NOT NULL REFERENCES character(codepoint),
	comment TEXT,
	PRIMARY KEY (collection, codepoint)
) WITHOUT ROWID;
CREATE INDEX collection_item_codepoint ON collection_item(codepoint);
CREATE TABLE note(
	id INTEGER PRIMARY KEY,
	reader INTEGER NOT NULL REFERENCES reader(id),
	codepoint INTEGER NOT NULL REFERENCES character(codepoint),
	stars INTEGER CHECK (stars BETWEEN 1 AND 5),
	body TEXT NOT NULL
);
CREATE INDEX note_codepoint ON note(codepoint);
CREATE INDEX note_reader ON note(reader);
`
