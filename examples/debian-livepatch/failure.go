package main

import (
	"context"
	"errors"

	"github.com/kdelta/kdelta/examples/internal/cli"
	"github.com/kdelta/kdelta/pkg/diag"
)

// Codes of this program; those of the library say what is wrong with the patch itself.
const (
	codeUsage     diag.Code = "usage"
	codeFile      diag.Code = "file-unreadable"
	codeOutput    diag.Code = "file-unwritable"
	codeTool      diag.Code = "tool-failed"
	codePackage   diag.Code = "package-missing"
	codeApply     diag.Code = "patch-does-not-apply"
	codePatchFile diag.Code = "patch-file"
	codeCompile   diag.Code = "compile-failed"
	codeHelper    diag.Code = "helper-missing"
	codeNotBuilt  diag.Code = "not-built"
	codeModule    diag.Code = "module-unknown"
	codeMismatch  diag.Code = "build-mismatch"
	codeTooMany   diag.Code = "too-many-objects"
	codeSigning   diag.Code = "signature-needed"
	codeNotes     diag.Code = "note"
)

// trouble are the codes of what kept the work from being done; every other error says that no patch can be made.
var trouble = []diag.Code{codeUsage, codeFile, codeOutput, codeTool, codePackage, codeSigning}

func failure(code diag.Code, at diag.Place, remedy, format string, args ...any) diag.Diagnostic {
	d := diag.New(code, at, format, args...)
	d.Severity, d.Remedy = diag.SevError, remedy
	return d
}

// findings gives the diagnostics that an error holds.
func findings(err error) []diag.Diagnostic {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return []diag.Diagnostic{failure(codeTool, diag.Place{}, "Run it again: what is done already is kept.", "interrupted")}
	}
	if ds := cli.Diagnostics(err); ds != nil {
		return ds
	}
	return []diag.Diagnostic{failure(codeTool, diag.Place{}, "", "%v", err)}
}
