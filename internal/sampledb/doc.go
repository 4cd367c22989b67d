// Package sampledb builds a real relational database to try a database engine with,
// changes it in transactions that look like an application's, and proves afterwards
// that a copy holds exactly what was acknowledged.
//
// The data are the Unicode Character Database and the Common Locale Data Repository
// as they ship in Go's standard library and in golang.org/x/text: about 33,800
// characters with their names, scripts, categories, case mappings and
// decompositions, ranges of properties, languages, regions and currencies with their
// names in several languages; some 51,000 rows in 16 tables with foreign keys and
// indexes. DATA.md states their origin and licence.
//
// Every transaction adds a row to the table ledger: its number, and a digest of the
// whole content after it. So any copy, of any moment, proves by itself that it is the
// state after transaction n and no other (Verify), and what an application recorded
// about acknowledged transactions can be compared with it one by one (Ledger).
package sampledb
