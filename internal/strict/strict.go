// Package strict reads JSON that people write: one value, no key that is not known,
// and errors that name the place, in JSON's own words.
package strict

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Decode reads the one value in b into v. An error names line, column and path.
func Decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		// The syntax of all of it first: a decoder's offsets are coarser.
		if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
			return Error(b, err)
		}
		if found := (finder{b}).value(b, 0, reflect.TypeOf(v), ""); found != nil {
			return found
		}
		return Error(b, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: data after the JSON value", Line(b, d.InputOffset()))
	}
	return nil
}

// Error says where in b an error of encoding/json is.
func Error(b []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax): // its offset is behind what is wrong
		return fmt.Errorf("%s: %w", Line(b, syntax.Offset-1), err)
	case errors.As(err, &kind):
		field := kind.Field
		if field == "" {
			field = "the whole"
		}
		return fmt.Errorf("%s: %s: %s", Line(b, kind.Offset), field, mismatch(kind))
	}
	return err
}

// Line is an offset as a person finds it in an editor.
func Line(b []byte, at int64) string {
	before := string(b[:min(max(at, 0), int64(len(b)))])
	line := strings.Count(before, "\n") + 1
	return fmt.Sprintf("line %d, column %d", line, len(before)-strings.LastIndexByte(before, '\n'))
}

func mismatch(err *json.UnmarshalTypeError) string {
	return article(err.Value) + ", want " + article(kindOf(err.Type))
}

// kindOf is what JSON calls a value that fits t.
func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindOf(t.Elem())
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return "string"
		}
		return "array"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return "whole number"
}

func article(noun string) string {
	if strings.HasPrefix(noun, "array") || strings.HasPrefix(noun, "object") {
		return "an " + noun
	}
	return "a " + noun
}

// finder looks for the first thing in b that does not fit.
type finder struct{ b []byte }

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textual     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// value looks through raw, which begins at an offset and is syntactically right.
func (f finder) value(raw []byte, at int64, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer && !t.Implements(unmarshaler) {
		t = t.Elem()
	}
	lead := int64(len(raw) - len(bytes.TrimLeft(raw, " \t\r\n")))
	raw, at = raw[lead:], at+lead
	custom := reflect.PointerTo(t).Implements(unmarshaler) || reflect.PointerTo(t).Implements(textual)
	switch {
	case !custom && raw[0] == '{' && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		return f.members(raw, at, t, path)
	case !custom && raw[0] == '[' && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		return f.elements(raw, at, t.Elem(), path)
	}
	err := json.Unmarshal(raw, reflect.New(t).Interface())
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && !custom:
		return f.say(at, path, mismatch(kind))
	}
	return f.say(at, path, err.Error())
}

func (f finder) say(at int64, path, what string) error {
	if path == "" {
		path = "the whole"
	}
	return fmt.Errorf("%s: %s: %s", Line(f.b, at), path, what)
}

func (f finder) members(raw []byte, at int64, t reflect.Type, path string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token() // the brace
	for err == nil && d.More() {
		var key json.Token
		if key, err = d.Token(); err != nil {
			break
		}
		name, _ := key.(string)
		here, of := strings.TrimPrefix(path+"."+name, "."), memberOf(t, name)
		if of == nil {
			return f.say(at+d.InputOffset()-int64(len(name))-2, here, "unknown key")
		}
		var member json.RawMessage
		if err = d.Decode(&member); err != nil {
			break
		}
		if err := f.value(member, at+d.InputOffset()-int64(len(member)), of, here); err != nil {
			return err
		}
	}
	return err
}

func (f finder) elements(raw []byte, at int64, of reflect.Type, path string) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	_, err := d.Token() // the bracket
	for i := 0; err == nil && d.More(); i++ {
		var element json.RawMessage
		if err = d.Decode(&element); err != nil {
			break
		}
		if err := f.value(element, at+d.InputOffset()-int64(len(element)), of, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return err
}

// memberOf is the type of an object's member; nil if it has none of that name.
func memberOf(t reflect.Type, name string) reflect.Type {
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	return fieldOf(t, name)
}

// fieldOf finds the type of a struct's field by its JSON name, as encoding/json
// does; nil if there is none.
func fieldOf(t reflect.Type, name string) reflect.Type {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				if found := fieldOf(inner, name); found != nil {
					return found
				}
				continue
			}
		}
		if tag == "" {
			tag = f.Name
		}
		if f.IsExported() && f.Tag.Get("json") != "-" && strings.EqualFold(tag, name) {
			return f.Type
		}
	}
	return nil
}
