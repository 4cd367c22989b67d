package main

import "strings"

// completeSQL reports whether sql ends with a whole statement: its last token is a
// semicolon that is not inside a string, a comment or the body of a trigger. Text
// without any token is complete too.
func completeSQL(sql string) bool {
	var words []string // the first three words of the statement, in capitals
	last := ""         // the last token: a word in capitals, or one character
	push := func(token string) {
		if token == ";" && !(isTrigger(words) && last != "END") {
			words, last = nil, ";"
			return
		}
		if len(words) < 3 {
			words = append(words, token)
		}
		last = token
	}
	for i := 0; i < len(sql); {
		n, token, whole := nextToken(sql[i:])
		if !whole {
			return false
		}
		if token != "" {
			push(token)
		}
		i += n
	}
	return last == "" || last == ";" && len(words) == 0
}

// isTrigger reports whether a statement that begins with words defines a trigger:
// the semicolons of its body don't end it, only the one after END does.
func isTrigger(words []string) bool {
	if len(words) < 2 || words[0] != "CREATE" {
		return false
	}
	if words[1] == "TEMP" || words[1] == "TEMPORARY" {
		return len(words) > 2 && words[2] == "TRIGGER"
	}
	return words[1] == "TRIGGER"
}

// nextToken returns the length of the next token of s and its text: empty for space
// and comments, capitals for a word, "'" for a string or a quoted name. whole is
// false when s ends inside it.
func nextToken(s string) (n int, token string, whole bool) {
	c := s[0]
	switch {
	case c == '\'' || c == '"' || c == '`':
		return quoted(s, c)
	case c == '[':
		return quoted(s, ']')
	case strings.HasPrefix(s, "--"):
		if end := strings.IndexByte(s, '\n'); end >= 0 {
			return end + 1, "", true
		}
		return len(s), "", true
	case strings.HasPrefix(s, "/*"):
		if end := strings.Index(s[2:], "*/"); end >= 0 {
			return end + 4, "", true
		}
		return len(s), "", false
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		return 1, "", true
	case wordByte(c):
		for n = 1; n < len(s) && wordByte(s[n]); n++ {
		}
		return n, strings.ToUpper(s[:n]), true
	}
	return 1, s[:1], true
}

// quoted measures a quoted token; a doubled quote inside reads as two tokens side
// by side, which is no difference here.
func quoted(s string, closing byte) (int, string, bool) {
	end := strings.IndexByte(s[1:], closing)
	if end < 0 {
		return len(s), "", false
	}
	return end + 2, "'", true
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
