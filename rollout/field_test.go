package rollout

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestEveryFieldIsDocumented and nothing else is.
func TestEveryFieldIsDocumented(t *testing.T) {
	var want []string
	var walk func(of reflect.Type, path string)
	walk = func(of reflect.Type, path string) {
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			want = append(want, path+name)
			switch kind := f.Type; {
			case kind.Kind() == reflect.Pointer:
				walk(kind.Elem(), path+name+".")
			case kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Struct:
				walk(kind.Elem(), path+name+"[].")
			}
		}
	}
	walk(reflect.TypeFor[Policy](), "")
	var got []string
	for _, f := range Fields() {
		got = append(got, f.Path)
		if f.Text == "" {
			t.Errorf("%s has no text", f.Path)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("documented %q,\nwant %q", got, want)
	}
}

func TestAPolicyThatCannotBeReadNamesTheField(t *testing.T) {
	for doc, field := range map[string]string{
		`{"grace":"1 minute"}`: "grace",
		`{"poll":60}`:          "poll",
		`{"ages":["30s","x"]}`: "ages",
		`{"budget":{"horizons":[{"age":"ten","harm":1,"share":0.1}]}}`: "budget.horizons[].age",
		`{"budget":{"alpha":"small"}}`:                                 "alpha",
		`{"budget":{"horizon":[]}}`:                                    "horizon",
		`{"budget":{}}`:                                                "budget.horizons",
		`{"declared":{"harmed":{"kill-all":-1}}}`:                      "declared.harmed",
		`{"growht":2}`:                                                 "growht",
	} {
		if _, err := ParsePolicy([]byte(doc)); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v; want %q in it", doc, err, field)
		}
	}
}
