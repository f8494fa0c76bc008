package store

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/headgate/headgate/internal/pgtest"
)

// TestEveryStatementPreparesOnBothEngines finds each SQL text in this package's
// source, constants and concatenations included, and has both engines parse it.
func TestEveryStatementPreparesOnBothEngines(t *testing.T) {
	texts := statements(t)
	for _, l := range hotLists {
		for _, n := range listSizes {
			texts = append(texts, l.render(sqlite, n), l.render(postgres, n))
		}
		if l.of != "" {
			texts = append(texts, l.renderArrays())
		}
	}
	if len(texts) < 80 {
		t.Fatalf("found %d statements only: does the search still work?", len(texts))
	}
	dsns := map[string]string{"sqlite": filepath.Join(t.TempDir(), "s.db")}
	t.Run("sqlite", func(t *testing.T) { prepareAll(t, dsns["sqlite"], texts, regexp.MustCompile(`\$\d`)) })
	t.Run("postgres", func(t *testing.T) {
		prepareAll(t, pgtest.Start(t).NewDatabase(t), texts, regexp.MustCompile(`\?`))
	})
}

// prepareAll prepares texts; those of lists that were rendered for the other
// engine, known by a parameter of its form, are left out.
func prepareAll(t *testing.T, dsn string, texts []string, others *regexp.Regexp) {
	s, err := Open(t.Context(), dsn, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, text := range texts {
		if len(text) > 1500 && others.MatchString(text) || s.dialect.numbered && strings.Contains(text, "?") || !s.dialect.numbered && strings.Contains(text, "[]") {
			continue
		}
		st, err := s.write.PrepareContext(t.Context(), text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
}

var verb = regexp.MustCompile(`^(SELECT|INSERT|UPDATE|DELETE|WITH) [^%]*$`)

func statements(t *testing.T) (out []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	var parsed []*ast.File
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	for range 2 { // constants may be made of constants
		for _, f := range parsed {
			ast.Inspect(f, func(n ast.Node) bool {
				if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == 1 && len(v.Values) == 1 {
					if text, ok := textOf(v.Values[0], constants); ok {
						constants[v.Names[0].Name] = text
					}
				}
				return true
			})
		}
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool {
			if kv, ok := n.(*ast.KeyValueExpr); ok { // a list's parts are no statements
				if k, ok := kv.Key.(*ast.Ident); ok && (k.Name == "head" || k.Name == "row" || k.Name == "tail" || k.Name == "of") {
					return false
				}
			}
			if v, ok := n.(*ast.ValueSpec); ok && len(v.Names) == 1 && strings.HasSuffix(strings.ToLower(v.Names[0].Name), "columns") {
				return false // completed where it is used
			}
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := textOf(e, constants)
			if !ok || !verb.MatchString(text) {
				return true
			}
			out = append(out, text)
			return false
		})
	}
	return out
}

// textOf evaluates literals, constants and their sums; what the dialect adds is
// left out.
func textOf(e ast.Expr, constants map[string]string) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.Ident:
		text, ok := constants[e.Name]
		return text, ok
	case *ast.SelectorExpr:
		return "", e.Sel.Name == "lock" || e.Sel.Name == "skip"
	case *ast.BinaryExpr:
		x, ok1 := textOf(e.X, constants)
		y, ok2 := textOf(e.Y, constants)
		return x + y, ok1 && ok2 && e.Op == token.ADD
	}
	return "", false
}
