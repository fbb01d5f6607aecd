package main

import (
	"fmt"
	"runtime/debug"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/kernel"
)

var versionCommand = &command{
	Name:  "version",
	Short: "print what this binary was built from",
	Long:  "Prints the module's version, the commit where it is known, the Go version and the version of the rules.",
	Run: func(e *env, c *command, args []string) int {
		if _, err := c.Parse(e, c.Flags(), args, 0, 0); err != nil {
			return cli.Fail(err)
		}
		version, commit, goVersion := "unknown", "", ""
		if bi, ok := debug.ReadBuildInfo(); ok {
			goVersion = " " + bi.GoVersion
			if bi.Main.Version != "" {
				version = bi.Main.Version
			}
			for _, s := range bi.Settings {
				switch {
				case s.Key == "vcs.revision":
					commit = " " + s.Value + commit
				case s.Key == "vcs.modified" && s.Value == "true":
					commit += " modified"
				}
			}
		}
		fmt.Fprintf(e.Out, "kdelta %s%s%s rules %s\n", version, commit, goVersion, kernel.Rules().Version)
		return 0
	},
}
