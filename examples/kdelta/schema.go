package main

import (
	"flag"

	"github.com/kdelta/kdelta/pkg/report"
)

var schemaCommand = &command{
	name:  "schema",
	args:  "[--patch | --explain]",
	short: "print the JSON schema of what diff, patch and explain write with --json",
	long:  "Prints the JSON Schema (draft 2020-12) of the document " + report.DiffSchema + ", with --patch of " + report.PatchSchema + ", with --explain of " + report.ExplainSchema + ".",
	run: func(e *env, c *command, args []string) int {
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		ofPatch := fs.Bool("patch", false, "that of "+report.PatchSchema)
		ofExplain := fs.Bool("explain", false, "that of "+report.ExplainSchema)
		if _, err := c.parse(e, fs, args, 0); err != nil {
			return fail(err)
		}
		text := report.Schema()
		switch {
		case *ofPatch && *ofExplain:
			return fail(c.usageError(e, "--patch and --explain are two schemas"))
		case *ofPatch:
			text = report.SchemaOfPatch()
		case *ofExplain:
			text = report.SchemaOfExplain()
		}
		_, e.fault = e.out.WriteString(text)
		return 0
	},
}
