package depcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// licences are what modules may come under, each by words that its text has.
// They ask for no more than their notice; none asks anything of programs that link them.
var licences = []struct {
	name  string
	words []string
}{
	{"Apache-2.0", []string{"Apache License", "Version 2.0"}},
	{"MIT", []string{"Permission is hereby granted, free of charge", `THE SOFTWARE IS PROVIDED "AS IS"`}},
	{"ISC", []string{"Permission to use, copy, modify, and/or distribute this software"}},
	{"0BSD", []string{"Permission to use, copy, modify, and distribute this software"}},
	{"BSD", []string{"Redistribution and use in source and binary forms", "Redistributions of source code must retain", "Redistributions in binary form must reproduce"}},
	{"Unlicense", []string{"free and unencumbered software released into the public domain"}},
	{"MPL-2.0", []string{"Mozilla Public License", "2.0"}},
}

// copyleft are words of licences that would bind whoever links the library.
var copyleft = []string{"GNU GENERAL PUBLIC LICENSE", "GNU LESSER GENERAL PUBLIC", "GNU AFFERO", "European Union Public Licence", "Server Side Public License"}

// licence names the licence of a text, "" when it is none of those above.
func licence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, w := range copyleft {
		if strings.Contains(strings.ToUpper(text), strings.ToUpper(w)) && !strings.Contains(text, "Mozilla Public License") { // which mentions the others
			return ""
		}
	}
	for _, l := range licences {
		if !slices.ContainsFunc(l.words, func(w string) bool { return !strings.Contains(text, w) }) {
			return l.name
		}
	}
	return ""
}

// TestLicences looks at the licence of every module of which something is linked, in programs and in tests.
func TestLicences(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-test", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "./...")
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if len(lines) < 5 {
		t.Fatalf("modules: %q", lines)
	}
	for _, l := range lines {
		path, dir, _ := strings.Cut(l, " ")
		if path == "" {
			continue
		}
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		found := ""
		for _, n := range names {
			base := strings.ToUpper(filepath.Base(n))
			if !strings.HasPrefix(base, "LICEN") && !strings.HasPrefix(base, "COPYING") && base != "UNLICENSE" {
				continue
			}
			text, err := os.ReadFile(n)
			if err != nil {
				continue // a folder
			}
			if found = licence(string(text)); found == "" {
				t.Errorf("%s: %s is no licence that is allowed here", path, filepath.Base(n))
			}
		}
		if found == "" {
			t.Errorf("%s has no licence file that is understood", path)
			continue
		}
		t.Logf("%-12s %s", found, path)
	}
}

func TestLicenceWords(t *testing.T) {
	for text, want := range map[string]string{
		"Permission is hereby granted,\n free of charge ... THE SOFTWARE IS PROVIDED \"AS IS\"": "MIT",
		"GNU GENERAL PUBLIC LICENSE Version 2":                                                  "",
		"GNU Lesser General Public License":                                                     "",
		"All rights reserved.":                                                                  "",
		"Redistribution and use in source and binary forms":                                     "", // not all of it
	} {
		if got := licence(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := licence("Apache License\n Version 2.0, January 2004"); got != "Apache-2.0" {
		t.Error(got)
	}
}
