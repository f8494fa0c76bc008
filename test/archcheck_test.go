package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/headgate/headgate"

// violation is a broken rule and where.
type violation struct{ at, what string }

func (v violation) String() string { return v.at + ": " + v.what }

func position(file string, line int) string { return fmt.Sprintf("%s:%d", file, line) }

// arch is a tree of Go files being checked. It parses and does not build: every
// file counts, whatever its build tags.
type arch struct {
	fset  *token.FileSet
	files map[string]*ast.File // by slash path from the module's root
	found []violation
}

// checkArch returns the broken rules of a tree, by place.
func checkArch(tree map[string][]byte) []violation {
	a := &arch{fset: token.NewFileSet(), files: map[string]*ast.File{}}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		f, err := parser.ParseFile(a.fset, name, tree[name], parser.SkipObjectResolution)
		if err != nil {
			a.found = append(a.found, violation{name, err.Error()})
			continue
		}
		a.files[name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		a.checkFile(name)
	}
	return a.found
}

func (a *arch) bad(pos token.Pos, format string, args ...any) {
	p := a.fset.Position(pos)
	a.found = append(a.found, violation{position(p.Filename, p.Line), fmt.Sprintf(format, args...)})
}

func (a *arch) checkFile(name string) {
	f, pkg := a.files[name], path.Dir(name)
	root, _, beneath := strings.Cut(pkg, "/")
	record := slices.Index(records, root)
	if pkg != "." && record < 0 && !slices.Contains(others, root) {
		a.bad(f.Package, "folder %s is not on the map (DESIGN §3)", root)
		return
	}
	if strings.HasSuffix(name, "_test.go") {
		return // a test may read files and start things, and sits outside the direction
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			a.bad(spec.Pos(), "import %s: %v", spec.Path.Value, err)
			continue
		}
		if why := a.refuse(pkg, record >= 0 && !beneath, imp); why != "" {
			a.bad(spec.Pos(), "%s imports %s: %s", pkg, imp, why)
		}
	}
	if record >= 0 && !beneath {
		a.checkPure(f)
	}
	if root == "control" {
		a.checkNouns(f)
	}
}

// checkNouns holds control to the store's nouns: its types and errors may be
// named, but what the store does is reached only by an interface that control
// declares itself.
func (a *arch) checkNouns(f *ast.File) {
	verbs := map[string]bool{"Store": true}
	for _, name := range a.sources("store") {
		for _, d := range a.files[name].Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				verbs[fn.Name.Name] = true
			}
		}
	}
	names := a.imports(f)
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] == module+"/store" && verbs[sel.Sel.Name] {
			a.bad(n.Pos(), "control names %s.%s: it declares the interfaces it needs, and server wires the store to them", x.Name, sel.Sel.Name)
		}
		return true
	})
}

// imports are what a file imports, by the name that the file uses.
func (a *arch) imports(f *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range f.Imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imp)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = imp
	}
	return names
}

// refuse says why pkg may not import imp, or nothing.
func (a *arch) refuse(pkg string, isRecord bool, imp string) string {
	own, inModule := strings.CutPrefix(imp, module+"/")
	if isRecord {
		return a.refuseRecord(pkg, imp, own, inModule)
	}
	if !inModule {
		return ""
	}
	from, _, _ := strings.Cut(pkg, "/")
	to, _, _ := strings.Cut(own, "/")
	switch {
	case to == "cmd":
		return "nothing imports cmd"
	case from == "internal" && to != "internal":
		return "what knows the domain does not belong in internal"
	case from == "api" && to != "api":
		return "api stands alone: it is the contract"
	case slices.Contains(records, from) && slices.Contains(edges, to):
		return "an adapter does not know the edges"
	case from == "store" && slices.Contains([]string{"control", "server", "cli", "agent", "sim"}, to):
		return "store knows the record alone"
	case from == "control" && slices.Contains([]string{"server", "cli", "agent", "sim"}, to):
		return "control knows the record and the store's nouns"
	case from == "server" && slices.Contains([]string{"cli", "agent", "sim"}, to):
		return "server wires the control plane alone"
	case from == "cli" || from == "agent":
		if chain := a.reach(own, []string{"store", "control", "server"}, map[string]bool{}); chain != nil {
			return "cli and agent share only api with the server: " + strings.Join(chain, " → ")
		}
	}
	return ""
}

// edges are the packages that an adapter may not import.
var edges = []string{"store", "control", "server", "agent", "cli", "console", "sim", "cmd"}

func (a *arch) refuseRecord(pkg, imp, own string, inModule bool) string {
	switch {
	case inModule && strings.HasPrefix(own, "internal/"):
		if why := a.impureInternal(own); why != "" {
			return "it is not pure: " + why
		}
	case inModule && slices.Contains(records, own):
		if slices.Index(records, own) >= slices.Index(records, pkg) {
			return "a record package imports only those above it (" + strings.Join(records, " ") + ")"
		}
	case inModule:
		return "a record package imports neither adapters nor edges"
	case slices.Contains(pureStd, imp), slices.Contains(pureModules, imp):
	default:
		return "a record package does no I/O; if the package is pure, add it to the list with its reason"
	}
	return ""
}

// impureInternal says what keeps an internal package out of the record.
func (a *arch) impureInternal(pkg string) string {
	sub := &arch{fset: a.fset, files: a.files}
	for _, name := range a.sources(pkg) {
		for _, spec := range a.files[name].Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			if !slices.Contains(pureStd, imp) && !slices.Contains(pureModules, imp) {
				return pkg + " imports " + imp
			}
		}
		sub.checkPure(a.files[name])
	}
	if len(sub.found) > 0 {
		return sub.found[0].String()
	}
	return ""
}

// sources are the files of a package that are no tests.
func (a *arch) sources(pkg string) []string {
	var out []string
	for name := range a.files {
		if path.Dir(name) == pkg && !strings.HasSuffix(name, "_test.go") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// reach finds a chain of imports from pkg to one of the root folders.
func (a *arch) reach(pkg string, roots []string, seen map[string]bool) []string {
	root, _, _ := strings.Cut(pkg, "/")
	if slices.Contains(roots, root) {
		return []string{pkg}
	}
	if seen[pkg] {
		return nil
	}
	seen[pkg] = true
	for _, name := range a.sources(pkg) {
		for _, spec := range a.files[name].Imports {
			imp, _ := strconv.Unquote(spec.Path.Value)
			own, ok := strings.CutPrefix(imp, module+"/")
			if !ok {
				continue
			}
			if chain := a.reach(own, roots, seen); chain != nil {
				return append([]string{pkg}, chain...)
			}
		}
	}
	return nil
}

// checkPure finds clocks, output, goroutines and channels in a pure package's file.
func (a *arch) checkPure(f *ast.File) {
	names := a.imports(f)
	for _, spec := range f.Imports {
		if spec.Name != nil && spec.Name.Name == "." {
			a.bad(spec.Pos(), "dot import of %s hides what is used of it", spec.Path.Value)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			a.bad(n.Pos(), "goroutine in a pure package")
		case *ast.SelectStmt:
			a.bad(n.Pos(), "select in a pure package")
		case *ast.ChanType:
			a.bad(n.Pos(), "channel in a pure package")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && slices.Contains(impure[names[x.Name]], n.Sel.Name) {
				a.bad(n.Pos(), "%s.%s in a pure package: pass the value in", x.Name, n.Sel.Name)
			}
		}
		return true
	})
}
