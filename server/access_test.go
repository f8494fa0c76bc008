package server

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	headgatev1 "github.com/headgate/headgate/api/headgate/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// procedures lists every procedure of the API, from the schema itself.
func procedures(t *testing.T) (all []string) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("headgate.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				all = append(all, "/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name()))
			}
		}
		return true
	})
	if len(all) == 0 {
		t.Fatal("the schema has no procedures")
	}
	return all
}

func TestEveryProcedureIsInTheAccessTable(t *testing.T) {
	all := procedures(t)
	if len(all) != len(access) {
		t.Errorf("the schema has %d procedures, the access table %d", len(all), len(access))
	}
	for _, p := range all {
		if access[p] == 0 {
			t.Errorf("%s: nobody may call it", p)
		}
	}
}

// Each procedure is called as each role with a body that no handler accepts: who
// may not call it must be stopped before the body is read.
func TestEveryRoleOpensItsProceduresAndNoOthers(t *testing.T) {
	w := newWorld(t)
	device := w.enrol(1)[0]
	roles := map[string]struct {
		token string
		is    who
	}{
		"operator": {w.token, operator},
		"vendor":   {w.as("acme-bot", headgatev1.Scope_SCOPE_VENDOR, "acme").token, vendor},
		"tenant":   {w.as("t1-bot", headgatev1.Scope_SCOPE_TENANT, "t1").token, tenant},
		"endpoint": {device.token, 0},
		"enrol":    {w.enrolToken, 0},
		"nobody":   {"", 0},
		"stranger": {prefixAccess + strings.Repeat("A", 43), 0},
		"garbage":  {"hgo_x", 0},
	}
	for _, p := range procedures(t) {
		for name, role := range roles {
			allowed := access[p] == anyone || access[p]&role.is != 0 || access[p]&endpoint != 0 && name == "endpoint"
			got := callAs(t, w.base, p, role.token)
			refused := got == connect.CodeUnauthenticated || got == connect.CodePermissionDenied
			if allowed == refused {
				t.Errorf("%s as %s: %s; allowed is %v", p, name, got, allowed)
			}
			if !allowed && (name == "nobody" || name == "stranger" && access[p] != endpoint) && got != connect.CodeUnauthenticated {
				t.Errorf("%s as %s: %s; want unauthenticated", p, name, got)
			}
		}
	}
}

func callAs(t *testing.T, base, procedure, token string) connect.Code {
	t.Helper()
	c := connect.NewClient[headgatev1.GrantRequest, headgatev1.GrantResponse](newClients(base, token).web, base+procedure, connect.WithCodec(rawCodec{}))
	if strings.HasSuffix(procedure, "/WatchRollout") {
		stream, err := c.CallServerStream(t.Context(), connect.NewRequest(&headgatev1.GrantRequest{}))
		if err != nil {
			return connect.CodeOf(err)
		}
		defer stream.Close()
		for stream.Receive() {
		}
		return connect.CodeOf(stream.Err())
	}
	_, err := c.CallUnary(t.Context(), connect.NewRequest(&headgatev1.GrantRequest{}))
	if err == nil {
		t.Fatalf("%s took a body that is no message", procedure)
	}
	return connect.CodeOf(err)
}

// rawCodec sends a body that no message decodes from.
type rawCodec struct{}

func (rawCodec) Name() string                { return "json" }
func (rawCodec) Marshal(any) ([]byte, error) { return []byte(`{"no_such_field": 1}`), nil }
func (rawCodec) Unmarshal([]byte, any) error { return nil }

func TestVendorsAndTenantsSeeOnlyWhatIsTheirs(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	d := w.enrol(1)[0]
	_, err := w.account.AddTenant(ctx, connect.NewRequest(&headgatev1.AddTenantRequest{Name: "t2"}))
	check(t, err)
	other := w.as("t2-bot", headgatev1.Scope_SCOPE_TENANT, "t2")
	list, err := other.fleet.ListEndpoints(ctx, connect.NewRequest(&headgatev1.ListEndpointsRequest{}))
	check(t, err)
	if len(list.Msg.Endpoints) != 0 {
		t.Errorf("tenant t2 sees %d endpoints of t1", len(list.Msg.Endpoints))
	}
	_, err = other.fleet.ListEndpoints(ctx, connect.NewRequest(&headgatev1.ListEndpointsRequest{Tenant: "t1"}))
	wantCode(t, err, connect.CodePermissionDenied, "t2", "t1")
	_, err = other.fleet.GetEndpoint(ctx, connect.NewRequest(&headgatev1.GetEndpointRequest{Id: d.id}))
	wantCode(t, err, connect.CodeNotFound, d.id)
	_, err = other.account.SetTenant(ctx, connect.NewRequest(&headgatev1.SetTenantRequest{Name: "t1", Paused: true}))
	wantCode(t, err, connect.CodePermissionDenied)
	_, err = other.account.NewEnrolmentToken(ctx, connect.NewRequest(&headgatev1.NewEnrolmentTokenRequest{Tenant: "t1"}))
	wantCode(t, err, connect.CodePermissionDenied)
	tenants, err := other.account.ListTenants(ctx, connect.NewRequest(&headgatev1.ListTenantsRequest{}))
	check(t, err)
	if len(tenants.Msg.Tenants) != 1 || tenants.Msg.Tenants[0].Name != "t2" {
		t.Errorf("tenant t2 sees tenants %v", tenants.Msg.Tenants)
	}
	vendor := w.as("acme-bot", headgatev1.Scope_SCOPE_VENDOR, "acme")
	_, err = vendor.catalog.PublishRelease(ctx, connect.NewRequest(&headgatev1.PublishReleaseRequest{Product: "zeta/rules", Version: "1.0.0", Metadata: []byte("{}")}))
	wantCode(t, err, connect.CodePermissionDenied, "acme", "zeta")
	if status, body := other.put(strings.Repeat("a", 64), bytes.NewReader(nil)); status != http.StatusForbidden {
		t.Errorf("a tenant uploads artifacts: %d %s", status, body)
	}
}

func TestRevokedTokenOpensNothingAtOnce(t *testing.T) {
	w := newWorld(t)
	bob := w.as("bob", headgatev1.Scope_SCOPE_OPERATOR, "")
	list := func(ctx context.Context) error {
		_, err := bob.account.ListTokens(ctx, connect.NewRequest(&headgatev1.ListTokensRequest{}))
		return err
	}
	check(t, list(t.Context()))
	_, err := w.account.RevokeToken(t.Context(), connect.NewRequest(&headgatev1.RevokeTokenRequest{Name: "bob"}))
	check(t, err)
	wantCode(t, list(t.Context()), connect.CodeUnauthenticated, "revoked")
}
