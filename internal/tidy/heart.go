package tidy

import (
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// heart is what makes entries durable and recovers them: the log, its segment files, the
// directory of them and the media. It is to be readable in an afternoon. What looks at a
// log from outside (hotlog/inspect, hotlog/importer) and what tests it (simdisk, mediatest)
// is not part of it.
var heart = []string{"hotlog", "hotlog/segdir", "hotlog/segment", "hotlog/media"}

// heartLinesMax is how many lines of Go the heart may have.
const heartLinesMax = 5000

// Heart returns a line when the heart has grown beyond its limit, and how many lines it has:
// those of non-test Go that hold anything but white space and comments.
func Heart(root string, pkgs []Package) (bad []string, lines int, err error) {
	for _, p := range pkgs {
		for _, f := range p.Files {
			if !inHeart(p.Dir) || strings.HasSuffix(f, "_test.go") {
				continue
			}
			text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path.Join(p.Dir, f))))
			if err != nil {
				return nil, 0, err
			}
			lines += codeLines(text)
		}
	}
	if lines > heartLinesMax {
		bad = append(bad, fmt.Sprintf("%s have %d lines of code together, %d at most: move out what is not the heart of the log, or simplify",
			strings.Join(heart, ", "), lines, heartLinesMax))
	}
	return bad, lines, nil
}

func inHeart(dir string) bool {
	for _, d := range heart {
		if d == dir {
			return true
		}
	}
	return false
}

// codeLines counts the lines of a Go file on which a token lies, those inside of a long
// string included.
func codeLines(text []byte) (n int) {
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0) // without comments
	last := 0
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			return n
		}
		if tok == token.SEMICOLON && lit == "\n" {
			continue // added at the end of a line
		}
		from := file.Line(pos)
		to := from + strings.Count(lit, "\n")
		n += max(to-max(from-1, last), 0)
		last = max(last, to)
	}
}
