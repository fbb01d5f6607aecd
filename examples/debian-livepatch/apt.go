package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kdelta/kdelta/pkg/diag"
)

// stanza is one paragraph of a Debian control file (deb822): fields by lower-case name.
type stanza map[string]string

// parseControl reads what apt-cache show and dpkg-deb -f print.
func parseControl(text string) []stanza {
	var out []stanza
	var s stanza
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			s = nil
			continue
		case line[0] == ' ' || line[0] == '\t': // goes on
			if s != nil && last != "" {
				s[last] += "\n" + strings.TrimSpace(line)
			}
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue // apt's own remarks
		}
		if s == nil {
			s = make(stanza)
			out = append(out, s)
		}
		last = strings.ToLower(name)
		s[last] = strings.TrimSpace(value)
	}
	return out
}

// dependency is the first alternative of one clause of a Depends field.
type dependency struct {
	name    string
	version string // exact, "" where the relation is another one or none
}

func parseDepends(field string) []dependency {
	var out []dependency
	for clause := range strings.SplitSeq(field, ",") {
		clause, _, _ = strings.Cut(clause, "|")
		name, rel, _ := strings.Cut(strings.TrimSpace(clause), " ")
		name, _, _ = strings.Cut(name, ":") // :any
		if name == "" {
			continue
		}
		d := dependency{name: name}
		rel = strings.Trim(strings.TrimSpace(rel), "()")
		if v, ok := strings.CutPrefix(rel, "="); ok {
			d.version = strings.TrimSpace(v)
		}
		out = append(out, d)
	}
	return out
}

// debName is what a package's file name says.
type debName struct{ name, version, arch string }

// parseDebName reads NAME_VERSION_ARCH.deb; apt writes ':' as %3a.
func parseDebName(path string) (debName, bool) {
	base, ok := strings.CutSuffix(filepath.Base(path), ".deb")
	p := strings.Split(base, "_")
	if !ok || len(p) != 3 || slices.Contains(p, "") {
		return debName{}, false
	}
	return debName{p[0], strings.ReplaceAll(p[1], "%3a", ":"), p[2]}, true
}

// parseMadison lists the versions that apt-cache madison prints, each once, in its order.
func parseMadison(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if f := strings.Split(line, "|"); len(f) >= 3 {
			if v := strings.TrimSpace(f[1]); v != "" && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// packages are what the build of one kernel needs.
type packages struct {
	Release string
	Version string // of image, headers and source: they come from one source package
	Image   string
	Headers string
	Common  string // architecture-independent headers
	Kbuild  string
	Source  string
	// KbuildVersion is empty for: whichever is there. Security updates replace linux-kbuild of a series.
	KbuildVersion string
	// Root is a folder in which somebody has unpacked them all, "" where they are packages.
	Root string
}

// each gives names and versions.
func (p *packages) each() []dependency {
	return []dependency{{p.Image, p.Version}, {p.Headers, p.Version}, {p.Common, p.Version}, {p.Kbuild, p.KbuildVersion}, {p.Source, p.Version}}
}

// checkRelease refuses what cannot be the name of a kernel release.
func checkRelease(release string) error {
	ok := release != "" && release[0] >= '0' && release[0] <= '9' && !strings.ContainsFunc(release, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && !strings.ContainsRune("+.-~", r)
	})
	if !ok {
		return failure(codeUsage, diag.Place{}, "Give what uname -r prints there, such as 6.1.0-50-amd64.", "%q is no kernel release", release)
	}
	return nil
}

// series gives "6.1" of the version "6.1.176-1" or "1:6.1.176-1~deb12u1".
func series(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	p := strings.SplitN(version, ".", 3)
	if len(p) < 2 {
		return ""
	}
	minor := p[1]
	if i := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = minor[:i]
	}
	return p[0] + "." + minor
}

// resolve says which packages belong to a release, from what apt or the package itself says of the headers.
func resolve(release string, headers stanza) (*packages, error) {
	p := &packages{Release: release, Image: "linux-image-" + release, Headers: "linux-headers-" + release, Version: headers["version"]}
	for _, d := range parseDepends(headers["depends"]) {
		switch {
		case strings.HasPrefix(d.name, "linux-headers-") && strings.Contains(d.name, "-common"):
			p.Common = d.name
		case strings.HasPrefix(d.name, "linux-kbuild-"):
			p.Kbuild, p.KbuildVersion = d.name, d.version
		}
	}
	s := series(p.Version)
	if p.Common == "" || p.Kbuild == "" || s == "" {
		return nil, failure(codePackage, diag.Place{File: p.Headers}, "Use a kernel of Debian.",
			"version %q, depends on %q: these are not the headers of a Debian kernel", p.Version, headers["depends"])
	}
	p.Source = "linux-source-" + s
	return p, nil
}

// choose finds the files of the packages among the names of package files.
// The error lists all that are missing.
func choose(p *packages, files []string) (map[string]string, []dependency) {
	found := make(map[string]string)
	var missing []dependency
	for _, want := range p.each() {
		for _, f := range files {
			if n, ok := parseDebName(f); ok && n.name == want.name && (want.version == "" || n.version == want.version) {
				found[want.name] = f
			}
		}
		if found[want.name] == "" {
			missing = append(missing, want)
		}
	}
	return found, missing
}

func (d dependency) String() string {
	if d.version == "" {
		return d.name
	}
	return fmt.Sprintf("%s=%s", d.name, d.version)
}

// packageID reads the version from a kernel's generated package.h.
func packageID(text string) string {
	_, v, _ := strings.Cut(text, `LINUX_PACKAGE_ID " Debian `)
	v, _, _ = strings.Cut(v, `"`)
	return v
}

// changelogVersion gives the version of the first entry of a Debian changelog: "linux (6.1.176-1) ...".
func changelogVersion(text string) string {
	_, v, _ := strings.Cut(strings.SplitN(text, "\n", 2)[0], "(")
	v, _, _ = strings.Cut(v, ")")
	return v
}
