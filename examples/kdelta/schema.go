package main

import (
	_ "embed"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/report"
)

// The schemas of documents that are this program's own.
var (
	//go:embed schema/kernel-v1.json
	kernelSchemaText string
	//go:embed schema/run-pre-v1.json
	runPreSchemaText string
)

var schemaCommand = &command{
	Name:  "schema",
	Args:  "[--patch | --explain | --verify | --tree | --kernel | --run-pre]",
	Short: "print the JSON schema of what a command writes with --json",
	Long: "Prints the JSON Schema (draft 2020-12) of the document " + report.DiffSchema + ", with --patch of " + report.PatchSchema + ", with --explain of " +
		report.ExplainSchema + ", with --verify of " + report.VerifySchema +
		", with --tree of a line of " + report.TreeSchema + ", with --kernel of " + kernelSchema + ", with --run-pre of " + runPreSchema + ".",
	Run: func(e *env, c *command, args []string) int {
		fs := c.Flags()
		text, n := report.Schema(), 0
		for _, s := range []struct {
			flag, name, text string
		}{
			{"patch", report.PatchSchema, report.SchemaOfPatch()}, {"explain", report.ExplainSchema, report.SchemaOfExplain()}, {"verify", report.VerifySchema, report.SchemaOfVerify()},
			{"tree", report.TreeSchema, report.SchemaOfTree()}, {"kernel", kernelSchema, kernelSchemaText}, {"run-pre", runPreSchema, runPreSchemaText},
		} {
			fs.BoolFunc(s.flag, "that of "+s.name, func(string) error {
				text = s.text
				n++
				return nil
			})
		}
		if _, err := c.Parse(e, fs, args, 0, 0); err != nil {
			return cli.Fail(err)
		}
		if n > 1 {
			return cli.Fail(c.UsageError(e, "one schema at a time"))
		}
		_, e.Fault = e.Out.WriteString(text)
		return 0
	},
}
