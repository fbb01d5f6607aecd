package main

import (
	"flag"

	"github.com/kdelta/kdelta/pkg/report"
)

var schemaCommand = &command{
	name:  "schema",
	short: "print the JSON schema of what diff --json writes",
	long:  "Prints the JSON Schema (draft 2020-12) of the document " + report.DiffSchema + ".",
	run: func(e *env, c *command, args []string) int {
		if _, err := c.parse(e, flag.NewFlagSet(c.name, flag.ContinueOnError), args, 0); err != nil {
			return fail(err)
		}
		_, e.fault = e.out.WriteString(report.Schema())
		return 0
	},
}
