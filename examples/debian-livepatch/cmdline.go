package main

import (
	"cmp"
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// Stand-ins in recorded commands, so that they hold wherever the cache lies.
const (
	atSource = "@SOURCE@"
	atObject = "@OBJECT@"
)

// command is how the distribution makes one object.
type command struct {
	Source string `json:"source"` // relative to the top of the source
	// Path is Source as the compiler was given it, where that has a "..": messages of the kernel show it.
	Path     string   `json:"path,omitempty"`
	Compiler string   `json:"compiler"` // "": the kernel's configuration makes no object of it
	Args     []string `json:"args"`     // without -c, -o, dependencies and the source
	// Objtool is what runs over the object afterwards, without its name; empty: nothing.
	Objtool []string `json:"objtool,omitempty"`
	// Module is the name that the object's module has in the source, "" for the image itself.
	Module string `json:"module,omitempty"`

	listed bool // the Makefile that make was in names the object
}

// listedFlag goes into every command and says whether the Makefile that make is in names
// the object. A rule of kbuild makes any object in a folder below, with wrong flags
// where another Makefile is meant to make it.
const (
	listed     = "-DKDELTA_LISTED="
	listedFlag = listed + "$(if $(filter $@,$(real-obj-y) $(real-obj-m) $(lib-y)),1)"
)

// parseMake finds the commands that compile C in what make -n prints of kbuild.
// src is the directory that stands for the source. Lines that are no shell are skipped:
// make mixes its own messages in.
func parseMake(out, src string) []command {
	var cmds []command
	p := syntax.NewParser(syntax.Variant(syntax.LangPOSIX))
	for line := range strings.Lines(out) {
		if !strings.Contains(line, " -c ") || !strings.Contains(line, ".c") {
			continue
		}
		f, err := p.Parse(strings.NewReader(line), "")
		if err != nil {
			continue
		}
		var cmd command
		syntax.Walk(f, func(n syntax.Node) bool {
			call, ok := n.(*syntax.CallExpr)
			if !ok {
				return true
			}
			words := literals(call)
			switch {
			case len(words) < 2:
			case slices.Contains(words, "-c") && strings.HasSuffix(words[len(words)-1], ".c"):
				cmd = compileCommand(words, src)
			case path.Base(words[0]) == "objtool" && cmd.Source != "":
				cmd.Objtool = words[1 : len(words)-1]
			}
			return false
		})
		if cmd.Source != "" {
			cmds = append(cmds, cmd)
		}
	}
	return cmds
}

// literals gives the words of a command that needs no expansion, nil for others.
func literals(call *syntax.CallExpr) []string {
	var out []string
	for _, w := range call.Args {
		for _, part := range w.Parts {
			switch part.(type) {
			case *syntax.Lit, *syntax.SglQuoted, *syntax.DblQuoted:
			default:
				return nil
			}
		}
		s, err := expand.Literal(&expand.Config{NoUnset: true, Env: expand.FuncEnviron(func(string) string { return "" })}, w)
		if err != nil {
			return nil
		}
		out = append(out, s)
	}
	return out
}

// compileCommand takes apart "gcc ... -c -o X.o X.c".
func compileCommand(words []string, src string) command {
	file := words[len(words)-1]
	rel, ok := strings.CutPrefix(file, src+"/")
	if !ok {
		return command{}
	}
	c := command{Source: path.Clean(rel), Compiler: words[0]}
	if rel != c.Source {
		c.Path = rel
	}
	module, name := false, ""
	for i := 1; i < len(words)-1; i++ {
		w := words[i]
		switch {
		case w == "-c", strings.HasPrefix(w, "-Wp,-M"), strings.HasPrefix(w, "-M"):
			continue
		case w == "-o":
			i++
			continue
		case strings.HasPrefix(w, listed):
			c.listed = w == listed+"1"
			continue
		case w == "-DMODULE":
			module = true
		case strings.HasPrefix(w, "-DKBUILD_MODNAME="):
			name = strings.Trim(strings.TrimPrefix(w, "-DKBUILD_MODNAME="), `"`)
		}
		// $(srctree)/$(src), where src is absolute for external modules.
		for _, doubled := range []string{src + "/" + src, src + "//" + strings.TrimPrefix(src, "/")} {
			w = strings.ReplaceAll(w, doubled, src)
		}
		if strings.HasPrefix(w, "-DKBUILD_MODFILE=") {
			w = strings.ReplaceAll(w, src+"/", "") // as in a build of the kernel itself
		}
		c.Args = append(c.Args, strings.ReplaceAll(w, src, atSource))
	}
	if module {
		c.Module = name
	}
	return c
}

// perObject reports whether the distribution runs objtool over each object. Where it
// does so on whole modules and the whole image only, single objects stay as the compiler made them.
func (c *command) perObject() bool {
	return len(c.Objtool) > 0 && !slices.Contains(c.Objtool, "--link")
}

// extraFlags make an object comparable: every function and variable in its own
// section, call frame information for unwind entries, no debug information (it
// changes no code). They come last, so they win.
var extraFlags = []string{"-ffunction-sections", "-fdata-sections", "-fasynchronous-unwind-tables", "-g0"}

// compileArgs are the arguments for a tree of the source.
func (c *command) compileArgs(tree, out, deps string) []string {
	args := make([]string, 0, len(c.Args)+len(extraFlags)+6)
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(a, atSource, tree))
	}
	args = append(args, extraFlags...)
	return append(args, "-MD", "-MF", deps, "-c", "-o", out, tree+"/"+cmp.Or(c.Path, c.Source))
}

func (c *command) encode() []byte {
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		panic(err) // strings only
	}
	return append(data, '\n')
}

// parseDeps reads a rule as the compiler writes it with -MD and gives what the object depends on.
func parseDeps(text string) []string {
	_, text, _ = strings.Cut(strings.ReplaceAll(text, "\\\n", " "), ":")
	return strings.Fields(strings.SplitN(text, "\n", 2)[0])
}

func decodeCommand(data []byte) (command, bool) {
	var c command
	err := json.Unmarshal(data, &c)
	return c, err == nil && c.Source != ""
}

// wanting gives the C files whose objects make cannot do for want of another file, with
// what it says: No rule to make target 'A', needed by 'B.o'.
func wanting(errs, src string) map[string]string {
	out := make(map[string]string)
	for line := range strings.Lines(errs) {
		if _, by, ok := strings.Cut(line, "needed by '"+src+"/"); ok {
			if f, _, ok := strings.Cut(by, ".o'"); ok {
				out[path.Clean(f)+".c"] = strings.TrimSpace(strings.ReplaceAll(line, src+"/", ""))
			}
		}
	}
	return out
}

var sideFolder = regexp.MustCompile(`(?m)^(?:core|drivers|libs)-(?:y|\$\((CONFIG_\w+)\))\s*[:+]?=\s*(\S+)/\s*$`)

// sideFolders gives the folders that a Makefile adds to the kernel by core-y, drivers-y or
// libs-y, as far as the configuration has them.
func sideFolders(makefile, config string) []string {
	var out []string
	for _, m := range sideFolder.FindAllStringSubmatch(makefile, -1) {
		if m[1] == "" || strings.Contains("\n"+config, "\n"+m[1]+"=y\n") {
			out = append(out, m[2])
		}
	}
	return out
}

var (
	outsideName     = regexp.MustCompile(`(?m)^[^#\n]*=[^#\n]*\.\./`)
	includeMakefile = regexp.MustCompile(`(?m)^-?include\s+\$\(srctree\)/(\S+)`)
)

// namesOutside reports whether a Makefile may name objects outside of its folder: it sets
// something to a path with "..", other than a folder for the compiler to look into.
func namesOutside(makefile string) bool {
	for _, m := range outsideName.FindAllString(makefile, -1) {
		if !strings.Contains(m, "-I") {
			return true
		}
	}
	return false
}

// includedMakefiles gives the files of the source that a Makefile includes.
func includedMakefiles(makefile string) []string {
	var out []string
	for _, m := range includeMakefile.FindAllStringSubmatch(makefile, -1) {
		out = append(out, m[1])
	}
	return out
}
