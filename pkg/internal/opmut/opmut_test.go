// Package opmut asks whether tests would see a mistake: it changes one operator or
// constant of a package at a time and runs those of its tests that come by, one of which should fail.
package opmut

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../../.."

// A package, by all of its mutants, or a sample of those of one file, without tests that only measure:
//
//	go test ./pkg/internal/opmut -run '^TestOperators$' -v -timeout 10h -package ./reloc
//	go test ./pkg/internal/opmut -run '^TestOperators$' -v -timeout 10h -package ./elfdiff -operators 100 -file compare.go -with ./elfdiff,./pkg/patch -skip 'TestScale|TestCancelSoon'
var (
	pkg  = flag.String("package", "", "the package whose source is changed; without it the test is skipped")
	n    = flag.Int("operators", 0, "how many mutants, drawn at random; 0: all")
	seed = flag.Uint64("seed", 1, "of the draw")
	file = flag.String("file", "", "only those of these files, separated by commas")
	skip = flag.String("skip", "", "tests to leave out, as a regular expression")
	list = flag.String("of", "", "only those that this file lists: what an earlier run printed")
	with = flag.String("with", "", "the packages whose tests are run, separated by commas; empty: the package itself")
)

// Every kind of change, and what a program prints with each on. What stands behind && and || runs as often as it would.
func TestSwitches(t *testing.T) {
	const src = `package main

import "fmt"

type small uint8

const limit = 1

var table = [...]small{limit - 1: 7, 9, 11}

func did(s string, b bool) bool { fmt.Print(s); return b }

func main() {
	for i := range table {
		if i == limit && !did("c", false) { continue }
		fmt.Print(i < 2, table[i], " ")
	}
	b := uint64(1)
	fmt.Print(did("d", true) || did("e", true), " ", b<<3-1, 1<<b|4, "a" + "b")
}
`
	const want = `true 7 cfalse 11 dtrue 7 6ab
7:15: 1 -> 2: another build
9:30: - -> +: another build
9:32: 1 -> 2: another build
9:35: 7 -> 8: true 8 cfalse 11 dtrue 7 6ab
9:38: 9 -> 10: true 7 cfalse 11 dtrue 7 6ab
9:41: 11 -> 12: true 7 cfalse 12 dtrue 7 6ab
15:17: && -> ||: ccdtrue 7 6ab
15:8: == -> !=: ctrue 9 cdtrue 7 6ab
15:20: ! -> : true 7 ctrue 9 false 11 dtrue 7 6ab
15:30: false -> true: true 7 ctrue 9 false 11 dtrue 7 6ab
15:39: continue -> break: true 7 cdtrue 7 6ab
16:15: < -> <=: true 7 ctrue 11 dtrue 7 6ab
16:17: 2 -> 3: true 7 ctrue 11 dtrue 7 6ab
18:14: 1 -> 2: true 7 cfalse 11 dtrue 15 4ab
19:27: || -> &&: true 7 cfalse 11 detrue 7 6ab
19:21: true -> false: true 7 cfalse 11 detrue 7 6ab
19:39: true -> false: true 7 cfalse 11 dtrue 7 6ab
19:55: - -> +: true 7 cfalse 11 dtrue 9 6ab
19:52: << -> >>: true 7 cfalse 11 dtrue 18446744073709551615 6ab
19:54: 3 -> 4: true 7 cfalse 11 dtrue 15 6ab
19:56: 1 -> 2: true 7 cfalse 11 dtrue 6 6ab
19:63: | -> &: true 7 cfalse 11 dtrue 7 0ab
19:60: << -> >>: true 7 cfalse 11 dtrue 7 4ab
19:59: 1 -> 2: true 7 cfalse 11 dtrue 7 4ab
19:64: 4 -> 5: true 7 cfalse 11 dtrue 7 7ab
`
	dir := t.TempDir()
	write := func(name string, text []byte) {
		if err := os.WriteFile(name, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "main.go"), []byte(src))
	write(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"))
	s, err := readSource(dir, ".")
	if err != nil {
		t.Fatal(err)
	}
	cs, err := s.changes()
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.switched(cs)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(name, text)
	}
	prog := filepath.Join(dir, "prog")
	cmd := exec.Command("go", "build", "-o", prog, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	var got strings.Builder
	run := func(env string) {
		cmd := exec.Command(prog)
		cmd.Env = append(os.Environ(), env)
		out, err := cmd.Output()
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(&got, "%s\n", out)
	}
	run("OPMUT=")
	for i, c := range cs {
		where, _, _ := strings.Cut(strings.TrimPrefix(c.text, "main.go:"), " in: ")
		got.WriteString(where + ": ")
		if c.wrap == nil {
			got.WriteString("another build\n")
		} else {
			run(fmt.Sprintf("OPMUT=%d", i))
		}
	}
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
}

// place is where in a file a change is; it moves with every edit.
var place = regexp.MustCompile(`:\d+:\d+:`)

// TestOperators lists the mutants that no test notices. They are not failures: some
// change nothing that can be seen, and CONTRIBUTING.md says what is known of them.
func TestOperators(t *testing.T) {
	if *pkg == "" {
		t.Skip("no -package")
	}
	s, err := readSource(root, *pkg)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.changes()
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.switched(all)
	if err != nil {
		t.Fatal(err)
	}
	tests := []string{*pkg}
	if *with != "" {
		tests = strings.Split(*with, ",")
	}
	r := runner{t: t, s: s, tmp: t.TempDir(), pkgs: tests, changes: all}
	progs, out := r.build("switched", files)
	if progs == nil {
		t.Fatalf("%s", out)
	}
	plain, out := r.build("plain", nil)
	if plain == nil {
		t.Fatalf("%s", out)
	}
	r.record(plain, progs)

	var drawn []int
	earlier, err := os.ReadFile(*list)
	if err != nil && *list != "" {
		t.Fatal(err)
	}
	earlier = place.ReplaceAll(earlier, nil)
	for i, c := range all {
		if *list != "" && !bytes.Contains(earlier, append(place.ReplaceAll([]byte(c.text), nil), '\n')) {
			continue
		}
		if *file == "" || slices.Contains(strings.Split(*file, ","), filepath.Base(c.file)) {
			drawn = append(drawn, i)
		}
	}
	total := len(drawn)
	if *n > 0 && *n < total {
		rand.New(rand.NewPCG(*seed, 0)).Shuffle(total, func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
		drawn = drawn[:*n]
	}
	start := time.Now()
	counts := map[string]int{}
	for _, i := range drawn {
		what := r.fate(i, progs)
		counts[what]++
		if !strings.HasPrefix(what, "killed") && what != "does not build" {
			fmt.Printf("SURVIVOR %d, %s: %s\n", i, what, all[i].text)
		}
	}
	t.Logf("%s: %d of %d mutants in %v: %v", *pkg, len(drawn), total, time.Since(start).Round(time.Second), counts)
}

// runner runs tests of packages against changes of one.
type runner struct {
	t       *testing.T
	s       *source
	tmp     string
	pkgs    []string // those with the tests
	changes []change
	tests   []test // quickest first, those of the first package before those of the next
}

type test struct {
	prog    int // of pkgs
	name    string
	seconds float64 // of a processor
	sees    []byte  // by change: whether it makes a difference where the test comes by
}

// build makes the programs of tests, with some files in other words. No programs: they do not build.
func (r *runner) build(name string, files map[string][]byte) (progs []string, out []byte) {
	replace := map[string]string{}
	for f, b := range files {
		replace[f] = filepath.Join(r.tmp, fmt.Sprintf("%s%d.go", name, len(replace)))
		if err := os.WriteFile(replace[f], b, 0o666); err != nil {
			r.t.Fatal(err)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		r.t.Fatal(err)
	}
	overlay := filepath.Join(r.tmp, "overlay.json")
	if err := os.WriteFile(overlay, b, 0o666); err != nil {
		r.t.Fatal(err)
	}
	for i, p := range r.pkgs {
		prog := filepath.Join(r.tmp, fmt.Sprintf("%s%d.test", name, i))
		cmd := exec.Command("go", "test", "-c", "-vet=off", "-overlay="+overlay, "-o", prog, p)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, out
		}
		progs = append(progs, prog)
	}
	return progs, nil
}

// run runs tests of one program; the error is theirs or that they took more than seconds of a processor.
func (r *runner) run(progs []string, tests []test, seconds float64, env ...string) (cpu float64, out []byte, err error) {
	var names []string
	for _, x := range tests {
		names = append(names, x.name)
	}
	limit := int(seconds) + 1
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20*limit)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, progs[tests[0].prog], "-test.short", "-test.failfast", "-test.run=^("+strings.Join(names, "|")+")$", fmt.Sprintf("-test.timeout=%ds", 8*limit))
	cmd.Dir = filepath.Join(root, r.pkgs[tests[0].prog])
	cmd.Env = append(os.Environ(), fmt.Sprintf("OPMUT_SECONDS=%d", limit))
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = time.Second
	out, err = cmd.CombinedOutput()
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), out, err
}

// record learns what each test sees, and how long it takes.
func (r *runner) record(plain, progs []string) {
	seen := filepath.Join(r.tmp, "seen")
	var leave *regexp.Regexp
	if *skip != "" {
		leave = regexp.MustCompile("^(" + *skip + ")$")
	}
	for i, prog := range progs {
		cmd := exec.Command(prog, "-test.list=.")
		cmd.Dir = filepath.Join(root, r.pkgs[i])
		out, err := cmd.Output()
		if err != nil {
			r.t.Fatal(err)
		}
		first := len(r.tests)
		for _, name := range strings.Fields(string(out)) {
			if strings.HasPrefix(name, "Benchmark") || leave != nil && leave.MatchString(name) {
				continue
			}
			if err := os.WriteFile(seen, make([]byte, max(len(r.changes), 1)), 0o666); err != nil {
				r.t.Fatal(err)
			}
			x := test{prog: i, name: name}
			var out []byte
			if x.seconds, out, err = r.run(progs, []test{x}, 600, "OPMUT_SEEN="+seen); err != nil {
				if _, _, err := r.run(plain, []test{x}, 600); err != nil {
					r.t.Fatalf("%s, as it is: %v\n%s", name, err, out)
				}
				fmt.Printf("left out: %s, which does not like switches\n", name)
				continue
			}
			if x.sees, err = os.ReadFile(seen); err != nil {
				r.t.Fatal(err)
			}
			r.tests = append(r.tests, x)
		}
		slices.SortStableFunc(r.tests[first:], func(a, b test) int { return cmp.Compare(a.seconds, b.seconds) })
		sum := 0.0
		for _, x := range r.tests[first:] {
			sum += x.seconds
		}
		r.t.Logf("%s: %d tests, %.1f s of a processor; the slowest is %s", r.pkgs[i], len(r.tests)-first, sum, r.tests[len(r.tests)-1].name)
	}
}

// fate says what becomes of a change.
func (r *runner) fate(i int, progs []string) string {
	c := r.changes[i]
	tests := r.tests
	if c.wrap != nil {
		tests = slices.DeleteFunc(slices.Clone(tests), func(x test) bool { return x.sees[i] == 0 })
		if len(tests) == 0 {
			return "not seen"
		}
	} else {
		src := r.s.files[c.file]
		mutant := map[string][]byte{c.file: slices.Concat(src[:c.off], []byte(c.with), src[c.end:])}
		if _, _, _, err := r.s.check(mutant, nil); err != nil {
			return "does not build"
		}
		if progs, _ = r.build("mutant", mutant); progs == nil {
			return "does not build"
		}
	}
	for len(tests) > 0 { // some quick ones first: most changes end there
		n, sum := 1, tests[0].seconds
		for n < len(tests) && tests[n].prog == tests[0].prog && sum+tests[n].seconds < max(0.3, 2*tests[0].seconds) {
			sum += tests[n].seconds
			n++
		}
		_, out, err := r.run(progs, tests[:n], 1+4*sum, fmt.Sprintf("OPMUT=%d", i))
		switch ee := (*exec.ExitError)(nil); {
		case err == nil:
		case !errors.As(err, &ee):
			r.t.Fatal(err)
		case ee.ExitCode() < 0 || bytes.Contains(out, []byte("panic: test timed out")):
			return "killed: endless"
		default:
			return "killed"
		}
		tests = tests[n:]
	}
	return "survived"
}
