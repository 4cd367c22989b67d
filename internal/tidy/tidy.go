// Package tidy holds the rules of this repository that a machine can check. Its
// tests are the rules: which way imports point, that every package says what it is
// for, that every durable format is documented, pinned by a golden file and fuzzed,
// and that the links in the documents lead somewhere.
package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Module is the import path of the repository's root.
const Module = "github.com/logcore/logcore"

// Package is what the rules need to know of one directory of Go files.
type Package struct {
	Dir     string   // slash-separated, relative to the root; "." for the root
	Doc     string   // the package comment, from whichever file has one
	Imports []string // of the non-test files; the module's own, relative to the root
	Files   []string // base names of all Go files
	Fuzz    []string // names of fuzz targets in the test files
}

// Load parses every package of the main module below root.
func Load(root string) ([]Package, error) {
	dirs := map[string]*Package{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(root, p, d.Name())
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		return addFile(dirs, root, p)
	})
	var list []Package
	for _, p := range dirs {
		slices.Sort(p.Imports)
		p.Imports = slices.Compact(p.Imports)
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Package) int { return strings.Compare(a.Dir, b.Dir) })
	return list, err
}

// skipDir leaves out what is not ours to check: hidden and test-data directories and
// nested modules.
func skipDir(root, p, name string) error {
	if p == root {
		return nil
	}
	if strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func addFile(dirs map[string]*Package, root, p string) error {
	rel, err := filepath.Rel(root, filepath.Dir(p))
	if err != nil {
		return err
	}
	dir := filepath.ToSlash(rel)
	f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("tidy: %w", err)
	}
	pkg := dirs[dir]
	if pkg == nil {
		pkg = &Package{Dir: dir}
		dirs[dir] = pkg
	}
	pkg.Files = append(pkg.Files, filepath.Base(p))
	if strings.HasSuffix(p, "_test.go") {
		pkg.Fuzz = append(pkg.Fuzz, fuzzTargets(f)...)
		return nil
	}
	if f.Doc != nil && pkg.Doc == "" {
		pkg.Doc = f.Doc.Text()
	}
	for _, imp := range f.Imports {
		name := strings.Trim(imp.Path.Value, `"`)
		if name == Module {
			pkg.Imports = append(pkg.Imports, ".")
		} else if rest, ok := strings.CutPrefix(name, Module+"/"); ok {
			pkg.Imports = append(pkg.Imports, rest)
		}
	}
	return nil
}

func fuzzTargets(f *ast.File) []string {
	var names []string
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}

// layer is a height in the import graph. A package imports only lower layers, and
// of its own layer only what `within` allows.
type layer struct {
	name string
	dirs []string // exact, or a prefix when it ends in "/"
}

// layers, lowest first. A new package is added here, which is the moment to think
// about which way it points.
var layers = []layer{
	{"vocabulary", []string{"."}},
	{"leaves", []string{"proto/", "internal/alertstest", "internal/brokenfiles", "internal/certs", "internal/contentkey", "internal/durable", "internal/metrics", "internal/patience", "internal/pause", "internal/stripemap", "internal/tidy", "internal/timerslack", "engine"}},
	{"pure formats and devices", []string{"internal/wire", "internal/certs/certstest", "internal/cluster", "hotlog/media/", "hotlog/media", "hotlog/internal/", "hotlog/segment/", "hotlog/segment", "hotlog/segdir", "hotlog/inspect", "tiering/erasure", "tiering/bucket/", "tiering/bucket", "catalog", "engine/pages", "engine/postgres/wal", "engine/postgres/page"}},
	{"parts", []string{"hotlog", "hotlog/importer", "tiering", "tiering/target", "pageserver", "pageserver/checkpoint", "client", "internal/config", "engine/postgres/waldump", "engine/postgres/walsample", "engine/postgres/redo", "engine/postgres/payload"}},
	{"PostgreSQL's effects", []string{"engine/postgres/effect", "engine/postgres/backup"}},
	{"PostgreSQL in pages", []string{"engine/postgres/pages"}},
	{"PostgreSQL's tests", []string{"engine/postgres/pagestest"}},
	{"replication", []string{"replication", "replication/", "internal/s3test", "pageserver/stripe", "pageserver/archived", "engine/enginetest", "engine/postgres/verify", "engine/postgres/cluster", "engine/postgres/receiver"}},
	{"services", []string{"internal/node", "internal/exit", "logsvc", "recovery", "engine/sqlite", "engine/postgres/compute"}},
	{"wiring", []string{"internal/roles", "internal/sampledb", "internal/sim"}},
	{"loads", []string{"loadtest/", "engine/postgres/conformance"}},
	{"commands", []string{"cmd/", "internal/sim/cmd", "loadtest"}},
}

// within lists the imports inside one layer that are meant: importer → imported.
var within = map[string][]string{
	"tiering/bucket/":  {"tiering/bucket", "tiering/bucket/s3api"}, // an implementation imports the interface; the two S3 clients share what S3 is
	"hotlog/media/":    {"hotlog/media"},
	"hotlog/internal/": {"hotlog/media"},
	"hotlog/segment":   {"hotlog/media"},
	"hotlog/segment/":  {"hotlog/segment", "hotlog/media"},
	"hotlog/segdir":    {"hotlog/segment", "hotlog/media"},
	"hotlog/inspect":   {"hotlog/segdir", "hotlog/segment", "hotlog/media"}, // the tools need no open log
	"pageserver":       {"pageserver/checkpoint"},                           // the store's files in a bucket
	"hotlog/importer":  {"hotlog"},
	"internal/wire":    {},
	"cmd/":             {"cmd/"},
	"loadtest/":        {"loadtest/appendload", "loadtest/proc", "loadtest/figures"}, // the load that benchmarks and chaos use, the frame of benchmarks
}

// height returns the layer index of a directory, -1 when no layer lists it.
func height(dir string) int {
	for i, l := range layers {
		for _, d := range l.dirs {
			if dir == d || strings.HasSuffix(d, "/") && strings.HasPrefix(dir, d) {
				return i
			}
		}
	}
	return -1
}

// Direction returns a line for every import that points up or sideways.
func Direction(pkgs []Package) []string {
	var bad []string
	for _, p := range pkgs {
		from := height(p.Dir)
		if from < 0 {
			bad = append(bad, fmt.Sprintf("%s: in no layer of internal/tidy: add it where it belongs", p.Dir))
			continue
		}
		for _, imp := range p.Imports {
			to := height(imp)
			if to < from || to == from && allowedWithin(p.Dir, imp) {
				continue
			}
			bad = append(bad, fmt.Sprintf("%s (%s) imports %s (%s): imports point down only", p.Dir, layers[from].name, imp, layerName(to)))
		}
	}
	return bad
}

func layerName(i int) string {
	if i < 0 {
		return "in no layer"
	}
	return layers[i].name
}

func allowedWithin(from, to string) bool {
	for importer, imported := range within {
		if from != importer && !(strings.HasSuffix(importer, "/") && strings.HasPrefix(from, importer)) {
			continue
		}
		for _, d := range imported {
			if to == d || strings.HasSuffix(d, "/") && strings.HasPrefix(to, d) {
				return true
			}
		}
	}
	return false
}

// PackageComments returns a line for every package without a comment.
func PackageComments(pkgs []Package) []string {
	var bad []string
	for _, p := range pkgs {
		onlyTests := !slices.ContainsFunc(p.Files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") })
		generated := strings.HasPrefix(p.Dir, "proto/")
		if !onlyTests && !generated && p.Doc == "" {
			bad = append(bad, p.Dir+": no package comment")
		}
	}
	return bad
}

// Formats returns a line for every package with a format.go that lacks a FORMAT.md, a
// golden file under testdata or a fuzz target.
func Formats(root string, pkgs []Package) []string {
	var bad []string
	for _, p := range pkgs {
		if !slices.Contains(p.Files, "format.go") {
			continue
		}
		dir := filepath.Join(root, filepath.FromSlash(p.Dir))
		if _, err := os.Stat(filepath.Join(dir, "FORMAT.md")); err != nil {
			bad = append(bad, p.Dir+": format.go without a FORMAT.md beside it")
		}
		if golden, _ := filepath.Glob(filepath.Join(dir, "testdata", "*golden*")); len(golden) == 0 {
			bad = append(bad, p.Dir+": format.go without a golden file testdata/*golden*")
		}
		if len(p.Fuzz) == 0 {
			bad = append(bad, p.Dir+": format.go without a fuzz target")
		}
	}
	return bad
}

var (
	linkRE    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headingRE = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	fenceRE   = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	anchorRE  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Links returns a line for every relative link in a Markdown file below root whose
// file or heading is not there.
func Links(root string) ([]string, error) {
	var bad []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".md") {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		for _, m := range linkRE.FindAllStringSubmatch(fenceRE.ReplaceAllString(string(text), ""), -1) {
			if problem := checkLink(root, p, m[1]); problem != "" {
				rel, _ := filepath.Rel(root, p)
				bad = append(bad, fmt.Sprintf("%s: link %s: %s", filepath.ToSlash(rel), m[1], problem))
			}
		}
		return nil
	})
	return bad, err
}

func checkLink(root, from, link string) string {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return ""
	}
	file, anchor, _ := strings.Cut(link, "#")
	target := from
	if file != "" {
		target = filepath.Join(filepath.Dir(from), filepath.FromSlash(file))
	}
	if rel, err := filepath.Rel(root, target); err != nil || strings.HasPrefix(rel, "..") {
		return "leads out of the repository"
	}
	if _, err := os.Stat(target); err != nil {
		return "no such file"
	}
	if anchor == "" || path.Ext(target) != ".md" {
		return ""
	}
	text, err := os.ReadFile(target)
	if err != nil {
		return err.Error()
	}
	for _, h := range headingRE.FindAllStringSubmatch(string(text), -1) {
		if anchorOf(h[1]) == anchor {
			return ""
		}
	}
	return "no such heading"
}

// anchorOf is the anchor that GitHub gives a heading.
func anchorOf(heading string) string {
	s := strings.ToLower(strings.ReplaceAll(heading, "`", ""))
	return strings.ReplaceAll(anchorRE.ReplaceAllString(s, ""), " ", "-")
}

// linesMax is where a file has more than one idea in it.
const linesMax = 700

// unfinished matches what must not be committed.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|\bt\.Ski` + `p(f|Now)?\(`)

// Sources returns a line for every Go file that is too long, or holds an unfinished
// mark or a skipped test. Generated files are left out.
func Sources(root string, pkgs []Package) ([]string, error) {
	var bad []string
	for _, p := range pkgs {
		for _, f := range p.Files {
			if strings.HasSuffix(f, ".pb.go") {
				continue
			}
			name := path.Join(p.Dir, f)
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
			if err != nil {
				return nil, err
			}
			lines := strings.Split(string(text), "\n")
			if len(lines) > linesMax {
				bad = append(bad, fmt.Sprintf("%s: %d lines: more than %d hold more than one idea", name, len(lines), linesMax))
			}
			for i, line := range lines {
				if m := unfinished.FindString(line); m != "" {
					bad = append(bad, fmt.Sprintf("%s:%d: %s: finish it, or open an issue", name, i+1, m))
				}
			}
		}
	}
	return bad, nil
}
